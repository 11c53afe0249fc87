"""Facts about hardware, tasks and engines, each with its sources; model shapes are in their own modules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Precision = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8", "mxfp4", "nvfp4", "int4"]
"""A number format, by one name everywhere; :attr:`Catalog.precisions` says how many bits each takes."""


Reading = Literal["original", "copy", "recalled"]
"""How a datum was taken from its source: read in it; read in a verbatim copy or a table that quotes it; or
known of it but not read again while the catalog was written."""

CatalogBasis = Literal["measured", "assumed"]
"""Whether a statistic was measured, or is a stated guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a datum was read."""

    title: str
    url: str
    date: str
    """When it was published or, where that is not stated, read (ISO 8601, to the month or day)."""
    read: Reading = "original"
    """How the datum was taken from it; see :data:`Reading`."""


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
    sm_count: int | None
    """Streaming multiprocessors; of AMD GPUs, compute units."""
    boost_clock_hz: float | None
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a figure is ``None``, by field name."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Source by field name; ``""`` holds that of every field not listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthStatistics:
    """Lengths of a task's requests or replies, in tokens."""

    mean_tokens: float
    low_tokens: float
    """Lowest mean that a model showed or, where assumed, a plausible one."""
    high_tokens: float
    """Highest mean that a model showed or, where assumed, a plausible one."""
    median_tokens: float | None = None
    p90_tokens: float | None = None
    p99_tokens: float | None = None
    basis: CatalogBasis
    note: str
    """What was averaged, or what the guess rests on."""
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A kind of work that was measured."""

    id: str
    """For example ``"gpqa"``."""
    display_name: str
    """The study's name for it, for example ``"Problem Solving"``."""
    aliases: tuple[str, ...]
    description: str
    dataset: str
    input_modality: Literal["text", "image", "video"]
    output_unit: Literal["token", "image", "video"]
    images_per_request: int = 0
    videos_per_request: int = 0
    max_output_tokens: int | None = None
    """Cap on a reply's length in the study."""
    input_lengths: LengthStatistics | None = None
    """Text of the prompt, vision tokens excluded; ``None`` for diffusion, whose prompts are padded."""
    output_lengths: LengthStatistics | None = None
    """``None`` for diffusion."""
    sources: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDefaults:
    """An engine's scheduling defaults on GPUs with at least so much memory."""

    min_gpu_memory_bytes: int
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_cuda_graph_batch: int | None = None
    """Largest batch replayed from a captured graph; larger ones launch kernel by kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A serving engine's defaults; what it does not have, or does not fix, is ``None``."""

    id: str
    name: str
    version: str
    aliases: tuple[str, ...]
    serves: Literal["language", "diffusion"]
    gpu_memory_utilization: float | None = None
    """Share of GPU memory that it takes for weights, activations and cache."""
    block_size_tokens: int | None = None
    """Tokens in one block of the KV cache."""
    context_bytes: int | None = None
    """GPU memory that a process takes before it allocates anything."""
    prefix_caching: bool | None = None
    chunked_prefill: bool | None = None
    batch_defaults: tuple[BatchDefaults, ...] = ()
    """By GPU memory, largest first."""
    samples_without_sorting_from: str | None = None
    """First version that samples by top-p or top-k without sorting the vocabulary; ``None`` where not known."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a default is ``None``, by field name."""
    sources: Mapping[str, Source] = field(default_factory=dict)

    def samples_without_sorting(self, version: str) -> bool:
        """Return whether a version, such as ``0.25.1``, is known to sample without sorting the vocabulary."""
        since = self.samples_without_sorting_from
        return since is not None and _release(version) >= _release(since)


def _release(version: str) -> tuple[int, ...]:
    """Return a version's numbers, as far as they are numbers: what follows (``rc1``, ``+cu130``) does not count."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return () if found is None else tuple(int(n) for n in found[1].split("."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A GPU server: what it draws beside its GPUs."""

    id: str
    name: str
    gpu: str
    """Id of its GPU model."""
    num_gpus: int
    rated_power_w: float
    """The maker's maximum for the whole server."""
    host_power_w: float | None = None
    """Power of all but the GPUs (processors, memory, fans, network, conversion) under load."""
    host_power_high_w: float
    """Upper bound of it: the rated power less the GPUs' TDP."""
    missing: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facility:
    """What a data centre draws for each watt that its servers draw."""

    id: str
    name: str
    pue: float
    """Power usage effectiveness: facility power ÷ IT power."""
    sources: Mapping[str, Source] = field(default_factory=dict)
