"""What a plan is asked for: sites with a power cap, GPU pools, demands, and what counts as good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from joulemap.records import LengthDistribution
from joulemap.units import S_PER_YEAR

Objective = Literal["value", "energy", "cost", "carbon"]
PowerCounted = Literal["mean", "p95", "p99", "rated"]
"""Power that the cap must hold: the mean, a percentile of the site's momentary power, or every GPU at its TDP."""

ByHour = tuple[float, ...]
"""One value for every hour of the plan; a single value counts for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """GPUs of one model at a site."""

    gpu_model: str
    """The catalog's id."""
    num_gpus: int | None
    """How many there are; ``None``: as many as the money buys."""
    price_usd: float | None = None
    """Price of one GPU with its share of the server."""
    server_power_w: float | None = None
    """What the server draws beside each GPU under load; the catalog's figure if ``None``."""
    unused_power_w: float = 0.0
    """What a GPU without a replica draws, its share of the server included; 0: it is switched off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place with a hard cap on its facility power."""

    name: str
    cap_w: ByHour
    """Most power that the facility may draw: (GPUs + servers) × PUE."""
    pue: float
    pools: tuple[Pool, ...]
    electricity_usd_per_kwh: ByHour = ()
    carbon_g_per_kwh: ByHour = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Limits on latency; ``None`` is no limit."""

    itl_median_s: float | None = None
    itl_p99_s: float | None = None
    ttft_median_s: float | None = None
    latency_s: float | None = None
    """Time from request to last output (language), or of a batch (diffusion)."""

    def limits(self) -> dict[str, float]:
        """Return the limits that are set, by name."""
        pairs = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in pairs if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Requests of one task that ask to be served."""

    name: str
    task: str
    requests_per_s: ByHour | None = None
    outputs_per_s: ByHour | None = None
    """Tokens, images or videos per second; exactly one of the two rates is given."""
    value: float = 1.0
    """Worth of one request (or output, where the rate counts outputs), in any unit of one's own."""
    priority: int = 1
    """Demands of a higher priority are served first, whatever their value."""
    models: Mapping[str, float] = field(default_factory=dict)
    """Admissible models with the share of ``value`` that each earns; every model measured on the task if empty."""
    min_quality: int | None = None
    """Least quality tier of an admissible model."""
    precisions: tuple[str, ...] = ()
    """Admissible weight precisions; all if empty."""
    slo: Slo = field(default_factory=Slo)
    mean_input_tokens: float | None = None
    mean_output_tokens: float | None = None
    """Lengths other than those measured on the task; options are then modelled."""
    output_lengths: LengthDistribution | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    """Everything that a plan is made from."""

    sites: tuple[Site, ...]
    demands: tuple[Demand, ...]
    hours: int = 1
    """Hours of the plan: the length of its longest list by hour."""
    objective: Objective = "value"
    power: PowerCounted = "mean"
    confidence: float | None = None
    """Plan with powers and throughputs at the pessimistic end of intervals of this confidence."""
    headroom_fraction: float = 0.0
    """Share of each replica's throughput that is kept free for bursts."""
    fixed_replicas: bool = False
    """Keep the same replicas in every hour."""
    qualities: Mapping[str, int] = field(default_factory=dict)
    """Quality tier by model."""
    money_usd: float | None = None
    """What may be spent on GPUs of pools without a count."""
    lifetime_s: float = 4.0 * S_PER_YEAR
    """Over which purchases are written off."""


def at_hour(values: ByHour, hour: int) -> float:
    """Return the value of an hour; a single value counts for every hour."""
    return values[hour] if len(values) > 1 else values[0]
