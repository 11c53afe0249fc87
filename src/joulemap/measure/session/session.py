"""A session: one level after the other is measured, and each is in the store before the next begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import polars as pl

from joulemap.clock import Clock, SystemClock
from joulemap.errors import MeasurementError
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.interrupts import put_off_interrupts
from joulemap.measure.session.journal import Journal
from joulemap.measure.session.level import LevelOutcome, LevelRun, LevelState, Pace
from joulemap.measure.session.recording import Baselines, LevelRecord, to_run
from joulemap.measure.session.recovery import facts_of
from joulemap.measure.session.verdict import Evidence, judge
from joulemap.measure.session.windows import Window, estimate
from joulemap.measure.session.work import Work
from joulemap.records import Deployment, Quantity, Run, Workload
from joulemap.store.run_store import RunStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """Quantities over the windows beside those of meters and work."""

    measured: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    deployment: Mapping[str, Any] = field(default_factory=dict)
    """What the engine tells of its settings; what the user states goes before."""
    notes: tuple[str, ...] = ()


def no_extra(_begin_s: float, _end_s: float) -> Extra:
    """Return nothing: no engine tells anything."""
    return Extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level to measure."""

    name: str
    """What people call it, and under which it is found again: ``"concurrency 8"``."""
    make_work: Callable[[], Work]
    """Makes the work, just before it is needed."""
    workload: Workload
    deployment: Deployment
    extra: Callable[[float, float], Extra] = no_extra
    """Asked after the level, with begin and end of its windows."""
    faults: tuple[str, ...] = ()
    """What makes the run invalid whatever is measured."""
    notes: tuple[str, ...] = ()
    """What a careful reader of the run should know."""


class Observer(Protocol):
    """Watches a session, for a live view."""

    def level_begins(self, name: str, unit: str) -> None:
        """A level begins; ``unit`` is what comes out."""
        ...

    def state(self, name: str, state: LevelState) -> None:
        """A level goes on."""
        ...

    def level_ends(self, name: str, run: Run | None, why: str) -> None:
        """A level is in the store as ``run``, or gave none and ``why``."""
        ...


@dataclass(slots=True, kw_only=True)
class SessionResult:
    """What a session brought."""

    session_id: str
    runs: list[Run] = field(default_factory=list)
    without_run: dict[str, str] = field(default_factory=dict)
    """Why a level gave no run, by its name."""
    error: MeasurementError | None = None
    """Why the session ended early."""
    interrupted: bool = False


class Session:
    """Measures levels with the same instruments.

    Args:
        store: Where runs, timelines and the journal go.
        instruments: Started by the caller, and stopped by it.
        pace: How long to measure.
        observer: A live view.
        journal: The session's journal.
        clock: Time.
    """

    def __init__(
        self,
        store: RunStore,
        instruments: Instruments,
        pace: Pace,
        observer: Observer,
        journal: Journal,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._instruments = instruments
        self._pace = pace
        self._observer = observer
        self._journal = journal
        self._clock = clock or SystemClock()

    def baseline_power_w(self, duration_s: float) -> float | None:
        """Wait without any work and return the mean power meanwhile; ``None`` if the meter did not cover it."""
        begin_s = self._clock.monotonic_s()
        end_s = begin_s + duration_s
        while self._instruments.read_until_s() < end_s and self._instruments.meter_error() is None:
            self._clock.sleep(0.05)
        energy = self._instruments.energy(begin_s + 0.1 * duration_s, end_s)
        return energy.value / (0.9 * duration_s) if isinstance(energy, Quantity) else None

    def measure(self, levels: Iterable[Level], baselines: Baselines) -> SessionResult:
        """Measure the levels in order; what is complete is stored whatever ends the session.

        Raises:
            StoreError: A run or the journal cannot be written.
        """
        result = SessionResult(session_id=self._journal.session_id)
        try:
            for level in levels:
                if not self._measure_one(level, baselines, result):
                    return result
            self._journal.end()
        except KeyboardInterrupt:
            # Between two levels: what came before is stored.
            result.interrupted = True
        return result

    def _measure_one(self, level: Level, baselines: Baselines, result: SessionResult) -> bool:
        """Measure one level and store it; return whether the session may go on."""
        self._observer.level_begins(level.name, str(level.workload.output_unit))
        facts = facts_of(level.workload, level.deployment, self._instruments, baselines, level.notes)
        self._journal.level(level.name, facts)
        work = level.make_work()
        outcome = self._run_level(level, work)
        with put_off_interrupts():
            run, why = self._keep(level, work, outcome, baselines)
            if run is not None:
                result.runs.append(run)
            else:
                result.without_run[level.name] = why
            self._observer.level_ends(level.name, run, why)
        if isinstance(outcome.error, MeasurementError):
            result.error = outcome.error
        result.interrupted = outcome.interrupted
        # A level that cannot be had at all, for want of memory, says nothing of the next one.
        return not result.interrupted and result.error is None

    def _run_level(self, level: Level, work: Work) -> LevelOutcome:
        def noted(_number: int, window: Window) -> None:
            self._journal.window(level.name, window)

        return LevelRun(
            work,
            self._instruments,
            self._pace,
            self._clock,
            on_window=noted,
            on_state=lambda state: self._observer.state(level.name, state),
        ).run()

    def _keep(
        self, level: Level, work: Work, outcome: LevelOutcome, baselines: Baselines
    ) -> tuple[Run | None, str]:
        """Store a level's run, or say why it gives none."""
        told = estimate(outcome.windows)
        if told is None:
            why = outcome.error.message if outcome.error else "no window was complete"
            return None, why
        done = work.done(outcome.begin_s, outcome.end_s)
        extra = level.extra(outcome.begin_s, outcome.end_s)
        activity, inactive = self._instruments.activity(outcome.begin_s, outcome.end_s)
        evidence = Evidence(
            work=work,
            instruments=self._instruments,
            outcome=outcome,
            done=done,
            estimate=told,
            pace=self._pace,
            faults=level.faults,
        )
        record = LevelRecord(
            workload=level.workload,
            deployment=_completed(level.deployment, extra.deployment),
            outcome=outcome,
            estimate=told,
            done=done,
            validity=judge(evidence),
            baselines=baselines,
            extra={**activity, **extra.measured},
            missing={**inactive, **extra.missing},
            notes=(*level.notes, *extra.notes),
        )
        run = to_run(record, self._instruments)
        # The run first: a run without timelines is of use, timelines without a run are not.
        self._store.add([run])
        self._journal.run(level.name, run.run_id)
        self._store.timelines.add(run.run_id, self._timelines(work, outcome))
        return run, ""

    def _timelines(self, work: Work, outcome: LevelOutcome) -> dict[str, pl.DataFrame]:
        frames = {
            name: frame.filter(pl.col("t_mono_s") >= outcome.started_s - 1.0)
            for name, frame in self._instruments.frames().items()
            if "t_mono_s" in frame.columns
        }
        own = {name: table for name, table in work.timeline().items() if isinstance(table, pl.DataFrame)}
        windows = pl.DataFrame([asdict(w) for w in outcome.windows])
        return {**frames, **own, "windows": windows}


def _completed(deployment: Deployment, told: Mapping[str, Any]) -> Deployment:
    """Return a deployment with what the engine tells where the user stated nothing."""
    missing = {name: value for name, value in told.items() if getattr(deployment, name) is None}
    return replace(deployment, **missing)
