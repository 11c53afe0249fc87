"""vLLM on the CPU, from an environment of its own: a process to start, to ask and to kill."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from joulemap.measure.telemetry.sample import TelemetrySample
from joulemap.measure.telemetry.vllm import VLLM

MODEL = "tiny"
CONTEXT_TOKENS = 2048
READY_WITHIN_S = 540.0
ENVIRONMENT = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def vllm_python() -> Path | None:
    """Return the interpreter of an environment with vLLM; ``None`` where the caller named none."""
    given = os.environ.get("JOULEMAP_VLLM_PYTHON")
    return Path(given) if given else None


class VllmServer:
    """A server that serves a checkpoint with made-up weights, for as long as the ``with`` block lasts."""

    def __init__(self, python: Path, checkpoint: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log_path = log
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [
                *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--model", str(checkpoint), "--served-model-name", MODEL, "--load-format", "dummy"),
                *("--max-model-len", str(CONTEXT_TOKENS), "--max-num-seqs", "32"),
                *("--enforce-eager", "--enable-mfu-metrics"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ENVIRONMENT},
            # A session of its own, so that its engine process can be ended with it.
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + READY_WITHIN_S
        while True:
            with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{self.url}/health"):
                return
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline_s:
                last = "\n".join(self._log_path.read_text(errors="replace").splitlines()[-20:])
                msg = f"vLLM did not start (exit code {ended}):\n{last}"
                raise RuntimeError(msg)
            time.sleep(0.5)

    def sample(self) -> TelemetrySample:
        """Return what the server's own counters say now."""
        with urllib.request.urlopen(f"{self.url}/metrics") as reply:
            return VLLM.sample(reply.read().decode(), self.url)

    def kill(self) -> None:
        """End all of its processes at once, as the kernel does when memory runs out; a second time does nothing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
