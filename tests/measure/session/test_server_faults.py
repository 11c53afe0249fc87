"""Real server processes that misbehave while they are measured: nothing complete is lost, nothing false is kept."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from joulemap.clock import SystemClock
from joulemap.errors import ServerError
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.plan import ClosedLoop, Limits, LoadPlan, OpenLoop
from joulemap.measure.load.prompts import SyntheticPrompts
from joulemap.measure.load.target import Target
from joulemap.measure.meters.assumed import AssumedMeter
from joulemap.measure.mock_server import Fault, MockBehaviour, MockServerProcess
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.journal import Journal
from joulemap.measure.session.level import Pace
from joulemap.measure.session.recording import Baselines
from joulemap.measure.session.server_work import ServerWork
from joulemap.measure.session.session import Level, Session, SessionResult
from joulemap.records import Deployment, Workload
from joulemap.store.run_store import RunStore, open_store
from tests.measure.session.scripted import Silent

PACE = Pace(window_s=0.5, min_windows=3, max_windows=3, min_warm_up_s=0.2, max_warm_up_s=1.5, max_duration_s=20.0)
QUICK = MockBehaviour(ttft_s=0.02, itl_s=0.005)


def measured(
    url: str,
    folder: Path,
    *,
    pace: Pace = PACE,
    hung_s: float = 60.0,
    open_loop: bool = False,
    failures_in_a_row: int = 8,
) -> tuple[SessionResult, RunStore]:
    """Measure a server at one level with the assumed meter."""
    plan = LoadPlan(
        arrivals=OpenLoop(rate_per_s=20.0) if open_loop else ClosedLoop(concurrency=4),
        prompts=SyntheticPrompts(input_tokens=FixedLength(8), output_tokens=FixedLength(16)),
        limits=Limits(stall_s=30.0, failures_in_a_row=failures_in_a_row),
    )
    store = open_store(folder / "store")
    journal = Journal(store.folder / "sessions")
    level = Level(
        name="level",
        make_work=lambda: ServerWork(plan, Target(url=url, model="mock"), hung_s=hung_s),
        workload=Workload(task="synthetic"),
        deployment=Deployment(model_id="mock"),
    )
    with Instruments([AssumedMeter(100.0)]) as instruments:
        session = Session(store, instruments, pace, Silent(), journal, clock=SystemClock())
        result = session.measure([level], Baselines())
    journal.close()
    return result, store


@pytest.fixture(scope="module")
def sound_server() -> Iterator[MockServerProcess]:
    with MockServerProcess(QUICK) as server:
        yield server


def test_a_sound_server_gives_a_run_with_true_counts(sound_server: MockServerProcess, tmp_path: Path) -> None:
    result, store = measured(sound_server.url, tmp_path)
    (run,) = result.runs
    # Four streams, each 16 tokens in 0.02 + 15 × 0.005 s, and what the client needs in between.
    assert 0.5 * 4 * 16 / 0.095 < run.measured.output_throughput_per_s < 1.02 * 4 * 16 / 0.095  # type: ignore[operator]
    assert run.measured.batch_size == pytest.approx(4.0, rel=0.1)
    assert run.workload.mean_output_tokens == 16.0
    assert run.annotations.basis["energy_per_output_j"] == "assumed"
    assert run.annotations.basis["power_w"] == "assumed"
    assert "gpu_energy_j" not in run.annotations.basis
    assert store.get(run.run_id) == run
    assert store.timelines.of_run(run.run_id).keys() >= {"power", "requests", "client", "windows"}


def test_tokens_are_counted_where_a_chunk_holds_several(tmp_path: Path) -> None:
    with MockServerProcess(MockBehaviour(ttft_s=0.02, itl_s=0.005, tokens_per_chunk=4)) as server:
        result, _store = measured(server.url, tmp_path)
    (run,) = result.runs
    chunks = run.measured.output_throughput_per_s
    assert chunks is not None
    # Four chunks of four tokens: 0.02 + 3 × 0.005 s a reply.
    assert chunks > 4 * 4 / 0.035


def test_an_open_loop_has_no_full_batch(sound_server: MockServerProcess, tmp_path: Path) -> None:
    result, _store = measured(sound_server.url, tmp_path, open_loop=True)
    (run,) = result.runs
    assert not any("batch not full" in reason for reason in run.validity.reasons)
    assert run.measured.request_throughput_per_s == pytest.approx(20.0, rel=0.5)


@pytest.mark.parametrize("failures_in_a_row", [8, 64])
def test_a_server_killed_in_mid_run_is_named_and_its_windows_are_kept(
    tmp_path: Path, failures_in_a_row: int
) -> None:
    pace = Pace(window_s=0.5, min_windows=40, max_windows=40, min_warm_up_s=0.2, max_warm_up_s=1.0)
    with MockServerProcess(QUICK) as server:
        killer = threading.Thread(target=kill_after_windows, args=(tmp_path / "store", server.pid))
        killer.start()
        result, store = measured(server.url, tmp_path, pace=pace, failures_in_a_row=failures_in_a_row)
        killer.join()
    assert isinstance(result.error, ServerError)
    assert server.url in result.error.message
    # With four streams, the client itself would give up after half a minute only.
    assert failures_in_a_row == 8 or "died" in result.error.message
    (run,) = result.runs
    assert not run.validity.valid
    assert any("ended early" in reason for reason in run.validity.reasons)
    assert store.get(run.run_id) == run


def kill_after_windows(store: Path, pid: int) -> None:
    """Kill a process as soon as the journal holds three windows; after a minute in any case."""
    for _ in range(1200):
        time.sleep(0.05)
        if sum(f.read_bytes().count(b'"kind": "window"') for f in (store / "sessions").glob("*.jsonl")) >= 3:
            break
    os.kill(pid, signal.SIGKILL)


def test_a_server_that_hangs_is_named(tmp_path: Path) -> None:
    behaviour = MockBehaviour(ttft_s=0.02, itl_s=0.005, fault=Fault.HANG)
    with MockServerProcess(behaviour) as server:
        begin_s = time.monotonic()
        result, _store = measured(server.url, tmp_path, hung_s=1.0)
    assert isinstance(result.error, ServerError)
    assert "hangs" in result.error.message
    assert time.monotonic() - begin_s < 20.0
    assert not any(run.validity.valid for run in result.runs)


@pytest.mark.parametrize(
    "fault",
    [Fault.TOO_MANY_REQUESTS, Fault.SERVER_ERROR, Fault.GARBAGE_JSON, Fault.HALF_CHUNK, Fault.DIE, Fault.NOT_HTTP],
)
def test_a_server_that_only_fails_is_named_and_gives_nothing_valid(tmp_path: Path, fault: Fault) -> None:
    behaviour = MockBehaviour(ttft_s=0.02, itl_s=0.005, fault=fault)
    with MockServerProcess(behaviour) as server:
        result, store = measured(server.url, tmp_path)
    assert isinstance(result.error, ServerError)
    assert "requests in a row failed" in result.error.message
    assert not any(run.validity.valid for run in result.runs)
    assert not any(run.validity.valid for run in store.runs())


def test_a_server_that_sometimes_fails_gives_an_invalid_run(tmp_path: Path) -> None:
    behaviour = MockBehaviour(ttft_s=0.02, itl_s=0.005, fault=Fault.CLOSE_EARLY, fault_every=5)
    with MockServerProcess(behaviour) as server:
        result, _store = measured(server.url, tmp_path)
    (run,) = result.runs
    assert not run.validity.valid
    assert any("requests failed" in reason and "closed_early" in reason for reason in run.validity.reasons)


def test_no_server_at_all_is_named(tmp_path: Path) -> None:
    result, store = measured("http://127.0.0.1:9", tmp_path)
    assert isinstance(result.error, ServerError)
    assert not result.runs
    assert result.without_run
    assert not store.runs()
