"""llama.cpp's server (also inside xllamacpp), started with ``--metrics``; names recorded from a 2026 build."""

from __future__ import annotations

from joulemap.measure.telemetry.exposition import Exposition, Pick
from joulemap.measure.telemetry.sample import EngineAdapter

UNCACHED = Pick(names=("llamacpp:prompt_tokens_total",))
CACHED = Pick(names=("llamacpp:prompt_tokens_cached_total",))
STEPS = Pick(names=("llamacpp:n_decode_total",))
BUSY_SLOTS = Pick(names=("llamacpp:n_busy_slots_per_decode",))
NO_COUNT = "llama.cpp does not count it"


def _prompt_tokens(exposition: Exposition) -> float | None:
    """Return all prompt tokens: llama.cpp counts those found in its cache apart."""
    uncached = UNCACHED(exposition)
    return None if uncached is None else uncached + (CACHED(exposition) or 0.0)


def _queried_tokens(exposition: Exposition) -> float | None:
    return None if CACHED(exposition) is None else _prompt_tokens(exposition)


def _step_requests(exposition: Exposition) -> float | None:
    """Return busy slots added up over all decodes: llama.cpp tells only their mean since its start."""
    mean, steps = BUSY_SLOTS(exposition), STEPS(exposition)
    return None if mean is None or steps is None else mean * steps


LLAMACPP = EngineAdapter(
    engine="llama.cpp",
    marks=("llamacpp:",),
    pickers={
        "requests_running": Pick(names=("llamacpp:requests_processing",)),
        "requests_waiting": Pick(names=("llamacpp:requests_deferred",)),
        "kv_cache_utilization": Pick(names=("llamacpp:kv_cache_usage_ratio",)),
        "prompt_tokens": _prompt_tokens,
        "generation_tokens": Pick(names=("llamacpp:tokens_predicted_total",)),
        "prefix_queried_tokens": _queried_tokens,
        "prefix_hit_tokens": CACHED,
        "steps": STEPS,
        "step_requests": _step_requests,
    },
    uses=frozenset({*UNCACHED.names, *CACHED.names, *STEPS.names, *BUSY_SLOTS.names}),
    absent={
        "kv_cache_utilization": "llama.cpp no longer tells how full its KV cache is",
        "kv_cache_capacity_tokens": "llama.cpp does not tell the size of its KV cache in its metrics",
        "requests_finished": NO_COUNT,
        "preemptions": "llama.cpp does not preempt",
        "engine_flops": NO_COUNT,
        "engine_read_bytes": NO_COUNT,
        "engine_write_bytes": NO_COUNT,
        "idle_s": NO_COUNT,
    },
)
"""llama.cpp's server."""
