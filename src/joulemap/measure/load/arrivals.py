"""When requests are due. Every worker makes the same schedule and takes its own share of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

from joulemap.measure.load.plan import Arrivals, ClosedLoop, LoadPlan, OpenLoop, Replay

ARRIVALS_STREAM = 1
"""Tells the random numbers of the arrivals from those of the prompts, which start from the same seed."""


def request_numbers(plan: LoadPlan, worker: int, workers: int) -> Iterator[int]:
    """Yield the numbers of the requests that fall to one worker."""
    for number in count(worker, workers):
        if plan.max_requests is not None and number >= plan.max_requests:
            return
        yield number


def share_of(total: int, worker: int, workers: int) -> int:
    """Return a worker's share of ``total``; the shares differ by one at most.

    >>> [share_of(10, w, 4) for w in range(4)]
    [3, 3, 2, 2]
    """
    return total // workers + (worker < total % workers)


def due_times(plan: LoadPlan) -> Iterator[float]:
    """Yield when each request is due, in seconds after the load's start; an open loop or a replay only."""
    arrivals: Arrivals = plan.arrivals
    if isinstance(arrivals, Replay):
        first = arrivals.offsets_s[0]
        for offset_s in arrivals.offsets_s:
            yield (offset_s - first) / arrivals.speed
    elif isinstance(arrivals, OpenLoop):
        random = Random(f"{plan.seed} {ARRIVALS_STREAM}")
        at_s = 0.0
        shape = arrivals.variation**-2
        while True:
            at_s += random.gammavariate(shape, 1.0 / (shape * arrivals.rate_per_s))
            yield at_s
    elif isinstance(arrivals, ClosedLoop):
        msg = "a closed loop has no schedule"
        raise TypeError(msg)


def schedule(plan: LoadPlan, worker: int, workers: int) -> Iterator[tuple[int, float]]:
    """Yield number and due time of the requests that fall to one worker."""
    for number, at_s in enumerate(due_times(plan)):
        if plan.max_requests is not None and number >= plan.max_requests:
            return
        if number % workers == worker:
            yield number, at_s
