"""What the web application is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

SHORTEST_TOKEN = 16
"""Characters; a shorter one could be guessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where runs are, who may ask, and how much work is done at once."""

    store: str | None = None
    """Folder or URL of the run store; the default one if ``None``."""
    host: str = "127.0.0.1"
    port: int = 8180
    token: str | None = None
    """What visitors have to show; ``None`` only where the address is a loopback one."""
    allowed_hosts: frozenset[str] = frozenset()
    """Names, beside addresses and ``localhost``, under which the application may be asked for."""
    workers: int = 2
    """Answers that are computed at once."""
    waiting: int = 16
    """Requests that may wait for a worker; more are turned away."""
    time_limit_s: float = 30.0
    """Longest that one answer may take."""
    apart_limit_s: float = 90.0
    """Longest that a plan, or the diagnosis of all runs, may take, each made in a process of its own."""
    streams: int = 16
    """Live pages that are fed at once."""

    def __repr__(self) -> str:
        """Return a text without the token."""
        return f"Settings(store={self.store!r}, host={self.host!r}, port={self.port})"


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone.

    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
