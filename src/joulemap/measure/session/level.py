"""One level of a session: work is started, its transient waited out, windows are cut until they suffice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from joulemap.clock import Clock
from joulemap.errors import InfeasibleError, JoulemapError, MeasurementError, MeterError
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.steady import (
    FULL_SHARE,
    batch_full_at,
    bin_edges,
    bin_mean,
    bin_rate,
    transient_end,
    trend,
)
from joulemap.measure.session.windows import Estimate, Window, estimate
from joulemap.measure.session.work import Progress, Work

POLL_S = 0.1
FIRST_OUTPUT_S = 660.0
"""Time after which a server that has given nothing at all counts as hung; the client gives up before."""
SETTLING_BINS = 20
"""Bins without which the end of a transient cannot be told."""
SETTLED_FULL = 0.5
"""Share of the concurrency that must have turned over before the batch counts as mixed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long to measure."""

    window_s: float = 5.0
    """Shortest window; an NVIDIA energy counter needs 5 s."""
    min_windows: int = 3
    max_windows: int = 12
    confidence_width_fraction: float = 0.02
    """Half-width of the 90 % interval, as a share of the value, at which a level is done."""
    max_duration_s: float = 300.0
    """A level ends after this time, warm-up included, however wide its interval."""
    min_warm_up_s: float = 3.0
    max_warm_up_s: float = 60.0
    """Windows begin after this time even if the transient does not seem over; the verdict tells."""

    @property
    def bin_s(self) -> float:
        """Width of the bins on which steadiness is judged."""
        return min(1.0, max(0.1, self.window_s / 10.0))

    @property
    def settling_bin_s(self) -> float:
        """Width of the bins on which the transient's end is sought; finer, so that a window's time is enough."""
        return max(0.1, 0.5 * self.bin_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelState:
    """What a live view may show of a level."""

    phase: str
    """``"warm-up"`` or ``"window 3"``."""
    elapsed_s: float
    in_flight: float
    output_throughput_per_s: float
    power_w: float | None
    estimate: Estimate | None


@dataclass(slots=True, kw_only=True)
class LevelOutcome:
    """What became of a level; complete windows are kept whatever happened."""

    started_s: float
    windows: list[Window] = field(default_factory=list)
    settled: bool = False
    """Whether the transient was seen to end before the first window."""
    full: bool = False
    """Whether the batch became full."""
    error: JoulemapError | None = None
    """Why the level ended early."""
    interrupted: bool = False
    """Ctrl-C."""

    @property
    def begin_s(self) -> float:
        """Begin of the first window."""
        return self.windows[0].begin_s

    @property
    def end_s(self) -> float:
        """End of the last window."""
        return self.windows[-1].end_s


class LevelRun:
    """Runs one level.

    Args:
        work: What is to be done.
        instruments: What watches; started by the caller.
        pace: How long to measure.
        clock: Time.
        on_window: Called with number and window as soon as one is complete.
        on_state: Called a few times a second, for a live view.
    """

    def __init__(
        self,
        work: Work,
        instruments: Instruments,
        pace: Pace,
        clock: Clock,
        *,
        on_window: Callable[[int, Window], None],
        on_state: Callable[[LevelState], None],
    ) -> None:
        self._work = work
        self._instruments = instruments
        self._pace = pace
        self._clock = clock
        self._on_window = on_window
        self._on_state = on_state
        self._rate_seen = (0.0, 0.0, 0.0)
        self.outcome = LevelOutcome(started_s=clock.monotonic_s())

    def run(self) -> LevelOutcome:
        """Run the level to its end and stop its work."""
        try:
            self._work.start()
            begin_s = self._warm_up()
            self._measure(begin_s)
        except KeyboardInterrupt:
            self.outcome.interrupted = True
        except (MeasurementError, InfeasibleError) as error:
            self.outcome.error = error
        finally:
            self._work.stop()
        windows = self.outcome.windows
        windows[:] = [replace(w, outputs=self._work.outputs_between(w.begin_s, w.end_s)) for w in windows]
        return self.outcome

    def _warm_up(self) -> float:
        """Wait until the batch is full and the transient over; return where windows may begin."""
        started_s, pace = self.outcome.started_s, self._pace
        while True:
            progress = self._tick("warm-up")
            now_s = self._clock.monotonic_s()
            begin_s = self._settled_at(progress)
            if begin_s is not None:
                self.outcome.settled = True
                return max(begin_s, started_s + pace.min_warm_up_s)
            if now_s - started_s > min(pace.max_warm_up_s, 0.5 * pace.max_duration_s) and self._flowing(progress):
                return now_s
            if now_s - started_s > max(FIRST_OUTPUT_S, pace.max_warm_up_s):
                msg = f"nothing came out within {now_s - started_s:.0f} s"
                raise MeasurementError(msg)

    @staticmethod
    def _flowing(progress: Progress) -> bool:
        return len(progress.outputs) > 0 and progress.outputs[-1] > 0

    def _settled_at(self, progress: Progress) -> float | None:
        """Return where the steady state begins, ``None`` while it does not show yet."""
        boundaries = self._work.boundaries_s()
        if boundaries is not None:
            self.outcome.full = True
            # The first unit of work pays for what is done once; from the second on, units are alike.
            return float(boundaries[0]) if len(boundaries) > 1 else None
        full_s = self._full_at(progress)
        if full_s is None or not self._flowing(progress):
            return None
        self.outcome.full = True
        earliest_s = max(full_s, self._turned_over_at(progress))
        last_s = float(progress.time_s[-1])
        width_s = self._pace.settling_bin_s
        count = int((last_s - earliest_s) / width_s) if np.isfinite(earliest_s) else 0
        if count < SETTLING_BINS or last_s - self.outcome.started_s < self._pace.min_warm_up_s:
            return None
        edges = bin_edges(earliest_s, width_s, count)
        series = [bin_rate(progress.time_s, progress.outputs, edges)]
        power_t, power = self._instruments.power_series(earliest_s - 1.0, last_s)
        if len(power_t) > 1:
            series.append(bin_mean(power_t, power, edges))
        cuts = [transient_end(values) for values in series]
        known = [c for c in cuts if c is not None]
        if len(known) < len(cuts) or any(trend(values[max(known) :]).drifting for values in series):
            return None
        return float(edges[max(known)])

    def _full_at(self, progress: Progress) -> float | None:
        target = self._work.target_in_flight
        if len(progress.time_s) == 0:
            return None
        if target is None:
            # An open loop has no full batch; it is on when the first request has been answered.
            done = np.flatnonzero(progress.completed > 0)
            return float(progress.time_s[done[0]]) if done.size else None
        return batch_full_at(progress.time_s, progress.in_flight, target)

    def _turned_over_at(self, progress: Progress) -> float:
        """Return when so many requests had completed that those in flight are at different stages."""
        target = self._work.target_in_flight
        if target is None or not self._work.mixes:
            return float(progress.time_s[0])
        over = np.flatnonzero(progress.completed >= SETTLED_FULL * target)
        return float(progress.time_s[over[0]]) if over.size else float("inf")

    def _measure(self, begin_s: float) -> None:
        windows, pace = self.outcome.windows, self._pace
        begin_s = self._aligned(begin_s)
        while not self._enough():
            end_s = self._window_end(begin_s)
            while end_s is None or self._instruments.read_until_s() < end_s:
                self._tick(f"window {len(windows) + 1}")
                now_s = self._clock.monotonic_s()
                late_s = now_s - self.outcome.started_s - pace.max_duration_s
                # A window that has begun may end, but a unit of work without end must not hold the session.
                if late_s > (10.0 * pace.window_s if len(windows) < pace.min_windows else pace.window_s):
                    return
                end_s = self._window_end(begin_s)
            self._add_window(begin_s, end_s)
            begin_s = end_s

    def _enough(self) -> bool:
        windows, pace = self.outcome.windows, self._pace
        if len(windows) < pace.min_windows:
            return False
        if len(windows) >= pace.max_windows:
            return True
        if self._clock.monotonic_s() - self.outcome.started_s >= pace.max_duration_s:
            return True
        so_far = estimate(windows)
        width = None if so_far is None else so_far.half_width_fraction
        return width is not None and width <= pace.confidence_width_fraction

    def _aligned(self, begin_s: float) -> float:
        """Return the first boundary of a unit of work at or after a time; the time itself where there are none."""
        while (boundaries := self._work.boundaries_s()) is not None:
            later = boundaries[boundaries >= begin_s]
            if later.size:
                return float(later[0])
            self._tick("warm-up")
        return begin_s

    def _window_end(self, begin_s: float) -> float | None:
        """Return where the window that began at ``begin_s`` ends, ``None`` while that is not known yet."""
        earliest_s = begin_s + self._pace.window_s
        boundaries = self._work.boundaries_s()
        if boundaries is not None:
            later = boundaries[boundaries >= earliest_s]
            return float(later[0]) if later.size else None
        # Only time that the work has reported on: its newest report may lag behind the clock.
        progress = self._work.progress()
        return earliest_s if len(progress.time_s) and progress.time_s[-1] >= earliest_s else None

    def _add_window(self, begin_s: float, end_s: float) -> None:
        energy = self._instruments.energy(begin_s, end_s)
        if isinstance(energy, str):
            msg = f"no energy for window {len(self.outcome.windows) + 1}: {energy}"
            raise MeterError(msg, fix="joulemap doctor")
        progress = self._work.progress()
        edges = np.array([begin_s, end_s])
        outputs, completed = (
            float(np.diff(np.interp(edges, progress.time_s, column))[0])
            for column in (progress.outputs, progress.completed)
        )
        wall_s = self._clock.now().timestamp() - self._clock.monotonic_s()
        window = Window(
            begin_s=begin_s,
            end_s=end_s,
            begin_unix_s=begin_s + wall_s,
            energy_j=energy.value,
            outputs=outputs,
            completed_requests=completed,
            in_flight=float(bin_mean(progress.time_s, progress.in_flight, edges)[0]),
        )
        self.outcome.windows.append(window)
        self._on_window(len(self.outcome.windows), window)

    def _tick(self, phase: str) -> Progress:
        """Let some time pass; tell the state, and notice what has died.

        Raises:
            MeasurementError: The work or the meter has ended.
        """
        self._clock.sleep(POLL_S)
        failure = self._work.failure()
        if failure is not None:
            raise failure
        error = self._instruments.meter_error()
        if error is not None:
            if isinstance(error, MeasurementError):
                raise error
            msg = f"the meter stopped: {error.message}"
            raise MeterError(msg, fix=error.fix)
        progress = self._work.progress()
        now_s = self._clock.monotonic_s()
        self._on_state(
            LevelState(
                phase=phase,
                elapsed_s=now_s - self.outcome.started_s,
                in_flight=float(progress.in_flight[-1]) if len(progress.in_flight) else 0.0,
                output_throughput_per_s=_recent_rate(progress),
                power_w=self._instruments.latest_power_w(),
                estimate=estimate(self.outcome.windows),
            )
        )
        return progress


def _recent_rate(progress: Progress) -> float:
    """Return the outputs per second over the last second or so."""
    if len(progress.time_s) < 2:
        return 0.0
    end_s = float(progress.time_s[-1])
    begin_s = max(float(progress.time_s[0]), end_s - 1.0)
    if end_s <= begin_s:
        return 0.0
    return float(bin_rate(progress.time_s, progress.outputs, np.array([begin_s, end_s]))[0])


def share_full(progress: Progress, target: float, begin_s: float, end_s: float) -> float:
    """Return the share of the samples in a window at which the batch was full."""
    inside = (progress.time_s >= begin_s) & (progress.time_s <= end_s)
    if not inside.any():
        return 0.0
    return float(np.mean(progress.in_flight[inside] >= FULL_SHARE * target - 1e-9))
