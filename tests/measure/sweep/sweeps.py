"""Sweeps for tests: small files, and an executor that runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from joulemap.measure.sweep.conduct import Attempt, SweepResult
from joulemap.measure.sweep.executors.executor import Room
from joulemap.measure.sweep.job import End, Ended, Job, State
from joulemap.measure.sweep.spec import Configuration, SweepSpec
from joulemap.measure.sweep.sweep_file import parse_sweep
from joulemap.records import Deployment, Measured, Provenance, Run, Validity, Workload

EMBEDDED = """\
[sweep]
name = "small"
models = ["tiny"]
tasks = ["chat"]
gpus = {gpus}
batches = {batches}
[launch]
engine = "embedded"
[measure]
window_s = 0.3
windows = 3
duration_s = 3
warm_up_s = 0.5
output_tokens = 16
[limits]
retries = {retries}
time_limit_s = 60
wait_for_nodes_s = {wait_for_nodes_s}
"""


def embedded_text(
    *, gpus: Sequence[str] = (), batches: Sequence[int] = (1, 2), retries: int = 0, wait_for_nodes_s: float = 1.0
) -> str:
    """Return a sweep file for the embedded engine."""
    return EMBEDDED.format(
        gpus=str(list(gpus)).replace("'", '"'),
        batches=list(batches),
        retries=retries,
        wait_for_nodes_s=wait_for_nodes_s,
    )


def embedded_spec(**options: object) -> SweepSpec:
    """Return the sweep of :func:`embedded_text`."""
    return parse_sweep(embedded_text(**options))  # type: ignore[arg-type]


def run_of(configuration: Configuration, *, valid: bool = True, energy_j: float = 0.5) -> Run:
    """Return a run of a configuration."""
    return Run(
        workload=Workload(task=configuration.task, max_concurrency=configuration.batch),
        deployment=Deployment(model_id=configuration.model, gpu_model=configuration.gpu),
        measured=Measured(energy_per_output_j=energy_j, batch_size=float(configuration.batch)),
        provenance=Provenance(source="test"),
        validity=Validity(valid=valid, reasons=() if valid else ("not steady",)),
    )


Behaviour = Callable[[Configuration, int], Ended]
"""What becomes of a configuration at its n-th attempt."""


def measured(configuration: Configuration, number: int) -> Ended:
    """Return a valid run."""
    return Ended(
        configuration_id=configuration.configuration_id,
        end=End.MEASURED,
        node="a",
        run=run_of(configuration, energy_j=0.5 + 0.01 * number),
    )


class ScriptedExecutor:
    """Brings what a function says, one attempt a call."""

    place = "nowhere"

    def __init__(
        self, behaviour: Behaviour = measured, *, gpus: Sequence[str] | None = None, slots: int = 1
    ) -> None:
        self.behaviour = behaviour
        self.gpus = gpus
        self.slots = slots
        self.started: list[Configuration] = []
        self._tries: dict[str, int] = {}
        self._running: list[Job] = []

    def room(self, configuration: Configuration) -> Room:
        if self.gpus is not None and configuration.gpu not in self.gpus:
            return Room(now=False, lacking=f"no node offers {configuration.gpu}")
        return Room(now=len(self._running) < self.slots)

    def start(self, job: Job) -> None:
        self._running.append(job)
        self.started.append(job.configuration)

    def wait(self, timeout_s: float) -> Sequence[Ended]:
        del timeout_s
        ended = []
        for job in self._running:
            key = job.configuration.configuration_id
            self._tries[key] = self._tries.get(key, 0) + 1
            ended.append(self.behaviour(job.configuration, self._tries[key]))
        self._running.clear()
        return ended

    def states(self) -> Sequence[State]:
        return []

    def nodes(self) -> int:
        return 1

    def close(self) -> None:
        self._running.clear()


class Silent:
    """A watcher that keeps what it was told."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    def begun(self, configuration: Configuration, number: int) -> None:
        pass

    def ended(self, configuration: Configuration, attempt: Attempt, run: Run | None) -> None:
        del configuration, run
        self.attempts.append(attempt)

    def goes_on(self, result: SweepResult, states: Sequence[State], nodes: int) -> None:
        pass
