"""vLLM: one series per engine of a data-parallel group; API server processes add series of zeros.

Names of versions 0.6 to 0.32 (documentation "Production metrics"); recorded from 0.32.
"""

from __future__ import annotations

import contextlib
from typing import Any

from joulemap.measure.telemetry.exposition import Exposition, Pick, Picker
from joulemap.measure.telemetry.sample import EngineAdapter

PER_ENGINE = ("engine",)
MFU = "vLLM counts it only when started with --enable-mfu-metrics"


def _capacity_tokens(exposition: Exposition) -> float | None:
    """Return the KV cache's size from the labels of the cache's configuration, all engines together."""
    sizes: dict[str, float] = {}
    for series in exposition.get("vllm:cache_config_info", ()):
        labels = series.labels
        try:
            size = float(labels["num_gpu_blocks"]) * float(labels["block_size"])
        except (KeyError, ValueError):
            continue  # before the first engine step the blocks are "None"
        sizes[labels.get("engine", "")] = size
    return sum(sizes.values()) if sizes else None


def _settings(exposition: Exposition) -> dict[str, Any]:
    """Return what the cache's configuration tells of the deployment."""
    series = exposition.get("vllm:cache_config_info", ())
    labels = series[0].labels if series else {}
    told: dict[str, Any] = {}
    with contextlib.suppress(KeyError, ValueError):  # older versions do not tell it
        told["gpu_memory_utilization"] = float(labels["gpu_memory_utilization"])
    # "auto" is the precision of the activations, which the metrics do not tell.
    if (precision := labels.get("cache_dtype", "auto")) not in {"auto", "None"}:
        told["kv_cache_precision"] = precision
    return told


def _estimated(name: str) -> Picker:
    """Return a picker that tells "not counted" from zero: without the option the counter stays at zero."""
    # Every engine's GPUs do the same work: per GPU means the mean over engines, not their sum.
    pick = Pick(names=(name,), per=PER_ENGINE, mean=True)

    def picked(exposition: Exposition) -> float | None:
        value = pick(exposition)
        return value if value else None

    return picked


VLLM = EngineAdapter(
    engine="vllm",
    marks=("vllm:",),
    pickers={
        "requests_running": Pick(names=("vllm:num_requests_running",), per=PER_ENGINE),
        "requests_waiting": Pick(names=("vllm:num_requests_waiting",), per=PER_ENGINE),
        "kv_cache_utilization": Pick(
            names=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"), per=PER_ENGINE, mean=True
        ),
        "kv_cache_capacity_tokens": _capacity_tokens,
        "prompt_tokens": Pick(names=("vllm:prompt_tokens_total",)),
        "generation_tokens": Pick(names=("vllm:generation_tokens_total",)),
        "prefix_queried_tokens": Pick(
            names=("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total")
        ),
        "prefix_hit_tokens": Pick(names=("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total")),
        "requests_finished": Pick(names=("vllm:request_success_total",)),
        "preemptions": Pick(names=("vllm:num_preemptions_total",)),
        "engine_flops": _estimated("vllm:estimated_flops_per_gpu_total"),
        "engine_read_bytes": _estimated("vllm:estimated_read_bytes_per_gpu_total"),
        "engine_write_bytes": _estimated("vllm:estimated_write_bytes_per_gpu_total"),
    },
    uses=frozenset(
        {
            "vllm:cache_config_info",
            "vllm:estimated_flops_per_gpu_total",
            "vllm:estimated_read_bytes_per_gpu_total",
            "vllm:estimated_write_bytes_per_gpu_total",
        }
    ),
    histograms={
        "ttft_s": ("vllm:time_to_first_token_seconds",),
        "itl_s": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        "latency_s": ("vllm:e2e_request_latency_seconds",),
        "queue_s": ("vllm:request_queue_time_seconds",),
        "prefill_s": ("vllm:request_prefill_time_seconds",),
        "decode_s": ("vllm:request_decode_time_seconds",),
        "prompt_tokens": ("vllm:request_prompt_tokens",),
        "generation_tokens": ("vllm:request_generation_tokens",),
        "step_tokens": ("vllm:iteration_tokens_total",),
    },
    settings=_settings,
    absent={
        "engine_flops": MFU,
        "engine_read_bytes": MFU,
        "engine_write_bytes": MFU,
        "steps": "vLLM counts tokens per step (histogram step_tokens), not requests",
        "step_requests": "vLLM counts tokens per step (histogram step_tokens), not requests",
    },
)
"""vLLM, versions 0 and 1 of its engine."""
