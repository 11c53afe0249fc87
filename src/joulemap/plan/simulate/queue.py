"""The event simulation: one queue of requests before replicas that batch continuously.

A replica that runs b requests serves each at ``rate[b]``; all progress together, so that one number a replica, the
work done for each request since the start ("virtual time"), says when each finishes. Between events everything is
in closed form: an arrival and a departure a request are the only events, whatever its length.

Reference: Kleinrock 1976, Queueing Systems II, chapter 4 (processor sharing); Cohen 1979, The multiple phase
service network with generalized processor sharing (state-dependent rates).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from joulemap.plan.problem import Floats, Index
from joulemap.plan.simulate.replica import Replica

ARRIVE, SWITCH = 0, 1
PROGRESS_EVERY = 20_000
"""Requests, about half a second's work."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueueRun:
    """What happened to each request, and what each replica drew."""

    arrival_s: Floats
    start_s: Floats
    """When a replica took the request; not a number if none did. Shape (requests,)."""
    finish_s: Floats
    replica: Index
    """The replica that served each request; -1 if none did."""
    batch_at_start: Index
    """Requests that ran together once this one had started."""
    occupancy_s: tuple[Floats, ...]
    """For each replica, the time that it spent at each batch while switched on."""
    power_change_s: Floats
    """Times at which facility power changed."""
    power_change_w: Floats
    power_change_site: Index
    longest_queue_requests: int


class _Fleet:
    """The state of all replicas; lists rather than arrays, since events touch one number at a time."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        count = len(replicas)
        self.rates = [r.curve.rate_per_s.tolist() for r in replicas]
        self.ceilings = [r.curve.ceiling for r in replicas]
        self.powers = [r.facility_power_w.tolist() for r in replicas]
        self.sites = [r.site for r in replicas]
        self.on = [False] * count
        self.running = [0] * count
        self.progress = [0.0] * count
        self.since_s = [0.0] * count
        self.finishing: list[list[tuple[float, int]]] = [[] for _ in replicas]
        self.version = [0] * count
        self.occupancy = [[0.0] * (c + 1) for c in self.ceilings]
        self.departures: list[tuple[float, int, int]] = []
        self.freest: list[tuple[float, int, int]] = []
        self.power_times: list[float] = []
        self.power_steps: list[float] = []
        self.power_sites: list[int] = []

    def advance(self, r: int, now: float) -> None:
        """Bring a replica's progress up to now."""
        elapsed = now - self.since_s[r]
        running = self.running[r]
        if elapsed > 0.0:
            if self.on[r] or running:
                self.occupancy[r][running] += elapsed
            self.progress[r] += elapsed * self.rates[r][running]
        self.since_s[r] = now

    def changed(self, r: int, now: float, before_w: float) -> None:
        """Note a replica's new power, and schedule its next departure."""
        running = self.running[r]
        watts = self.powers[r][running] if self.on[r] or running else 0.0
        if watts != before_w:
            self.power_times.append(now)
            self.power_steps.append(watts - before_w)
            self.power_sites.append(self.sites[r])
        self.version[r] = version = self.version[r] + 1
        if running:
            left = self.finishing[r][0][0] - self.progress[r]
            rate = self.rates[r][running]
            heapq.heappush(self.departures, (now + (left / rate if left > 0.0 else 0.0), r, version))
        if self.on[r] and running < self.ceilings[r]:
            heapq.heappush(self.freest, (running / self.ceilings[r], r, running))

    def watts(self, r: int) -> float:
        """Return what a replica draws now."""
        running = self.running[r]
        return float(self.powers[r][running]) if self.on[r] or running else 0.0

    def least_filled(self) -> int:
        """Return the replica with the smallest share of its ceiling in use; -1 if all are full or off."""
        freest = self.freest
        while freest:
            _, r, running = freest[0]
            if self.on[r] and self.running[r] == running:
                return r
            heapq.heappop(freest)
        return -1


