"""Triton Inference Server with the TensorRT-LLM backend (metrics port, 8002 by default).

Names from the backend's and the server's documentation; not recorded from a running server.
"""

from __future__ import annotations

from joulemap.measure.telemetry.exposition import Exposition, Pick
from joulemap.measure.telemetry.sample import EngineAdapter

REQUESTS = "nv_trt_llm_request_metrics"
BLOCKS = "nv_trt_llm_kv_cache_block_metrics"
PER_MODEL = ("model", "version")
NO_COUNT = "Triton does not count it"


def _blocks(kind: str) -> Pick:
    return Pick(names=(BLOCKS,), where={"kv_cache_block_type": kind}, per=PER_MODEL)


def _utilization(exposition: Exposition) -> float | None:
    """Return used ÷ all blocks: older backends have no ``fraction``."""
    used, most = _blocks("used")(exposition), _blocks("max")(exposition)
    return None if used is None or not most else used / most


def _capacity_tokens(exposition: Exposition) -> float | None:
    most, tokens = _blocks("max")(exposition), _blocks("tokens_per")(exposition)
    return None if most is None or tokens is None else most * tokens


TRITON = EngineAdapter(
    engine="triton",
    marks=("nv_trt_llm_", "nv_inference_"),
    pickers={
        "requests_running": Pick(names=(REQUESTS,), where={"request_type": "scheduled"}, per=PER_MODEL),
        "requests_waiting": Pick(names=(REQUESTS,), where={"request_type": "waiting"}, per=PER_MODEL),
        "kv_cache_utilization": _utilization,
        "kv_cache_capacity_tokens": _capacity_tokens,
        "requests_finished": Pick(names=("nv_inference_request_success",), per=PER_MODEL),
    },
    uses=frozenset({BLOCKS}),
    absent={
        "prompt_tokens": NO_COUNT,
        "generation_tokens": NO_COUNT,
        "preemptions": NO_COUNT,
    },
)
"""Triton with TensorRT-LLM."""
