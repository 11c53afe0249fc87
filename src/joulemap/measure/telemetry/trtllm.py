"""TensorRT-LLM's own server, ``trtllm-serve`` (path ``/prometheus/metrics``), also behind Dynamo.

Names from its documentation; not recorded from a running server.
"""

from __future__ import annotations

from joulemap.measure.telemetry.exposition import Exposition, Pick
from joulemap.measure.telemetry.sample import EngineAdapter

REUSED = Pick(names=("trtllm_kv_cache_reused_blocks_total",))
MISSED = Pick(names=("trtllm_kv_cache_missed_blocks_total",))
TOKENS_PER_BLOCK = Pick(names=("trtllm_kv_cache_tokens_per_block",))
NO_COUNT = "trtllm-serve does not count it"


def _hit_tokens(exposition: Exposition) -> float | None:
    reused, tokens = REUSED(exposition), TOKENS_PER_BLOCK(exposition)
    return None if reused is None or tokens is None else reused * tokens


def _queried_tokens(exposition: Exposition) -> float | None:
    reused, missed, tokens = REUSED(exposition), MISSED(exposition), TOKENS_PER_BLOCK(exposition)
    return None if reused is None or missed is None or tokens is None else (reused + missed) * tokens


TRTLLM = EngineAdapter(
    engine="tensorrt-llm",
    marks=("trtllm_", "trtllm:"),
    pickers={
        "requests_running": Pick(names=("trtllm_num_requests_running",)),
        "requests_waiting": Pick(names=("trtllm_num_requests_waiting",)),
        "kv_cache_utilization": Pick(names=("trtllm_kv_cache_utilization",), mean=True),
        "prefix_hit_tokens": _hit_tokens,
        "prefix_queried_tokens": _queried_tokens,
        "requests_finished": Pick(names=("trtllm_request_success_total", "trtllm:request_success_total")),
    },
    uses=frozenset({*REUSED.names, *MISSED.names, *TOKENS_PER_BLOCK.names}),
    histograms={
        "ttft_s": ("trtllm_time_to_first_token_seconds", "trtllm:time_to_first_token_seconds"),
        "itl_s": ("trtllm_time_per_output_token_seconds", "trtllm:time_per_output_token_seconds"),
        "latency_s": ("trtllm_e2e_request_latency_seconds", "trtllm:e2e_request_latency_seconds"),
        "queue_s": ("trtllm_request_queue_time_seconds", "trtllm:request_queue_time_seconds"),
    },
    absent={
        "prompt_tokens": NO_COUNT,
        "generation_tokens": NO_COUNT,
        "preemptions": NO_COUNT,
    },
)
"""``trtllm-serve``."""
