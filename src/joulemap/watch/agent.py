"""The agent beside a server: it meters, scrapes, shares joules, diagnoses, and tells what it knows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from joulemap.clock import Clock, SystemClock
from joulemap.diagnose.series import Curves
from joulemap.errors import JoulemapError
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.interrupts import Stop
from joulemap.measure.telemetry.recorder import TelemetryRecorder
from joulemap.watch.bill import Bill, MeteredInterval
from joulemap.watch.counters import EngineCounters
from joulemap.watch.intervals import Interval, Recent, energy_of
from joulemap.watch.operating_point import Observed, to_run
from joulemap.watch.picture import Picture
from joulemap.watch.request_log import RequestLog
from joulemap.watch.rolling import RollingDiagnosis
from joulemap.watch.server import WatchedServer, asked_facts
from joulemap.watch.settings import WatchSettings
from joulemap.watch.snapshot import Snapshot
from joulemap.watch.weights import TokenWeights, assumed_weights, weights_of

MeterOpening = Callable[[], AbstractContextManager[tuple[Instruments, tuple[str, ...]]]]
"""Opens and starts the meters."""

TICK_S = 1.0
STALLED_S = 10.0
"""Time after which an interval that the meter has not reached counts as unmetered."""
REOPEN_S = 10.0
"""Time between two attempts to open meters that have stopped."""
FEWEST_INTERVALS = 3
"""Intervals without which a diagnosis would be one of a moment."""
IDLE_MEMORY = 0.8
"""Weight of the idle power seen before in the idle power now."""


class Agent:
    """Watches one server until it is closed. ``tick`` does what is due; ``run`` calls it once a second.

    The meters are read in threads of their own, so that a server that hangs delays no reading of them.

    Args:
        server: What is watched.
        open_meters: Opens the meters, and opens them again after they have stopped.
        request_log: Where finished requests are told.
        settings: Pace and limits.
        clock: Time.
        curves: Measured neighbours for the diagnosis.
        ask: Asks the server of its model, in a thread; by default over its API.

    Raises:
        JoulemapError: The meters cannot be opened.
    """

    def __init__(
        self,
        server: WatchedServer,
        open_meters: MeterOpening,
        *,
        request_log: RequestLog | None = None,
        settings: WatchSettings | None = None,
        clock: Clock | None = None,
        curves: Curves | None = None,
        ask: Callable[[WatchedServer], dict[str, Any]] | None = None,
        recorder: TelemetryRecorder | None = None,
    ) -> None:
        self.server = server
        self.settings = settings or WatchSettings()
        self._clock = clock or SystemClock()
        self._open_meters = open_meters
        self.request_log = request_log
        self._ask = ask or asked_facts
        self.recorder = recorder or TelemetryRecorder(
            server.telemetry(clock), clock=clock, keep_s=self.settings.keep_s
        )
        self.bill = Bill(self.settings, logged=request_log is not None)
        self.counters = EngineCounters()
        self.recent = Recent(self.settings.rolling_s)
        self.rolling = RollingDiagnosis(self.settings, curves)
        self.facts: dict[str, Any] = {}
        self._asked = False
        self.weights: TokenWeights = assumed_weights()
        self._edges: deque[float] = deque()
        self._begin_s: float | None = None
        self._scrape_due_s = float("-inf")
        self._reopen_due_s = float("inf")
        self.idle_power_w: float | None = None
        self.meter_error: str | None = None
        self.meter_failures = 0
        self.failed_scrapes = 0
        self.unmetered_s = 0.0
        self.device_energy_j: dict[str, float] = {}
        self._meters = ExitStack()
        self.instruments, self.meter_lines = self._meters.enter_context(open_meters())
        self.meter_is_open = True
        self._picture = Picture(self)
        self._snapshot: Snapshot | None = None
        self._closed = False

    @property
    def snapshot(self) -> Snapshot:
        """What was known after the newest tick; any thread may ask."""
        return self._snapshot or self._picture.at(self._clock.now(), self._clock.monotonic_s())

    def run(self, stop: threading.Event | Stop, on_snapshot: Callable[[Snapshot], None] | None = None) -> bool:
        """Tick once a second until ``stop`` is set; return whether there was time for a tick at all."""
        ticked = False
        while not stop.is_set():
            self.tick()
            ticked = True
            if on_snapshot is not None:
                on_snapshot(self.snapshot)
            stop.wait(TICK_S)
        return ticked

    def close(self) -> None:
        """Share what is pending, stop and close the meters; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._read_log()
        self.bill.settle(self._clock.monotonic_s(), everything=True)
        self._snapshot = self._picture.at(self._clock.now(), self._clock.monotonic_s())
        self._meters.close()
        if self.request_log is not None:
            self.request_log.close()

    def tick(self) -> None:
        """Do what is due."""
        self._tend_meters()
        if self._clock.monotonic_s() >= self._scrape_due_s:
            self._scrape()
        self._read_log()
        closed = self._close_intervals()
        now_s = self._clock.monotonic_s()
        self.bill.settle(now_s)
        self.recent.forget(now_s)
        if closed:
            self._diagnose(now_s)
        self._snapshot = self._picture.at(self._clock.now(), now_s)

    def _tend_meters(self) -> None:
        now_s = self._clock.monotonic_s()
        if self.meter_is_open:
            error = self.instruments.meter_error()
            if error is not None:
                self.meter_failures += 1
                self.meter_error, self.meter_is_open = error.message, False
                self._reopen_due_s = now_s + REOPEN_S
                self._meters.close()
        elif now_s >= self._reopen_due_s:
            self._reopen_due_s = now_s + REOPEN_S
            try:
                self.instruments, self.meter_lines = self._meters.enter_context(self._open_meters())
            except JoulemapError as error:
                self.meter_error = error.message
            else:
                self.meter_error, self.meter_is_open = None, True

    def _scrape(self) -> None:
        """Scrape once; the moment of the scrape is the edge between two intervals, whether it succeeds or not."""
        # A scrape that is late is not made up for: the interval is longer.
        self._scrape_due_s = self._clock.monotonic_s() + self.settings.interval_s
        self.recorder.read_once()
        scrape = self.recorder.latest_scrape()
        if scrape is None:
            self.failed_scrapes += 1
            return
        time_s, sample = scrape
        self._edges.append(time_s)
        if not sample.engine:
            self.failed_scrapes += 1
            return
        if self.counters.add(sample):
            self._asked = False
            self.recent.clear()
            self.rolling.drop("the engine was restarted")
        if not self._asked:
            self._asked = True
            threading.Thread(target=self._ask_facts, name="joulemap-facts", daemon=True).start()

    def _ask_facts(self) -> None:
        self.facts = self._ask(self.server)

    def _read_log(self) -> None:
        if self.request_log is not None:
            offset_s = self._clock.now().timestamp() - self._clock.monotonic_s()
            self.bill.add_requests(self.request_log.poll(), offset_s)

    def _close_intervals(self) -> bool:
        """Close the intervals that the meter has read beyond, or will not; return whether there was any."""
        closed = False
        reached_s = self.instruments.read_until_s() if self.meter_is_open else float("-inf")
        while self._edges:
            edge_s = self._edges[0]
            given_up = not self.meter_is_open or self._clock.monotonic_s() - edge_s > STALLED_S
            if edge_s > reached_s and not given_up:
                break
            self._edges.popleft()
            if self._begin_s is not None and edge_s > self._begin_s:
                self._close_one(self._begin_s, edge_s)
                closed = True
            self._begin_s = edge_s
        return closed

    def _close_one(self, begin_s: float, end_s: float) -> None:
        energy_j, missing, device_j = self._energy(begin_s, end_s)
        interval = Interval(
            begin_s=begin_s,
            end_s=end_s,
            energy_j=energy_j,
            missing=missing,
            device_j=device_j,
            window=self.recorder.between(begin_s, end_s),
        )
        for device, joules in device_j.items():
            self.device_energy_j[device] = self.device_energy_j.get(device, 0.0) + joules
        if energy_j is None:
            self.unmetered_s += interval.duration_s
        elif interval.idle_fraction == 1.0:
            power_w = energy_j / interval.duration_s
            before_w = power_w if self.idle_power_w is None else self.idle_power_w
            self.idle_power_w = IDLE_MEMORY * before_w + (1.0 - IDLE_MEMORY) * power_w
        self.recent.add(interval)
        self.bill.add_interval(
            MeteredInterval(
                begin_s=begin_s,
                end_s=end_s,
                energy_j=energy_j,
                idle_fraction=interval.idle_fraction,
                idle_power_w=self.idle_power_w,
                prefill_tokens=interval.prefill_tokens,
                output_tokens=interval.window.generation_tokens,
                weights=self.weights,
            )
        )

    def _energy(self, begin_s: float, end_s: float) -> tuple[float | None, str, dict[str, float]]:
        if not self.meter_is_open:
            return None, f"the meter has stopped: {self.meter_error}", {}
        try:
            return energy_of(self.instruments, begin_s, end_s)
        except JoulemapError as error:
            return None, error.message, {}

    def _diagnose(self, now_s: float) -> None:
        counted = self.recent.counted
        energy, _ = self.recent.energy_per_output_j(self.instruments.basis, None)
        throughput = self.recent.output_throughput_per_s()
        power = self.recent.power_w(self.instruments.basis)
        if energy is None or power is None or not throughput or len(counted) < FEWEST_INTERVALS:
            if self.rolling.diagnosis is not None and not counted:
                self.rolling.drop("nothing was measured of late")
            return
        begin_s, end_s = counted[0].begin_s, counted[-1].end_s
        window = self.recorder.between(begin_s, end_s)
        activity, _ = self.instruments.activity(begin_s, end_s) if self.meter_is_open else ({}, {})
        observed = Observed(
            energy_per_output=energy,
            power_w=power.value,
            output_throughput_per_s=throughput,
            window=window,
            activity=activity,
            idle_power_w=self.idle_power_w,
            mean_input_tokens=self.server.mean_input_tokens,
            mean_output_tokens=self.server.mean_output_tokens,
        )
        deployment = self._picture.deployment()
        if not self.rolling.due(now_s, observed.signature, deployment):
            return
        run = to_run(observed, deployment, self._clock.now())
        self.rolling.make(run, observed.signature, now_s)
        diagnosis = self.rolling.diagnosis
        prefill = sum(i.prefill_tokens or 0.0 for i in counted)
        outputs = sum(i.window.generation_tokens or 0.0 for i in counted)
        self.weights = assumed_weights() if diagnosis is None else weights_of(diagnosis, prefill / outputs)
