"""What served the work: the model, its precision, the GPUs and how the engine was set."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model on a system; a setting that a source does not state is ``None``."""

    model_id: str
    """The model as its publisher names it, for example ``"Qwen/Qwen3-32B"``."""
    nickname: str | None = field(default=None, metadata={"attachment": True})
    """A short name for people; never part of a run's identity."""
    gpu_model: str | None = None
    """The catalog's short name of the GPU, for example ``"H100"``; the source's own where it has none."""
    num_gpus: int | None = None
    weight_precision: str | None = None
    """Weights as served: ``bfloat16``, ``float16``, ``fp8``, ``mxfp4``, …"""
    kv_cache_precision: str | None = None
    architecture: str | None = field(default=None, metadata={"attachment": True})
    """The source's word for the kind of model, for example ``"MoE"``."""
    total_params_billions: float | None = field(default=None, metadata={"attachment": True})
    activated_params_billions: float | None = field(default=None, metadata={"attachment": True})
    tensor_parallel: int | None = None
    expert_parallel: int | None = None
    data_parallel: int | None = None
    """Attention data parallelism (replicas of the attention layers)."""
    pipeline_parallel: int | None = None
    ulysses_degree: int | None = None
    ring_degree: int | None = None
    max_num_seqs: int | None = None
    """The configured batch ceiling of an LLM engine; the achieved batch is ``Measured.batch_size``."""
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    gpu_memory_utilization: float | None = None
    """Share of GPU memory that the engine was allowed to take."""
    torch_compile: bool | None = None
    engine: str | None = None
    """The engine's name, for example ``"vllm"``."""
    engine_version: str | None = None
    power_limit_w: float | None = None
    """Power cap of each GPU where one below its TDP was set."""
