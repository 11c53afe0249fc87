"""Conducting a sweep: what comes next begins where there is room, and what has ended is stored at once."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from joulemap.measure.session.interrupts import put_off_interrupts
from joulemap.measure.sweep.chooser import Chooser
from joulemap.measure.sweep.executors.executor import Executor, Room
from joulemap.measure.sweep.failures import Failure, final, known_failures, measured_runs, note_failure
from joulemap.measure.sweep.job import End, Ended, State, job_of
from joulemap.measure.sweep.spec import Configuration, SweepSpec
from joulemap.records import Run
from joulemap.store.run_store import RunStore
from joulemap.store.schema import runs_to_frame, utc_now

LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a configuration."""

    configuration_id: str
    number: int
    end: End
    reason: str
    node: str
    run_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "configuration_id": self.configuration_id,
            "number": self.number,
            "end": str(self.end),
            "reason": self.reason,
            "node": self.node,
            "run_id": self.run_id,
        }


@dataclass(slots=True, kw_only=True)
class SweepResult:
    """What a sweep brought, this time and before."""

    name: str
    total: int
    """Configurations of the sweep."""
    before: tuple[str, ...] = ()
    """Those that the store had already."""
    runs: dict[str, Run] = field(default_factory=dict)
    """What was measured this time, by configuration."""
    failures: dict[str, Failure] = field(default_factory=dict)
    """Configurations without a run, and why."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Configurations that were not worth measuring, and why."""
    attempts: list[Attempt] = field(default_factory=list)
    interrupted: bool = False

    @property
    def measured(self) -> int:
        """Configurations that have a run."""
        return len({*self.before, *self.runs})


class Watcher(Protocol):
    """Watches a sweep, for a live view."""

    def begun(self, configuration: Configuration, number: int) -> None:
        """An attempt begins."""
        ...

    def ended(self, configuration: Configuration, attempt: Attempt, run: Run | None) -> None:
        """An attempt has ended, and what it brought is stored."""
        ...

    def goes_on(self, result: SweepResult, states: Sequence[State], nodes: int) -> None:
        """Called now and then."""
        ...


