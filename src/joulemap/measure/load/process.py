"""What the client asks of its own process: enough open files, its peak memory, a fast event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from joulemap.errors import EnvironmentLacksError
from joulemap.units import BYTES_PER_KIB

T = TypeVar("T")


def run_in_fast_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop where there is one (it has no build for Windows)."""
    run: Callable[[Coroutine[Any, Any, T]], T]
    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run
    return run(main)


def allow_open_files(count: int) -> None:
    """Raise this process's limit of open files to ``count`` if it is lower.

    Raises:
        EnvironmentLacksError: The system's hard limit is lower still.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        msg = f"{count} open connections are needed, but this system allows a process {hard} open files"
        raise EnvironmentLacksError(msg, fix=f"ulimit -Hn {count}   (as root), or use more workers")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def peak_rss_bytes() -> int:
    """Return the most memory that this process has held; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux its figure starts from that of the process which started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * BYTES_PER_KIB
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0
