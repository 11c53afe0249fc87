"""A session whose time is moved by hand: scripted work, a fake GPU, one clock for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from joulemap.errors import MeasurementError
from joulemap.measure.meters.fake_nvml import FakeGpu, FakeNvml
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.level import LevelOutcome, LevelRun, LevelState, Pace
from joulemap.measure.session.verdict import Evidence, judge
from joulemap.measure.session.windows import Window, estimate
from joulemap.measure.session.work import Progress, Series, WorkDone
from joulemap.records import Run, Validity
from tests.measure.hand_clock import HandClock

Rate = Callable[[float], float]
STEP_S = 0.1


class DrivenClock(HandClock):
    """Moves in steps, and lets the meters be read at each."""

    def __init__(self) -> None:
        super().__init__()
        self.on_step: list[Callable[[], None]] = []

    def sleep(self, seconds_s: float) -> None:
        for _ in range(max(1, round(seconds_s / STEP_S))):
            self.mono_s += STEP_S
            for step in self.on_step:
                step()


@dataclass
class ScriptedWork:
    """Work that comes out at a rate that is a function of the time since its start."""

    clock: DrivenClock
    rate: Rate = lambda _t: 100.0
    filling: Rate = lambda _t: 8.0
    target_in_flight: float | None = 8.0
    mixes: bool = False
    dies_at_s: float = float("inf")
    interrupted_at_s: float = float("inf")
    unit_s: float | None = None
    faults: tuple[str, ...] = ()
    stopped: bool = False
    rows: list[tuple[float, float, float, float, float]] = field(default_factory=list)

    def start(self) -> None:
        self.begin_s = self.clock.monotonic_s()
        self.clock.on_step.append(self.step)
        self.rows.append((self.begin_s, 0.0, 0.0, 0.0, 0.0))

    def step(self) -> None:
        since_s = self.clock.monotonic_s() - self.begin_s
        outputs = self.rows[-1][2] + STEP_S * self.rate(since_s)
        self.rows.append((self.clock.monotonic_s(), self.filling(since_s), outputs, outputs / 10, 0.0))
        if since_s > self.interrupted_at_s:
            raise KeyboardInterrupt

    def progress(self) -> Progress:
        return Progress.of(self.rows)

    def boundaries_s(self) -> Series | None:
        if self.unit_s is None:
            return None
        count = int((self.rows[-1][0] - self.begin_s) / self.unit_s)
        return self.begin_s + self.unit_s * np.arange(1.0, count + 1)

    def failure(self) -> MeasurementError | None:
        dead = self.clock.monotonic_s() - self.begin_s > self.dies_at_s
        return MeasurementError("the engine died") if dead else None

    def stop(self) -> None:
        self.stopped = True
        if self.step in self.clock.on_step:
            self.clock.on_step.remove(self.step)

    def outputs_between(self, begin_s: float, end_s: float) -> float:
        progress = self.progress()
        return float(np.diff(np.interp([begin_s, end_s], progress.time_s, progress.outputs))[0])

    def done(self, begin_s: float, end_s: float) -> WorkDone:
        return WorkDone(outputs=self.outputs_between(begin_s, end_s), mean_output_tokens=10.0, faults=self.faults)

    def timeline(self) -> Mapping[str, object]:
        return {}


@dataclass
class Bench:
    """A GPU, its meter, and time."""

    power: Rate = lambda _t: 300.0
    clock: DrivenClock = field(default_factory=DrivenClock)
    gpu: FakeGpu = field(default_factory=lambda: FakeGpu(0))

    def __post_init__(self) -> None:
        begin_s = self.clock.monotonic_s()
        nvml = FakeNvml([self.gpu], power=lambda _gpu, t: self.power(t - begin_s), clock=self.clock)
        self.instruments = Instruments([NvidiaMeter(nvml, environment={}, clock=self.clock)], clock=self.clock)
        self.instruments.read_once()
        self.clock.on_step.append(self.instruments.read_once)

    def run(self, work: ScriptedWork, pace: Pace | None = None) -> LevelOutcome:
        windows: list[Window] = []
        outcome = LevelRun(
            work,
            self.instruments,
            pace or Pace(max_duration_s=120.0),
            self.clock,
            on_window=lambda _n, w: windows.append(w),
            on_state=lambda _state: None,
        ).run()
        assert len(windows) == len(outcome.windows)
        assert work.stopped
        return outcome

    def verdict(self, work: ScriptedWork, outcome: LevelOutcome, pace: Pace | None = None) -> Validity:
        told = estimate(outcome.windows)
        assert told is not None
        return judge(
            Evidence(
                work=work,
                instruments=self.instruments,
                outcome=outcome,
                done=work.done(outcome.begin_s, outcome.end_s),
                estimate=told,
                pace=pace or Pace(max_duration_s=120.0),
            )
        )


class Silent:
    """Watches a session and says nothing."""

    def level_begins(self, name: str, unit: str) -> None: ...

    def state(self, name: str, state: LevelState) -> None: ...

    def level_ends(self, name: str, run: Run | None, why: str) -> None: ...
