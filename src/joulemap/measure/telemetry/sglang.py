"""SGLang: schedulers label their series by rank; those of one data-parallel rank repeat each other.

Names of versions 0.4 to 0.5 (documentation "Production metrics"); recorded from 0.5.23.
"""

from __future__ import annotations

from joulemap.measure.telemetry.exposition import Pick
from joulemap.measure.telemetry.sample import EngineAdapter

PER_RANK = ("dp_rank", "engine_type")

SGLANG = EngineAdapter(
    engine="sglang",
    marks=("sglang:", "sglang_"),
    pickers={
        "requests_running": Pick(names=("sglang:num_running_reqs",), per=PER_RANK),
        "requests_waiting": Pick(names=("sglang:num_queue_reqs",), per=PER_RANK),
        "kv_cache_utilization": Pick(names=("sglang:token_usage",), per=PER_RANK, mean=True),
        "kv_cache_capacity_tokens": Pick(names=("sglang:max_total_num_tokens",), per=PER_RANK),
        "prompt_tokens": Pick(names=("sglang:prompt_tokens_total",)),
        "generation_tokens": Pick(names=("sglang:generation_tokens_total",)),
        "prefix_queried_tokens": Pick(
            names=("sglang:prefill_effective_tokens_total", "sglang:prompt_tokens_total"),
            per=(*PER_RANK, "mode", "is_streaming"),
        ),
        "prefix_hit_tokens": Pick(
            names=("sglang:prefill_effective_tokens_total",), where={"mode": ".*_hit"}, per=(*PER_RANK, "mode")
        ),
        "requests_finished": Pick(names=("sglang:num_requests_total",)),
        "preemptions": Pick(names=("sglang:num_retracted_requests_total",), per=PER_RANK),
        "steps": Pick(
            names=("sglang:cuda_graph_passes_total",), where={"mode": "decode.*"}, per=(*PER_RANK, "mode")
        ),
        "step_requests": Pick(names=("sglang:realtime_tokens_total",), where={"mode": "decode"}, per=PER_RANK),
        "idle_s": Pick(names=("sglang:scheduler_idle_seconds_total",), per=PER_RANK, mean=True),
    },
    histograms={
        "ttft_s": ("sglang:time_to_first_token_seconds",),
        "itl_s": ("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        "latency_s": ("sglang:e2e_request_latency_seconds",),
        "queue_s": ("sglang:queue_time_seconds",),
        "prompt_tokens": ("sglang:prompt_tokens_histogram",),
        "generation_tokens": ("sglang:generation_tokens_histogram",),
    },
    absent={
        "preemptions": "this SGLang tells retractions as a momentary gauge, which cannot be differenced",
        "engine_flops": "SGLang does not count its floating-point operations",
        "engine_read_bytes": "SGLang does not count its memory traffic",
        "engine_write_bytes": "SGLang does not count its memory traffic",
    },
)
"""SGLang, started with ``--enable-metrics``."""
