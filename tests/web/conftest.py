"""A real server in a process of its own, and a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from joulemap.store.run_store import RunStore

Serve = Callable[..., str]
CHROMIUM = Path("/usr/bin/chromium")


@contextmanager
def serving(*options: str, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Serve in a process of its own, at a free port; yield its address."""
    command = [sys.executable, "-m", "joulemap", "serve", "--port", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    assert process.stderr is not None
    told = []
    try:
        for line in process.stderr:
            told.append(line)
            if found := re.search(r"http://\S+:\d+", line):
                yield found.group()
                break
        else:
            pytest.fail(f"the server did not start: {''.join(told)}")
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="session")
def study_site(study_store: RunStore) -> Iterator[str]:
    """Address of a server over the study's runs."""
    with serving("--store", str(study_store.folder)) as address:
        yield address
