"""How an agent paces itself, and the limits that keep its memory and its labels bounded."""

from __future__ import annotations

from dataclasses import dataclass

from joulemap.errors import UsageError

METER_RATE_HZ = 1.0
"""Readings of the meters a second: energy counters need no more, and reading eight GPUs costs 0.1 ms each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """How an agent paces itself.

    Raises:
        UsageError: The times contradict each other.
    """

    interval_s: float = 5.0
    """Time between two scrapes, which are the edges of intervals; a scrape costs 0.1 to 8 ms of CPU."""
    rolling_s: float = 60.0
    """Time over which "now" is averaged."""
    settle_s: float = 120.0
    """Time after which joules are shared; longer than requests take, which are logged at their end."""
    diagnose_s: float = 120.0
    """Shortest time between two diagnoses, which cost about 0.2 s of CPU."""
    rediagnose_s: float = 600.0
    """A diagnosis is made anew after this time even if nothing has changed."""
    max_accounts: int = 100
    """Accounts with series of their own; the rest are billed together."""
    max_pending_requests: int = 200_000
    """Requests that may wait for their intervals; more are not billed one by one."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.interval_s <= self.rolling_s:
            msg = f"an interval of {self.interval_s:g} s does not fit into the last {self.rolling_s:g} s"
            raise UsageError(msg, fix="give --interval between 0.5s and the time of --rolling")
        if self.settle_s < 0:
            msg = f"joules cannot be shared {-self.settle_s:g} s before they are used"
            raise UsageError(msg, fix="give --settle a time of 0 s or more")
        if self.max_accounts < 1:
            msg = f"--max-accounts {self.max_accounts} leaves no account"
            raise UsageError(msg, fix="give at least 1")

    @property
    def keep_s(self) -> float:
        """How far back readings must be kept."""
        return self.rolling_s + 4.0 * self.interval_s + 60.0
