"""Engine telemetry over a window, from snapshots of a Prometheus ``/metrics`` page.

Gauges are averaged over the snapshots in the window; counters run from the engine's start, so that only
their difference over the window counts. Several API servers of one engine each emit every series, most of
them zero: within an engine the largest value is the engine's own. Data-parallel engines add up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RUNNING = ("vllm:num_requests_running",)
WAITING = ("vllm:num_requests_waiting",)
KV_USE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
PREEMPTIONS = ("vllm:num_preemptions_total",)
PROMPT_TOKENS = ("vllm:prompt_tokens_total",)
GENERATED_TOKENS = ("vllm:generation_tokens_total",)
PREFIX_QUERIES = ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total")
PREFIX_HITS = ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total")
"""Names of one quantity, the newest first."""

_ALL = (RUNNING, WAITING, KV_USE, PREEMPTIONS, PROMPT_TOKENS, GENERATED_TOKENS, PREFIX_QUERIES, PREFIX_HITS)
_SERIES = re.compile(
    "^(" + "|".join(re.escape(name) for names in _ALL for name in names) + r")(?:\{([^}\n]*)\})?[ \t]+(\S+)",
    re.MULTILINE,
)
_ENGINE = re.compile(r'(?:^|,)\s*engine="([^"]*)"')
_LARGEST = 1e18


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWindow:
    """What the engine did in a window; ``None`` where its metrics do not say."""

    batch_size: float | None = None
    requests_waiting: float | None = None
    kv_cache_utilization: float | None = None
    preemptions: int | None = None
    prompt_tokens: float | None = None
    generated_tokens: float | None = None
    prefix_cache_hit_rate: float | None = None


Values = dict[str, dict[str, float]]
"""Value of each engine by metric name."""


def engine_window(snapshots: Sequence[tuple[float, str]], start_s: float, end_s: float) -> EngineWindow:
    """Return the engine's state over a window.

    Args:
        snapshots: Unix time in seconds and ``/metrics`` text of each.
        start_s: Start of the window.
        end_s: End of the window.
    """
    pages = [_values(text) for time_s, text in sorted(snapshots) if start_s <= time_s <= end_s]
    if not pages:
        return EngineWindow()

    def gauge(names: Sequence[str], over_engines: Callable[[Sequence[float]], float]) -> float | None:
        read = [over_engines(list(engines.values())) for page in pages if (engines := _named(page, names))]
        return sum(read) / len(read) if read else None

    def rise(names: Sequence[str]) -> float | None:
        first, last = _named(pages[0], names), _named(pages[-1], names)
        if len(pages) < 2 or not first or not last:
            return None
        difference = sum(last.values()) - sum(first.values())
        # A counter that falls was reset: the engine restarted within the window.
        return difference if difference >= 0 else None

    preemptions, queries, hits = rise(PREEMPTIONS), rise(PREFIX_QUERIES), rise(PREFIX_HITS)
    kv_use = gauge(KV_USE, _mean)
    return EngineWindow(
        batch_size=gauge(RUNNING, sum),
        requests_waiting=gauge(WAITING, sum),
        kv_cache_utilization=min(kv_use, 1.0) if kv_use is not None else None,
        preemptions=None if preemptions is None else round(preemptions),
        prompt_tokens=rise(PROMPT_TOKENS),
        generated_tokens=rise(GENERATED_TOKENS),
        prefix_cache_hit_rate=min(hits / queries, 1.0) if queries and hits is not None else None,
    )


def _values(text: str) -> Values:
    values: Values = {}
    for name, labels, number in _SERIES.findall(text):
        try:
            value = float(number)
        except ValueError:
            continue
        if not 0 <= value <= _LARGEST:
            continue
        engine = found.group(1) if (found := _ENGINE.search(labels)) else ""
        of_metric = values.setdefault(name, {})
        of_metric[engine] = max(value, of_metric.get(engine, 0.0))
    return values


def _named(page: Values, names: Sequence[str]) -> dict[str, float]:
    return next((page[name] for name in names if name in page), {})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
