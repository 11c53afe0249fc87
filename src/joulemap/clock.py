"""Injected time: a UTC wall clock for stamps, a monotonic clock for durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What measuring code may know of time; tests inject their own."""

    def now(self) -> datetime:
        """Return the UTC-aware wall-clock time."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never steps back."""
        ...

    def sleep(self, seconds_s: float) -> None:
        """Wait for ``seconds_s`` seconds."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the UTC-aware wall-clock time."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds on the machine's monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds_s: float) -> None:
        """Wait for ``seconds_s`` seconds."""
        time.sleep(seconds_s)
