"""The mock server in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from joulemap.measure.mock_server.behaviour import MockBehaviour


class MockServerProcess:
    """The mock server in a process of its own, for as long as the ``with`` block lasts.

    Args:
        behaviour: What the server does.
        tls: Certificate and key file, to speak https.
        env: Environment variables on top of this process's own.
        port: TCP port; 0 takes a free one.

    Raises:
        RuntimeError: The process did not start.
    """

    def __init__(
        self,
        behaviour: MockBehaviour | None = None,
        *,
        tls: tuple[Path, Path] | None = None,
        env: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        argv = [sys.executable, "-m", "joulemap.measure.mock_server", "--port", str(port)]
        for name, value in asdict(behaviour or MockBehaviour()).items():
            argv += [f"--{name.replace('_', '-')}={value}"]
        if tls is not None:
            argv += ["--certificate", str(tls[0]), "--key", str(tls[1])]
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        found = re.search(r"https?://\S+", line)
        if found is None:
            self.stop()
            msg = f"the mock server did not start: it said {line!r}"
            raise RuntimeError(msg)
        self.url = found.group()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.process.pid

    def stop(self) -> None:
        """End the process and wait for it."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