def simulate_queue(
    arrival_s: Floats,
    work: Floats,
    replicas: Sequence[Replica],
    *,
    progress: Callable[[int], None] | None = None,
) -> QueueRun:
    """Send requests through one queue to replicas, first come first served, each to the least filled replica.

    Args:
        arrival_s: Times of arrival, rising; shape (requests,).
        work: Length of each request over the mean length; shape (requests,).
        replicas: The fleet.
        progress: Called now and then with the number of requests that have arrived.

    Returns:
        What happened, until the last request is done; requests that no replica ever took have no start.
    """
    fleet = _Fleet(replicas)
    count = arrival_s.size
    start, finish = [float("nan")] * count, [float("nan")] * count
    served_by, batch_at = [-1] * count, [0] * count
    sizes = work.tolist()
    waiting: deque[int] = deque()
    longest = 0

    def admit(r: int, request: int, now: float) -> None:
        fleet.running[r] += 1
        heapq.heappush(fleet.finishing[r], (fleet.progress[r] + sizes[request], request))
        start[request] = now
        served_by[request] = r
        batch_at[request] = fleet.running[r]

    for now, kind, which, turns_on in _merged(arrival_s, replicas, fleet, finish, waiting, admit):
        if kind == SWITCH:
            before = fleet.watts(which)
            fleet.advance(which, now)
            fleet.on[which] = turns_on
            while turns_on and waiting and fleet.running[which] < fleet.ceilings[which]:
                admit(which, waiting.popleft(), now)
            fleet.changed(which, now, before)
            continue
        if progress is not None and not which % PROGRESS_EVERY:
            progress(which)
        r = -1 if waiting else fleet.least_filled()
        if r < 0:
            waiting.append(which)
            longest = max(longest, len(waiting))
            continue
        before = fleet.watts(r)
        fleet.advance(r, now)
        admit(r, which, now)
        fleet.changed(r, now, before)
    return QueueRun(
        arrival_s=arrival_s,
        start_s=np.array(start),
        finish_s=np.array(finish),
        replica=np.array(served_by, dtype=np.intp),
        batch_at_start=np.array(batch_at, dtype=np.intp),
        occupancy_s=tuple(np.array(times) for times in fleet.occupancy),
        power_change_s=np.array(fleet.power_times),
        power_change_w=np.array(fleet.power_steps),
        power_change_site=np.array(fleet.power_sites, dtype=np.intp),
        longest_queue_requests=longest,
    )


def _merged(
    arrival_s: Floats,
    replicas: Sequence[Replica],
    fleet: _Fleet,
    finish: list[float],
    waiting: deque[int],
    admit: Any,
) -> Any:
    """Yield switches and arrivals in order of time, and carry out the departures that come between."""
    switches = sorted(
        (at, not turns_on, r, turns_on)
        for r, replica in enumerate(replicas)
        for on, off in replica.on_s
        for at, turns_on in ((on, True), (off, False))
    )
    departures, running, finishing = fleet.departures, fleet.running, fleet.finishing
    arrivals = arrival_s.tolist()
    coming, total = 0, len(arrivals)
    switching, last_switch = 0, len(switches)
    forever = float("inf")
    while True:
        next_arrival = arrivals[coming] if coming < total else forever
        next_switch = switches[switching][0] if switching < last_switch else forever
        upcoming = min(next_arrival, next_switch)
        while departures and departures[0][0] <= upcoming:
            now, r, version = heapq.heappop(departures)
            if version != fleet.version[r]:
                continue
            before = fleet.watts(r)
            fleet.advance(r, now)
            goal, request = heapq.heappop(finishing[r])
            fleet.progress[r] = goal  # exactly: sums of small steps would drift
            finish[request] = now
            running[r] -= 1
            if waiting and fleet.on[r]:
                admit(r, waiting.popleft(), now)
            fleet.changed(r, now, before)
        if upcoming == forever:
            return
        if next_switch <= next_arrival:
            at, _, r, turns_on = switches[switching]
            switching += 1
            yield at, SWITCH, r, turns_on
        else:
            yield next_arrival, ARRIVE, coming, False
            coming += 1


def quantile(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> float:
    """Return the smallest value below or at which a share of the weight lies; not a number if there is none.

    >>> quantile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]), 0.5)
    2.0
    """
    known = np.isfinite(values) & (weights > 0)
    if not known.any():
        return float("nan")
    order = np.argsort(values[known], kind="stable")
    heights = np.cumsum(weights[known][order])
    position = int(np.searchsorted(heights, share * heights[-1] * (1.0 - 1e-12)))
    return float(values[known][order][min(position, order.size - 1)])
