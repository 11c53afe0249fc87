"""What was measured of a run, and how much of it may be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from datetime import datetime

from joulemap.records.quantity import Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The quantities of one run, over its steady-state window; ``None`` where a source has none.

    Power and GPU energy are those of all GPUs of the configuration together.

    Raises:
        ValueError: A quantity is not finite, or negative, or a share lies outside 0…1.
    """

    energy_per_output_j: float | None = None
    """GPU energy per token, image or video (see ``Workload.output_unit``), prefill included."""
    energy_per_request_j: float | None = None
    power_w: float | None = None
    """Mean power."""
    batch_size: float | None = None
    """The *achieved* number of requests running together, averaged over time."""
    output_throughput_per_s: float | None = None
    """Output tokens, images or videos per second."""
    request_throughput_per_s: float | None = None
    itl_mean_s: float | None = None
    itl_median_s: float | None = None
    itl_p90_s: float | None = None
    itl_p95_s: float | None = None
    itl_p99_s: float | None = None
    ttft_mean_s: float | None = None
    ttft_median_s: float | None = None
    ttft_p90_s: float | None = None
    ttft_p95_s: float | None = None
    ttft_p99_s: float | None = None
    tpot_mean_s: float | None = None
    tpot_median_s: float | None = None
    tpot_p99_s: float | None = None
    latency_mean_s: float | None = None
    """Mean time from request to last output; for diffusion, of one batch."""
    latency_median_s: float | None = None
    latency_p99_s: float | None = None
    duration_s: float | None = None
    """Length of the window over which all of this was measured."""
    gpu_energy_j: float | None = None
    cpu_energy_j: float | None = None
    dram_energy_j: float | None = None
    idle_power_w: float | None = None
    """Power before the server was started."""
    loaded_idle_power_w: float | None = None
    """Power with the model in memory and no request."""
    completed_requests: int | None = None
    failed_requests: int | None = None
    total_input_tokens: int | None = None
    total_output_tokens: int | None = None
    kv_cache_utilization: float | None = None
    """Used blocks ÷ available blocks, averaged over time."""
    prefix_cache_hit_rate: float | None = None
    requests_waiting: float | None = None
    """Mean length of the engine's queue."""
    preemptions: int | None = None
    memory_bandwidth_utilization: float | None = None
    compute_utilization: float | None = None
    """Share of the tensor pipes' cycles in use."""
    sm_utilization: float | None = None
    sm_occupancy: float | None = None
    communication_fraction: float | None = None
    starved_fraction: float | None = None
    nvlink_bytes_per_s: float | None = None
    pcie_bytes_per_s: float | None = None
    engine_flops_per_s: float | None = None
    """Floating-point operations per second and GPU as the engine reports them."""
    engine_bytes_per_s: float | None = None
    """Memory traffic per second and GPU as the engine reports it."""
    gpu_temperature_c: float | None = None
    client_cpu_share: float | None = None
    """Cores that the load client itself used."""

    def __post_init__(self) -> None:
        for name, value in present(self).items():
            if not math.isfinite(value):
                msg = f"{name} must be finite, not {value!r}"
                raise ValueError(msg)
            if value < 0 and name != "gpu_temperature_c":
                msg = f"{name} cannot be negative: {value!r}"
                raise ValueError(msg)
            if name in _SHARES and value > 1.0:
                msg = f"{name} is a share of one: {value!r}"
                raise ValueError(msg)


_SHARES = frozenset(
    {
        "kv_cache_utilization",
        "prefix_cache_hit_rate",
        "memory_bandwidth_utilization",
        "compute_utilization",
        "sm_utilization",
        "sm_occupancy",
        "communication_fraction",
        "starved_fraction",
    }
)


def present(measured: Measured) -> dict[str, float]:
    """Return the quantities that are not ``None``, by name."""
    pairs = ((f.name, getattr(measured, f.name)) for f in fields(measured))
    return {name: value for name, value in pairs if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Whether a run may be used, and why not. An invalid run is kept, but never used silently."""

    valid: bool = True
    reasons: tuple[str, ...] = ()
    """Why the run is invalid, or what a careful reader should know of a valid one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a run comes from; never part of its identity."""

    source: str
    """The dataset, tool or session, for example ``"ML.ENERGY leaderboard 2026-02-16"``."""
    source_file: str | None = None
    source_row: int | None = None
    """Position in the source file; of two runs with one configuration, the later counts."""
    importer: str | None = None
    measured_at: datetime | None = None
    meter: str | None = None
    configuration_id: str | None = None
    """The configuration of a sweep that the run measured."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.measured_at is not None and self.measured_at.tzinfo is None:
            msg = f"measured_at must be UTC-aware: {self.measured_at!r}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """What is not plainly measured in a run: other bases, known intervals, reasons for gaps."""

    basis: dict[str, Basis] = field(default_factory=dict)
    """Basis of each quantity that is not ``measured``."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """90 % interval of each quantity for which one is known."""
    missing: dict[str, str] = field(default_factory=dict)
    """Reason why a quantity that one would expect is ``None``."""
