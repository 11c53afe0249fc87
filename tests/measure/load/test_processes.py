"""Loads spread over worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from joulemap.errors import ImportFileError, MeasurementError, ServerError
from joulemap.measure.load.handle import default_workers, start_load
from joulemap.measure.load.plan import ClosedLoop, LoadPlan
from joulemap.measure.load.prompts import DatasetPrompts
from joulemap.measure.mock_server import MockServerProcess
from tests.measure.load.loads import PATIENT, SHORT, plan_of, swift, target_of


def wait_for_requests(handle: object, count: int) -> None:
    deadline_s = time.monotonic() + 20
    while handle.snapshot().completed < count:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_workers_share_the_requests_and_their_results_are_merged() -> None:
    with MockServerProcess(swift()) as server, start_load(plan_of(21), target_of(server.url), workers=3) as load:
        assert load.start_s > time.monotonic() - 5
        result = load.result()
        assert load.done
        assert load.snapshot().completed == 21
        states = load.history()
        assert [s.time_s for s in states] == sorted(s.time_s for s in states)
        assert [s.started for s in states] == sorted(s.started for s in states)
        assert states[-1].tokens_so_far == 210
    requests = result.requests
    assert sorted(requests["request_id"]) == list(range(21))
    assert (requests["request_id"] % 3 == requests["worker"]).all()
    assert requests["error"].null_count() == 21
    assert result.gaps_s.size == 21 * 9
    assert set(result.samples["worker"]) == {0, 1, 2}
    assert all(0 < worker.peak_rss_bytes < 100e6 for worker in result.workers)
    assert result.reasons == ()


def test_a_running_load_can_be_watched_and_stopped() -> None:
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=4), prompts=SHORT)
    with MockServerProcess(swift()) as server, start_load(plan, target_of(server.url), workers=2) as load:
        wait_for_requests(load, 20)
        seen = load.snapshot()
        assert not load.done
        assert seen.in_flight <= 4
        assert seen.output_tokens >= 200
        assert seen.content_chunks >= seen.output_tokens
        load.stop()
        result = load.result()
        assert load.result() is result
    assert len(result.requests) >= 20
    assert result.failures == {}


def test_a_worker_that_is_killed_costs_its_last_second_and_the_verdict() -> None:
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=4), prompts=SHORT)
    with MockServerProcess(swift()) as server, start_load(plan, target_of(server.url), workers=2) as load:
        first = load._workers[0]
        deadline_s = time.monotonic() + 20
        while not len(first.rows):  # what it has handed over is kept
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        os.kill(load.pids[0], signal.SIGKILL)
        first.listener.join()
        load.stop()
        result = load.result()
    kept = result.requests.group_by("worker").len()
    assert sorted(kept["worker"]) == [0, 1]
    assert "load worker 0 died (exit code -9" in result.reasons[0]


def test_when_every_worker_is_killed_the_load_fails_by_name() -> None:
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=2), prompts=SHORT)
    with MockServerProcess(swift()) as server, start_load(plan, target_of(server.url), workers=1) as load:
        os.kill(load.pids[0], signal.SIGKILL)
        with pytest.raises(MeasurementError, match="worker process died"):
            load.result()


def test_what_is_wrong_with_a_plan_is_told_before_it_starts(tmp_path: Path) -> None:
    plan = replace(plan_of(), prompts=DatasetPrompts(path=tmp_path / "absent.jsonl"))
    with pytest.raises(ImportFileError, match=r"absent\.jsonl"):
        start_load(plan, target_of("http://127.0.0.1:9"))
    with (
        pytest.raises(ServerError, match="unknown"),
        start_load(plan_of(), target_of("http://no-such-host.invalid:8000")) as load,
    ):
        load.result()


def test_no_worker_outlives_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys, time
        from joulemap.measure.load.handle import start_load
        from joulemap.measure.load.plan import ClosedLoop, LoadPlan
        from joulemap.measure.load.target import Target
        load = start_load(
            LoadPlan(arrivals=ClosedLoop(concurrency=2)), Target(url=sys.argv[1], model="mock"), workers=2
        )
        print(*load.pids, flush=True)
        time.sleep(60)
        """)
    )
    with MockServerProcess(swift()) as server:
        parent = subprocess.Popen([sys.executable, str(script), server.url], stdout=subprocess.PIPE)
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert all(psutil.pid_exists(pid) for pid in workers)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        deadline_s = time.monotonic() + 10
        while any(psutil.pid_exists(pid) for pid in workers):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


def test_one_worker_for_every_thousand_streams() -> None:
    cores = os.cpu_count() or 1
    assert default_workers(LoadPlan(arrivals=ClosedLoop(concurrency=1024))) == 1
    assert default_workers(LoadPlan(arrivals=ClosedLoop(concurrency=4096))) == min(4, cores)


@pytest.mark.slow
def test_four_thousand_streams_are_held() -> None:
    plan = LoadPlan(
        arrivals=ClosedLoop(concurrency=4096, ramp_s=2.0), prompts=SHORT, duration_s=6.0, limits=PATIENT
    )
    calm = swift(ttft_s=1.0, itl_s=0.3, tokens=12)
    with MockServerProcess(calm) as server, start_load(plan, target_of(server.url)) as load:
        result = load.result()
    assert result.samples.group_by("worker").agg(in_flight="in_flight")["in_flight"].list.max().sum() == 4096
    assert result.failures == {}
