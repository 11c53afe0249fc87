"""Watches a client from outside: its processes' CPU and memory, and what the server has sent meanwhile."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

TOKENS_SENT = "vllm:generation_tokens_total"
LOOK_EVERY_S = 0.5
WITHIN_S = 400.0
SETTLED_SHARE = 0.3
"""The stretch over which CPU is counted ends at this share of the tokens before the end, and begins at it."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a running client."""

    time_s: float
    cpu_s: float
    rss_bytes: int
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was seen of a client from outside."""

    tokens_per_s: float
    cpu_ms_per_1000_tokens: float
    peak_rss_mb: float
    """Of all its processes together, while the server was streaming."""


def server_metric(url: str, name: str) -> float:
    """Return one of the server's metrics."""
    with urllib.request.urlopen(f"{url}/metrics") as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith(name):
                return float(line.split()[1])
    raise LookupError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a process runs: a core, and whether it goes before all ordinary work on it."""

    core: int
    realtime: bool

    def take(self, pid: int = 0) -> None:
        """Put a process (0: this one) and its children to come there."""
        os.sched_setaffinity(pid, {self.core})
        if self.realtime:
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


def run_observed(command: list[str], url: str, *, place: Place, env: dict[str, str], log: Path) -> Observed:
    """Run a client on one core and watch it and its children.

    Args:
        command: The client.
        url: The server that it loads.
        place: Where the client and all its children run.
        env: Environment variables on top of this process's own.
        log: Where its output goes.

    Raises:
        RuntimeError: It failed, or took too long.
    """
    looks: list[Look] = []
    gone: dict[int, float] = {}
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env}, stdin=subprocess.DEVNULL,
            preexec_fn=place.take,
        )  # fmt: skip
        try:
            end_s = time.monotonic() + WITHIN_S
            while child.poll() is None:
                looks.append(_look(psutil.Process(child.pid), url, gone))
                if time.monotonic() > end_s:
                    msg = f"took more than {WITHIN_S:.0f} s"
                    raise RuntimeError(msg)
                time.sleep(LOOK_EVERY_S)
        finally:
            _end(child)
    if child.returncode:
        words = log.read_text(errors="replace").strip().splitlines()
        msg = f"exit code {child.returncode}: {words[-1] if words else ''}"
        raise RuntimeError(msg)
    return _observed(looks)


def _look(process: psutil.Process, url: str, cpu_of: dict[int, float]) -> Look:
    rss_bytes = 0
    try:
        for one in (process, *process.children(recursive=True)):
            with one.oneshot():
                times = one.cpu_times()
                cpu_of[one.pid] = times.user + times.system
                rss_bytes += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return Look(time.monotonic(), sum(cpu_of.values()), rss_bytes, server_metric(url, TOKENS_SENT))


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        family = psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if child.poll() is None:
        child.kill()
    for one in family:
        if one.is_running():
            one.kill()
    child.wait()


def _observed(looks: list[Look]) -> Observed:
    total = looks[-1].tokens
    inside = [look for look in looks if SETTLED_SHARE * total <= look.tokens <= (1 - SETTLED_SHARE / 2) * total]
    first, last = inside[0], inside[-1]
    tokens = last.tokens - first.tokens
    return Observed(
        tokens_per_s=tokens / (last.time_s - first.time_s),
        cpu_ms_per_1000_tokens=(last.cpu_s - first.cpu_s) / tokens * 1e6,
        peak_rss_mb=max(look.rss_bytes for look in looks if look.tokens < total) / 1e6,
    )
