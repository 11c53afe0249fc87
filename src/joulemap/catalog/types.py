"""Facts about hardware, tasks and engines, each with its sources; model shapes are in their own modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Precision = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8", "mxfp4", "nvfp4", "int4"]
"""A number format, by one name everywhere; :attr:`Catalog.precisions` says how many bits each takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a datum was read."""

    title: str
    url: str
    date: str
    """When it was published or, where that is not stated, read (ISO 8601, to the month or day)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionFormat:
    """How a number format is stored."""

    name: Precision
    bits_per_weight: float
    """Bits of one weight, its share of the block's scales included."""
    compute_class: str
    """The key of :attr:`GpuModel.peak_flops_per_s` at which a GPU with native support multiplies it."""
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuModel:
    """One GPU as sold; peaks are dense (no structured sparsity) and at boost clock.

    A figure that its maker does not publish is ``None``; ``missing`` says why.
    """

    id: str
    """Short name, for example ``"H100"``."""
    name: str
    """The maker's full name."""
    vendor: str
    generation: str
    """Architecture generation, for example ``"Hopper"``."""
    release_year: int
    aliases: tuple[str, ...]
    """Other names, those that drivers report among them."""
    memory_bytes: int
    """Memory as the driver reports it."""
    memory_bandwidth_bytes_per_s: float
    memory_kind: str
    peak_flops_per_s: Mapping[str, float]
    """Dense peak by number format: ``bf16``, ``fp16``, ``tf32``, ``fp8``, ``int8``, ``fp4``."""
    tdp_w: float
    idle_power_w: float | None
    """No process on the GPU."""
    loaded_idle_power_w: float | None
    """A model in memory, an engine running, no request."""
    nvlink_bandwidth_bytes_per_s: float | None
    """Both directions together, to all peers; of AMD GPUs, Infinity Fabric. ``None``: no such links."""
    pcie_bandwidth_bytes_per_s: float
    """Both directions together."""
    sm_count: int
    """Streaming multiprocessors; of AMD GPUs, compute units."""
    boost_clock_hz: float | None
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a figure is ``None``, by field name."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Source by field name; ``""`` holds that of every field not listed."""