class Sweep:
    """A sweep under way.

    Args:
        spec: What was asked for.
        store: Where runs and failures go.
        executor: Where configurations run; closed by the caller.
        chooser: What comes next.
        watcher: A live view.
        only: Ids of the configurations to keep to; all by default.
        retry_failed: Whether to try those again that an earlier invocation found impossible.

    Raises:
        StoreError: The store cannot be read.
    """

    def __init__(
        self,
        spec: SweepSpec,
        store: RunStore,
        executor: Executor,
        chooser: Chooser,
        watcher: Watcher,
        *,
        only: Collection[str] = (),
        retry_failed: bool = False,
    ) -> None:
        self._spec = spec
        self._store = store
        self._executor = executor
        self._chooser = chooser
        self._watcher = watcher
        self._asked = {c.configuration_id: c for c in spec.configurations}
        self._waiting = [i for i in self._asked if not only or i in only]
        self._again: list[str] = []
        self._running: set[str] = set()
        self._tries: dict[str, int] = {}
        self._lacking_since: dict[str, float] = {}
        self.result = SweepResult(name=spec.name, total=len(self._waiting))
        self._take_up(retry_failed=retry_failed)

    def _take_up(self, *, retry_failed: bool) -> None:
        """Leave out what is finished: measured, or found impossible."""
        found = measured_runs(self._store, self._waiting)
        failures = known_failures(self._store, self._spec.name)
        before = []
        for key in list(self._waiting):
            rows = found.get(key, [])
            valid = [row for row in rows if row["valid"]]
            if valid or len(rows) > self._spec.retries:
                before.append(key)
                self._waiting.remove(key)
                self._chooser.measured(key, (valid or rows)[-1])
            elif key in failures and final(failures[key]) and not retry_failed:
                self.result.failures[key] = failures[key]
                self._waiting.remove(key)
                self._chooser.failed(key, fits=failures[key].end != End.DOES_NOT_FIT)
            else:
                # Runs that were not fit to be believed are attempts too.
                self._tries[key] = len(rows)
        self.result.before = tuple(before)

    def run(self) -> SweepResult:
        """Conduct the sweep to its end.

        Raises:
            StoreError: The store cannot be written.
            JoulemapError: The executor has failed.
        """
        try:
            while True:
                self._begin_all()
                if not self._running and not self._may_come():
                    break
                self._take(self._executor.wait(LOOK_EVERY_S))
                self._watcher.goes_on(self.result, self._executor.states(), self._executor.nodes())
        except KeyboardInterrupt:
            # What has ended is stored.
            self.result.interrupted = True
        self._leave_out()
        return self.result

    def _begin_all(self) -> None:
        """Begin as much as there is room for."""
        while True:
            ready = self._ready([*self._again, *self._waiting])
            again = [key for key in ready if key in self._again]
            key = again[0] if again else self._chooser.next(ready, self._running)
            if key is None:
                return
            (self._again if key in self._again else self._waiting).remove(key)
            self._tries[key] = self._tries.get(key, 0) + 1
            self._running.add(key)
            self._watcher.begun(self._asked[key], self._tries[key])
            self._executor.start(job_of(self._spec, self._asked[key]))

    def _ready(self, keys: Iterable[str]) -> list[str]:
        """Return the configurations for which there is room; those that wait in vain for a node are given up."""
        rooms: dict[tuple[str | None, int], Room] = {}
        ready = []
        for key in keys:
            asked = self._asked[key]
            need = (asked.gpu, asked.count)
            if need not in rooms:
                rooms[need] = self._executor.room(asked)
            if rooms[need].now:
                ready.append(key)
            if not rooms[need].lacking:
                self._lacking_since.pop(key, None)
                continue
            since_s = self._lacking_since.setdefault(key, time.monotonic())
            patience_s = self._spec.wait_for_nodes_s if rooms[need].may_come else 0.0
            if time.monotonic() - since_s >= patience_s:
                self._give_up(key, rooms[need].lacking)
        return ready

    def _give_up(self, key: str, lacking: str) -> None:
        for queue in (self._again, self._waiting):
            if key in queue:
                queue.remove(key)
        self._fail(key, End.NO_NODE, lacking)

    def _may_come(self) -> bool:
        """Say whether anything may still begin: one that waits for a node, if it is worth measuring."""
        waiting = [key for key in (*self._again, *self._waiting) if key in self._lacking_since]
        return any(key in self._again for key in waiting) or self._chooser.next(waiting, ()) is not None

    def _take(self, ended: Sequence[Ended]) -> None:
        with put_off_interrupts():
            for one in ended:
                self._take_one(one)

    def _take_one(self, ended: Ended) -> None:
        key = ended.configuration_id
        self._running.discard(key)
        run, reason = None, ended.reason
        if ended.run is not None:
            provenance = replace(ended.run.provenance, configuration_id=key)
            run = replace(ended.run, provenance=provenance)
            # The run first: a run without timelines is of use, timelines without a run are not.
            self._store.add([run])
            self._store.timelines.add(run.run_id, ended.timelines)
            reason = "" if run.validity.valid else "invalid: " + "; ".join(run.validity.reasons)
        attempt = Attempt(
            configuration_id=key,
            number=self._tries[key],
            end=ended.end,
            reason=reason,
            node=ended.node,
            run_id=None if run is None else run.run_id,
        )
        self.result.attempts.append(attempt)
        self._watcher.ended(self._asked[key], attempt, run)
        good = run is not None and run.validity.valid
        may_pass = run is not None or ended.end.may_pass
        if not good and may_pass and self._tries[key] <= self._spec.retries:
            self._again.append(key)
        if run is not None and (good or key not in self._again):
            self.result.runs[key] = run
            (row,) = runs_to_frame([run], stored_at=utc_now()).rows(named=True)
            self._chooser.measured(key, row)
        elif run is None and key not in self._again:
            self._fail(key, ended.end, reason)

    def _fail(self, key: str, end: End, reason: str) -> None:
        failure = Failure(configuration_id=key, end=str(end), reason=reason, attempts=self._tries.get(key, 0))
        self.result.failures[key] = failure
        note_failure(self._store, self._spec.name, failure)
        self._chooser.failed(key, fits=end is not End.DOES_NOT_FIT)

    def _leave_out(self) -> None:
        why = self._chooser.left_out()
        open_ = set(self._waiting)
        self.result.left_out = {key: reason for key, reason in why.items() if key in open_}
