"""A sweep begins what there is room for, tries again what may pass, stores at once, and never measures twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from joulemap.errors import StoreError
from joulemap.measure.sweep.chooser import WholeGrid
from joulemap.measure.sweep.conduct import Sweep, SweepResult
from joulemap.measure.sweep.job import End, Ended
from joulemap.measure.sweep.spec import Configuration, SweepSpec
from joulemap.store.run_store import RunStore, open_store
from tests.measure.sweep.sweeps import ScriptedExecutor, Silent, embedded_spec, measured, run_of
from tests.store.objects import memory_url

__all__ = ["memory_url"]


def conducted(
    spec: SweepSpec, store: RunStore, executor: ScriptedExecutor, *, retry_failed: bool = False
) -> SweepResult:
    return Sweep(spec, store, executor, WholeGrid(), Silent(), retry_failed=retry_failed).run()


def failing(end: End, *, times: int = 99, reason: str = "it broke") -> ScriptedExecutor:
    def behave(configuration: Configuration, number: int) -> Ended:
        if configuration.batch == 2 and number <= times:
            return Ended(configuration_id=configuration.configuration_id, end=end, reason=reason, node="a")
        return measured(configuration, number)

    return ScriptedExecutor(behave)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return open_store(tmp_path / "store")


def test_every_configuration_is_measured_once_and_named_by_its_run(store: RunStore) -> None:
    spec = embedded_spec(batches=(1, 2, 4))
    result = conducted(spec, store, ScriptedExecutor())
    assert result.measured == 3
    told = [run.provenance.configuration_id for run in open_store(store.folder).runs()]
    assert told == [c.configuration_id for c in spec.configurations]


def test_what_is_finished_is_not_measured_again(store: RunStore) -> None:
    conducted(embedded_spec(batches=(1, 2)), store, ScriptedExecutor())
    executor = ScriptedExecutor()
    result = conducted(embedded_spec(batches=(1, 2, 4)), open_store(store.folder), executor)
    assert [c.batch for c in executor.started] == [4]
    assert (result.measured, len(result.before)) == (3, 2)


def test_a_failure_that_may_pass_is_tried_again_with_its_reason_kept(store: RunStore) -> None:
    executor = failing(End.FAILED, times=1, reason="the server died")
    result = conducted(embedded_spec(retries=1), store, executor)
    assert [c.batch for c in executor.started] == [1, 2, 2]
    assert [(a.number, a.end, a.reason) for a in result.attempts[1:]] == [
        (1, End.FAILED, "the server died"),
        (2, End.MEASURED, ""),
    ]
    assert not result.failures


def test_tries_end_and_the_next_invocation_tries_afresh(store: RunStore) -> None:
    spec = embedded_spec(retries=2)
    executor = failing(End.OUT_OF_TIME)
    result = conducted(spec, store, executor)
    assert [c.batch for c in executor.started] == [1, 2, 2, 2]
    (failure,) = result.failures.values()
    assert (failure.attempts, failure.end) == (3, "out of time")
    assert conducted(spec, open_store(store.folder), ScriptedExecutor()).measured == 2


@pytest.mark.parametrize("end", [End.DOES_NOT_FIT, End.REFUSED])
def test_what_cannot_be_is_tried_once_and_remembered(store: RunStore, end: End) -> None:
    spec = embedded_spec(retries=3)
    first = failing(end)
    conducted(spec, store, first)
    assert [c.batch for c in first.started] == [1, 2]
    second = ScriptedExecutor()
    result = conducted(spec, open_store(store.folder), second)
    assert second.started == []
    assert [f.reason for f in result.failures.values()] == ["it broke"]
    third = ScriptedExecutor()
    assert conducted(spec, open_store(store.folder), third, retry_failed=True).measured == 2


def test_an_invalid_run_is_kept_and_measured_again_as_often_as_asked(store: RunStore) -> None:
    def invalid(configuration: Configuration, number: int) -> Ended:
        run = run_of(configuration, valid=False, energy_j=float(number))
        return Ended(configuration_id=configuration.configuration_id, end=End.MEASURED, run=run)

    spec = embedded_spec(batches=(1,), retries=1)
    result = conducted(spec, store, ScriptedExecutor(invalid))
    assert [a.reason for a in result.attempts] == ["invalid: not steady"] * 2
    assert len(store) == 2
    executor = ScriptedExecutor()
    conducted(spec, open_store(store.folder), executor)
    assert executor.started == []


def test_what_no_node_can_run_is_given_up_after_a_while_and_the_rest_is_measured(store: RunStore) -> None:
    spec = embedded_spec(gpus=("H100", "B200"), batches=(1,), wait_for_nodes_s=0)
    result = conducted(spec, store, ScriptedExecutor(gpus=["H100"]))
    assert [run.deployment.gpu_model for run in result.runs.values()] == ["H100"]
    assert [f.reason for f in result.failures.values()] == ["no node offers B200"]
    # A node that comes later runs it.
    assert conducted(spec, open_store(store.folder), ScriptedExecutor()).measured == 2


def test_ctrl_c_keeps_what_has_ended(store: RunStore) -> None:
    class Interrupting(ScriptedExecutor):
        def wait(self, timeout_s: float) -> list[Ended]:
            if len(self.started) > 1:
                raise KeyboardInterrupt
            return list(super().wait(timeout_s))

    result = conducted(embedded_spec(batches=(1, 2, 4)), store, Interrupting())
    assert result.interrupted
    assert len(open_store(store.folder)) == 1


def test_a_store_that_cannot_be_written_ends_the_sweep(tmp_path: Path) -> None:
    blocked = tmp_path / "store"
    blocked.mkdir()
    (blocked / "runs").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        conducted(embedded_spec(), open_store(blocked), ScriptedExecutor())


def test_a_sweep_into_object_storage_is_taken_up_from_there(memory_url: str) -> None:
    spec = embedded_spec()
    conducted(spec, open_store(memory_url), failing(End.DOES_NOT_FIT))
    executor = ScriptedExecutor()
    result = conducted(spec, open_store(memory_url), executor)
    assert executor.started == []
    assert (len(result.before), [f.end for f in result.failures.values()]) == (1, ["does not fit"])
