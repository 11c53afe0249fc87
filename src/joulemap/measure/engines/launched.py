"""A server that is started for a measurement: as a process, or in a container of docker or podman."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, cast

from joulemap.errors import InfeasibleError, ServerError
from joulemap.measure.load.probe import served_models
from joulemap.measure.load.target import Target

ASK_EVERY_S = 0.5
END_WITHIN_S = 30.0
"""Time for the guard to end the server, and for a container to be removed."""
SHOWN_WORDS = 300
NO_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|No available memory for the cache blocks"
    r"|larger than the (?:available|maximum) (?:KV cache|number of tokens)|Not enough memory|cannot fit in",
    re.IGNORECASE,
)
"""What vLLM, SGLang and PyTorch log where the model, or its KV cache, does not fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """How a command is run in a container."""

    image: str
    runtime: str = "docker"
    mounts: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    """The node's GPUs that it may use, by index or UUID; none means no GPU."""
    name: str = field(default_factory=lambda: f"joulemap-{uuid.uuid4().hex[:12]}")

    def command(self, inside: Sequence[str], port: int, environment: Mapping[str, str]) -> list[str]:
        """Return the command that runs ``inside`` with a port on the loopback interface.

        The values of the environment are passed by name only, so that the list of processes shows none.
        """
        words = [self.runtime, "run", "--rm", "--name", self.name, "--ipc", "host"]
        words += ["--publish", f"127.0.0.1:{port}:{port}"]
        if self.gpus and self.runtime == "podman":
            words += [word for gpu in self.gpus for word in ("--device", f"nvidia.com/gpu={gpu}")]
        elif self.gpus:
            words += ["--gpus", f'"device={",".join(self.gpus)}"']
        words += [word for mount in self.mounts for word in ("--volume", mount)]
        words += [word for name in environment for word in ("--env", name)]
        return [*words, "--entrypoint", inside[0], self.image, *inside[1:]]

    def removal(self) -> list[str]:
        """Return the command that removes the container, whatever state it is in."""
        return [self.runtime, "rm", "--force", self.name]


class LaunchedServer:
    """A running server, for as long as it is not stopped, and never longer than its parent.

    Args:
        command: Program and arguments; in a container, what is run there.
        port: Where it will listen.
        environment: Variables on top of this process's own.
        container: The container, if it is to run in one.
        ready_within_s: Time in which it must answer.

    Raises:
        InfeasibleError: The model does not fit into memory.
        ServerError: The server did not start.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        *,
        environment: Mapping[str, str],
        container: Container | None = None,
        ready_within_s: float,
    ) -> None:
        self.target = Target(url=f"http://127.0.0.1:{port}", model="")
        self._program = command[0]
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        full = list(command) if container is None else container.command(command, port, environment)
        orders = {"command": full, "afterwards": [container.removal()] if container is not None else []}
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "joulemap.measure.engines.guard"],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        stdin = cast(IO[bytes], self._guard.stdin)
        try:
            stdin.write(json.dumps(orders).encode() + b"\n")
            stdin.flush()
            self._wait(ready_within_s)
        except BaseException:
            self.stop()
            raise

    def _wait(self, ready_within_s: float) -> None:
        until_s = time.monotonic() + ready_within_s
        while time.monotonic() < until_s:
            if self._guard.poll() is not None:
                raise self._died()
            with contextlib.suppress(ServerError):
                served_models(self.target)
                return
            time.sleep(ASK_EVERY_S)
        msg = f"{self._program} did not answer within {ready_within_s:g} s; it last said: {self._last_words()}"
        raise ServerError(msg, fix="raise ready_within_s in [launch], or look why it loads so long")

    def _died(self) -> ServerError | InfeasibleError:
        said = self._said()
        code = self._guard.returncode
        if found := NO_MEMORY.search(said):
            line = next(line for line in said.splitlines() if found.group() in line)
            return InfeasibleError(f"{self._program} found too little memory: {line.strip()[:SHOWN_WORDS]}")
        return ServerError(f"{self._program} ended with exit code {code}; it last said: {self._last_words()}")

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _last_words(self) -> str:
        lines = [line for line in self._said().splitlines() if line.strip()]
        return lines[-1].strip()[:SHOWN_WORDS] if lines else "nothing"

    def stop(self) -> None:
        """End the server and wait until it is gone; a second call does nothing."""
        stdin = self._guard.stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()
        try:
            self._guard.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        if not self._log.closed:
            self._log.close()


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
