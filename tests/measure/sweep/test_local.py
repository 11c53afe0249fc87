"""Sweeps on this machine with real processes and real engines: placing, time limits, crashes, SIGKILL, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from joulemap.measure.sweep.executors.local import LocalExecutor
from joulemap.measure.sweep.job import End, Ended, job_of
from joulemap.measure.sweep.spec import SweepSpec
from joulemap.measure.sweep.sweep_file import parse_sweep
from joulemap.store.run_store import open_store
from tests.measure.sweep.sweeps import embedded_text

COMMAND = """\
[sweep]
name = "served"
models = ["m"]
tasks = ["chat"]
gpus = ["H100"]
counts = {counts}
batches = [2]
[launch]
engine = "command"
command = {command}
ready_within_s = 60
[measure]
window_s = 0.3
windows = 3
duration_s = 3
warm_up_s = 0.5
input_tokens = 8
output_tokens = 8
meters = ["assumed"]
[limits]
time_limit_s = {time_limit_s}
"""
MOCK = [sys.executable, "-m", "joulemap.measure.mock_server", "--port", "{port}"]
GONE_WITHIN_S = 60.0


def served(command: list[str], *, counts: tuple[int, ...] = (1,), time_limit_s: float = 90.0) -> SweepSpec:
    # A JSON text is a TOML text.
    return parse_sweep(COMMAND.format(command=json.dumps(command), counts=list(counts), time_limit_s=time_limit_s))


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    made = LocalExecutor({"GPU-a": "H100", "GPU-b": "H100"})
    yield made
    made.close()


def one(executor: LocalExecutor, spec: SweepSpec) -> Ended:
    executor.start(job_of(spec, spec.configurations[0]))
    until_s = time.monotonic() + 150.0
    while time.monotonic() < until_s:
        if ended := executor.wait(1.0):
            return ended[0]
    msg = "nothing ended"
    raise AssertionError(msg)


def test_a_server_is_started_measured_and_stopped(executor: LocalExecutor) -> None:
    ended = one(executor, served(MOCK))
    assert ended.end is End.MEASURED, ended.reason
    assert ended.run is not None
    deployment = ended.run.deployment
    assert (deployment.model_id, deployment.max_num_seqs, deployment.num_gpus) == ("m", 2, 1)
    assert ended.run.measured.energy_per_output_j
    assert {"power", "requests", "windows"} <= set(ended.timelines)
    assert not children_running("joulemap.measure.mock_server")


def test_too_little_memory_is_told_from_a_crash(executor: LocalExecutor) -> None:
    died = "import sys; sys.stderr.write({!r}); sys.exit(1)"
    ended = one(
        executor, served([sys.executable, "-c", died.format("torch.OutOfMemoryError: CUDA out of memory.")])
    )
    assert (ended.end, "CUDA out of memory" in ended.reason) == (End.DOES_NOT_FIT, True)
    ended = one(executor, served([sys.executable, "-c", died.format("illegal instruction")]))
    assert (ended.end, "illegal instruction" in ended.reason) == (End.FAILED, True)
    assert "exit code 1" in ended.reason


def test_a_command_that_does_not_exist_is_told(executor: LocalExecutor) -> None:
    ended = one(executor, served(["no-such-server", "{port}"]))
    assert (ended.end, "no-such-server" in ended.reason) == (End.FAILED, True)


def test_an_attempt_is_ended_at_its_time_limit_with_its_server(executor: LocalExecutor) -> None:
    sleeping = [sys.executable, "-c", "import time; time.sleep(1234.5)"]
    ended = one(executor, served(sleeping, time_limit_s=8.0))
    assert ended.end is End.OUT_OF_TIME
    assert "not done within 8 s" in ended.reason
    assert not children_running("time.sleep(1234.5)")


def test_each_attempt_owns_its_gpus(executor: LocalExecutor) -> None:
    small, large, larger = served(MOCK, counts=(1, 2, 4)).configurations
    assert (executor.room(small).now, executor.room(large).now) == (True, True)
    assert "this machine has 2 of the 4 H100" in executor.room(larger).lacking
    environment = "import os, sys; sys.stderr.write(os.environ['CUDA_VISIBLE_DEVICES']); sys.exit(1)"
    spec = served([sys.executable, "-c", environment])
    executor.start(job_of(spec, spec.configurations[0]))
    assert (executor.room(small).now, executor.room(large).now) == (True, False)
    reasons: list[str] = []
    while not reasons:
        reasons = [ended.reason for ended in executor.wait(1.0)]
    assert "GPU-a" in reasons[0]
    assert "GPU-b" not in reasons[0]
    assert executor.room(large).now


def children_running(words: str) -> list[psutil.Process]:
    """Return processes whose command holds the words, once they have had time to end."""
    until_s = time.monotonic() + GONE_WITHIN_S
    while True:
        found = [p for p in psutil.process_iter(["cmdline"]) if words in " ".join(p.info["cmdline"] or ())]
        if not found or time.monotonic() > until_s:
            return found
        time.sleep(0.2)


def test_a_killed_driver_loses_what_was_in_flight_and_nothing_else(tmp_path: Path) -> None:
    file, store = tmp_path / "sweep.toml", tmp_path / "store"
    file.write_text(embedded_text(batches=(1, 2, 3)))
    command = [sys.executable, "-m", "joulemap", "sweep", str(file), "--store", str(store)]
    driver = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert driver.stderr is not None
    for line in driver.stderr:
        if line.startswith("begins:") and "batch 2" in line:
            break
    # The worker of the second configuration runs by now; give its engine the time to be in the middle of it.
    time.sleep(2.0)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stderr.close()
    first = open_store(store).runs()
    assert [run.workload.max_concurrency for run in first] == [1]
    # Workers and engines end by themselves: they would spoil the next measurement.
    assert not children_running(f"{tmp_path}/joulemap-sweep-")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "1 of 3 configurations are in the store already" in again.stderr
    runs = open_store(store).runs()
    assert [run.workload.max_concurrency for run in runs] == [1, 2, 3]
    assert runs[0] == first[0]
