"""What to ask of a server: how many requests at which times, of which lengths, and when to give up."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from joulemap.errors import UsageError
from joulemap.measure.load.prompts import Prompts, SyntheticPrompts

SEED_BITS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """A fixed number of requests in flight: as one ends, the next begins."""

    concurrency: int
    ramp_s: float = 0.0
    """Time over which the first requests are spread, so that they do not all begin at once."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            msg = f"the concurrency must be at least 1, not {self.concurrency}"
            raise UsageError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Requests that arrive whether or not earlier ones are done, with gamma-distributed gaps."""

    rate_per_s: float
    variation: float = 1.0
    """Standard deviation ÷ mean of the gaps: 1 is Poisson, more is burstier, less more regular."""
    max_in_flight: int = 4096
    """Requests held open at most; those beyond wait in the client, which makes the run invalid."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_per_s) and self.rate_per_s > 0):
            msg = f"the request rate must be positive, not {self.rate_per_s!r}"
            raise UsageError(msg)
        if not (math.isfinite(self.variation) and self.variation > 0):
            msg = f"the variation of the gaps must be positive, not {self.variation!r}"
            raise UsageError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Requests at recorded times."""

    offsets_s: tuple[float, ...]
    """Arrival of each request after the first, not falling."""
    speed: float = 1.0
    """2 replays in half the time."""
    max_in_flight: int = 4096

    def __post_init__(self) -> None:
        if not self.offsets_s:
            msg = "a replay needs at least one request"
            raise UsageError(msg)
        if any(b < a for a, b in zip(self.offsets_s, self.offsets_s[1:], strict=False)):
            msg = "the arrival times of a replay must not fall"
            raise UsageError(msg)
        if not (math.isfinite(self.speed) and self.speed > 0):
            msg = f"the speed of a replay must be positive, not {self.speed!r}"
            raise UsageError(msg)


Arrivals = ClosedLoop | OpenLoop | Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long the client waits, and when it gives up."""

    connect_s: float = 10.0
    first_token_s: float = 600.0
    """From the request to the first content; a full server may queue a request for long."""
    stall_s: float = 60.0
    """Between two arrivals once content has begun."""
    request_s: float = 3600.0
    drain_s: float = 0.0
    """How long requests in flight may still run when the load ends; those left are kept as unfinished."""
    failures_in_a_row: int = 64
    """Failures without a success between them after which a worker gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """A load: arrivals, prompts, and its end."""

    arrivals: Arrivals
    prompts: Prompts = field(default_factory=SyntheticPrompts)
    duration_s: float | None = None
    """The load ends after this time; ``None`` leaves it to ``max_requests`` or to whoever started it."""
    max_requests: int | None = None
    """The load ends after this many requests."""
    seed: int = field(default_factory=lambda: secrets.randbits(SEED_BITS))
    """Decides the prompts and arrivals; a fresh one for each plan, since a server whose prefix cache has seen
    the same prompts before would answer with less work."""
    limits: Limits = field(default_factory=Limits)
    extra_body: Mapping[str, object] = field(default_factory=dict)
    """Fields added to every request's body, for example ``{"temperature": 0}``."""

    @property
    def in_flight_target(self) -> int | None:
        """Requests that the client tries to keep in flight; ``None`` in an open loop."""
        return self.arrivals.concurrency if isinstance(self.arrivals, ClosedLoop) else None
