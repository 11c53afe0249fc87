"""A clock that tests move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
BEGIN_MONO_S = 1000.0


class HandClock:
    """Time stands still until someone moves it; the wall clock can be set apart from the monotonic one."""

    def __init__(self) -> None:
        self.mono_s = BEGIN_MONO_S
        self.wall_offset_s = 0.0

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.mono_s - BEGIN_MONO_S + self.wall_offset_s)

    def monotonic_s(self) -> float:
        return self.mono_s

    def sleep(self, seconds_s: float) -> None:
        self.mono_s += seconds_s
