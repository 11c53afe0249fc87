"""A sweep on a real Ray cluster of two nodes on this machine: placing, a killed node, a killed driver, resuming.

Nodes listen on two addresses of the loopback interface and want a token. The measured server is the embedded
engine; "H100" and "B200" are names that the nodes offer, as real ones would, and no GPU is there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from joulemap.store.run_store import open_store
from tests.measure.sweep.sweeps import embedded_text

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra ray)"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs 127.0.0.2 and 127.0.0.3 on loopback"),
]

HEAD, OTHER = "127.0.0.2", "127.0.0.3"
READY_WITHIN_S = 240.0
END_WITHIN_S = 300.0
OBJECT_STORE_BYTES = 80_000_000


class Cluster:
    """Two nodes; the second can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Ray's sockets lie under its folder, and their names must be short.
        self.port = free_port(HEAD)
        self.address = f"{HEAD}:{self.port}"
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            # A busy machine takes longer to start a worker than the 60 s that Ray allows.
            "RAY_worker_register_timeout_seconds": "300",
        }
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, node: str, gpu: str) -> None:
        head = ["--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        log = self.folder / f"{node}.log"
        self.folder.mkdir(exist_ok=True)
        words = head if node == HEAD else [f"--address={self.address}"]
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--block", *words, f"--node-ip-address={node}"),
            *("--num-cpus=1", f"--object-store-memory={OBJECT_STORE_BYTES}"),
            f"--resources={json.dumps({gpu: 1})}",
        ]
        until_s = time.monotonic() + READY_WITHIN_S
        while True:
            with log.open("wb") as out:
                self._nodes[node] = subprocess.Popen(command, stdout=out, stderr=out, env=self.environment)
            while self._nodes[node].poll() is None and time.monotonic() < until_s:
                if b"Ray runtime started" in log.read_bytes():
                    return
                time.sleep(0.2)
            # A busy machine takes longer than the 30 s that Ray allows its processes to start.
            self.kill(node)
            if time.monotonic() > until_s:
                msg = f"the node {node} did not start: {log.read_text()[-500:]}"
                raise AssertionError(msg)

    def kill(self, node: str) -> None:
        """Kill a node with everything that it started, as a machine that loses power."""
        process = self._nodes.pop(node)
        with contextlib.suppress(psutil.NoSuchProcess):
            for part in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    part.kill()
        process.wait()

    def close(self) -> None:
        for node in list(self._nodes):
            self.kill(node)


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="jm", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder) / "r")
        try:
            made.start(HEAD, "H100")
            made.start(OTHER, "B200")
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def driver(cluster: Cluster, file: Path, store: Path) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "joulemap",
        "sweep",
        str(file),
        "--ray",
        cluster.address,
        "--store",
        str(store),
    ]
    with subprocess.Popen(
        [*command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cluster.environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], *words: str) -> None:
    """Read a driver's lines until one holds all the words."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if all(word in line for word in words):
            return
    msg = f"no line with {words} in {''.join(seen)}"
    raise AssertionError(msg)


def test_a_sweep_survives_a_killed_node_and_a_killed_driver(cluster: Cluster, tmp_path: Path) -> None:
    file, store = tmp_path / "sweep.toml", tmp_path / "store"
    file.write_text(embedded_text(gpus=("H100", "B200"), batches=(1, 2), retries=0))

    with driver(cluster, file, store) as first:
        wait_for(first, "begins:", "B200")
        time.sleep(3.0)
        cluster.kill(OTHER)
        out, _ = first.communicate(timeout=END_WITHIN_S)
    told = json.loads(out)
    assert first.returncode == 2
    assert len(told["runs"]) == 2, told["attempts"]
    nodes = {a["node"] for a in told["attempts"] if a["end"] == "measured"}
    assert all(HEAD in node for node in nodes), nodes
    # Ray notices a lost node after a while: until then it may have sent the second configuration there too.
    ends = sorted(f["end"] for f in told["without_run"].values())
    assert ends in (["no node", "node lost"], ["node lost", "node lost"])
    for failure in told["without_run"].values():
        assert failure["end"] == "node lost" or "1 B200" in failure["reason"]

    cluster.start(OTHER, "B200")
    with driver(cluster, file, store) as second:
        wait_for(second, "measured", OTHER)
        second.send_signal(signal.SIGKILL)
        second.communicate()
    kept = {run.provenance.configuration_id for run in open_store(store).runs()}
    assert len(kept) == 3

    with driver(cluster, file, store) as third:
        out, _ = third.communicate(timeout=END_WITHIN_S)
    told = json.loads(out)
    assert third.returncode == 0
    assert set(told["before"]) == kept
    (attempt,) = told["attempts"]
    assert OTHER in attempt["node"]
    # Nothing was measured twice: four configurations, four runs.
    assert len(open_store(store).runs()) == 4


def test_a_cluster_that_does_not_answer_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from joulemap.cli.app import run

    file = tmp_path / "sweep.toml"
    file.write_text(embedded_text(gpus=("H100",)))
    code = run(["sweep", str(file), "--ray", f"{OTHER}:1", "--store", str(tmp_path / "store")])
    assert code == 3
    assert f"the Ray cluster at {OTHER}:1 cannot be reached" in capsys.readouterr().err
