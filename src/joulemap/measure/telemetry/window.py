"""What happened at an engine over a window: counters and histograms differenced, gauges averaged over time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from joulemap.measure.telemetry.exposition import Histogram
from joulemap.measure.telemetry.sample import COUNTERS, GAUGES, TelemetrySample

ROUNDING = 1e-4
"""Counters that adapters compute from a printed mean may fall by so much of themselves without a restart."""
MAX_EDGE_S = 3.0
"""A scrape further than this from a window's end says nothing about it."""

Scrape = tuple[float, TelemetrySample]
"""A monotonic time in s, and what was told then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryWindow:
    """An engine over a window; counters count what happened in it.

    The window's ends are those of the scrapes nearest to what was asked for: rates are over ``duration_s``.
    """

    engine: str
    begin_s: float
    end_s: float
    scrapes: int
    batch_size: float | None = None
    """Requests running together, averaged over time."""
    batch_size_per_step: float | None = None
    """Requests in a forward pass, averaged over passes."""
    requests_waiting: float | None = None
    kv_cache_utilization: float | None = None
    kv_cache_utilization_max: float | None = None
    kv_cache_capacity_tokens: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    prefix_cache_hit_rate: float | None = None
    requests_finished: float | None = None
    preemptions: float | None = None
    engine_flops_per_s: float | None = None
    """Per GPU, as the engine estimates them."""
    engine_bytes_per_s: float | None = None
    """Bytes read and written per second and GPU, as the engine estimates them."""
    starved_fraction: float | None = None
    """Share of the time in which the engine's scheduler had nothing to do."""
    histograms: dict[str, Histogram] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a field is ``None``."""

    @property
    def duration_s(self) -> float:
        """Time between the first and the last scrape."""
        return self.end_s - self.begin_s


def telemetry_between(scrapes: Iterable[Scrape], begin_s: float, end_s: float) -> TelemetryWindow:
    """Return what happened between two monotonic times.

    Args:
        scrapes: Samples with their times; failed ones (without an engine) are left out.
        begin_s: Begin of the window.
        end_s: End of the window.
    """
    told = [(t, s) for t, s in scrapes if s.engine]
    reason = _refusal(told, begin_s, end_s)
    if reason is not None:
        names = (*GAUGES, *COUNTERS, "batch_size")
        return TelemetryWindow(
            engine=told[-1][1].engine if told else "",
            begin_s=begin_s,
            end_s=end_s,
            scrapes=0,
            missing=dict.fromkeys(names, reason),
        )
    inside = told[_nearest(told, begin_s) : _nearest(told, end_s) + 1]
    return _window(inside)


def _refusal(told: Sequence[Scrape], begin_s: float, end_s: float) -> str | None:
    if not told:
        return "no scrape of the engine's metrics succeeded"
    first, last = _nearest(told, begin_s), _nearest(told, end_s)
    if first == last:
        return "fewer than two scrapes of the engine's metrics in the window"
    for position, edge_s, name in ((first, begin_s, "begin"), (last, end_s, "end")):
        off_s = abs(told[position][0] - edge_s)
        if off_s > MAX_EDGE_S:
            return (
                f"no scrape of the engine's metrics within {MAX_EDGE_S:g} s of the window's {name} ({off_s:.1f} s)"
            )
    return None


def _nearest(told: Sequence[Scrape], time_s: float) -> int:
    return min(range(len(told)), key=lambda i: abs(told[i][0] - time_s))


def _window(inside: Sequence[Scrape]) -> TelemetryWindow:
    (begin_s, first), (end_s, last) = inside[0], inside[-1]
    missing = dict(last.missing)
    gauges = {name: _mean(inside, name) for name in GAUGES}
    counted: dict[str, float | None] = dict.fromkeys(COUNTERS)
    histograms = {}
    restart = _restart(inside)
    if restart is not None:
        missing.update(dict.fromkeys((*COUNTERS, *(f"histogram {h}" for h in last.histograms)), restart))
    else:
        counted = {name: _difference(first, last, name, missing) for name in COUNTERS}
        for name, histogram in last.histograms.items():
            before = first.histograms.get(name)
            difference = histogram.since(before) if before is not None else None
            if difference is not None:
                histograms[name] = difference
            else:
                missing[f"histogram {name}"] = "the engine began to tell it only within the window"
    if "requests_running" in missing:
        missing["batch_size"] = missing["requests_running"]
    duration_s = end_s - begin_s
    return TelemetryWindow(
        engine=last.engine,
        begin_s=begin_s,
        end_s=end_s,
        scrapes=len(inside),
        batch_size=gauges["requests_running"],
        batch_size_per_step=_ratio(counted, "step_requests", "steps", missing, "batch_size_per_step"),
        requests_waiting=gauges["requests_waiting"],
        kv_cache_utilization=gauges["kv_cache_utilization"],
        kv_cache_utilization_max=_largest(inside),
        kv_cache_capacity_tokens=last.kv_cache_capacity_tokens,
        prompt_tokens=counted["prompt_tokens"],
        generation_tokens=counted["generation_tokens"],
        prefix_cache_hit_rate=_ratio(
            counted, "prefix_hit_tokens", "prefix_queried_tokens", missing, "prefix_cache_hit_rate"
        ),
        requests_finished=counted["requests_finished"],
        preemptions=counted["preemptions"],
        engine_flops_per_s=_rate(counted, ("engine_flops",), duration_s, missing, "engine_flops_per_s"),
        engine_bytes_per_s=_rate(
            counted, ("engine_read_bytes", "engine_write_bytes"), duration_s, missing, "engine_bytes_per_s"
        ),
        starved_fraction=_share(_rate(counted, ("idle_s",), duration_s, missing, "starved_fraction")),
        histograms=histograms,
        missing=missing,
    )


def _mean(inside: Sequence[Scrape], name: str) -> float | None:
    """Return the time-weighted mean of a gauge."""
    known = [(t, value) for t, s in inside if (value := getattr(s, name)) is not None]
    if len(known) < 2:
        return known[0][1] if known else None
    times, values = np.array(known).T
    return float(np.trapezoid(values, times) / (times[-1] - times[0]))


def _largest(inside: Sequence[Scrape]) -> float | None:
    known = [s.kv_cache_utilization for _, s in inside if s.kv_cache_utilization is not None]
    return max(known, default=None)


def _restart(inside: Sequence[Scrape]) -> str | None:
    """Return that the engine was restarted, if any counter fell between two scrapes; else ``None``.

    The ends alone do not tell: a restarted engine may have counted beyond its old value again.
    """
    for (_, before), (_, after) in itertools.pairwise(inside):
        for name in COUNTERS:
            old, new = getattr(before, name), getattr(after, name)
            if old is not None and new is not None and new < old * (1 - ROUNDING):
                return f"the engine was restarted in the window: {name} fell from {old:g} to {new:g}"
    return None


def _difference(first: TelemetrySample, last: TelemetrySample, name: str, missing: dict[str, str]) -> float | None:
    before, after = getattr(first, name), getattr(last, name)
    if after is None:
        return None
    if before is None:
        missing[name] = f"at the window's begin: {first.missing.get(name, 'not told')}"
        return None
    return max(0.0, float(after - before))


def _ratio(
    counted: dict[str, float | None], over: str, under: str, missing: dict[str, str], name: str
) -> float | None:
    part, whole = counted[over], counted[under]
    if part is None or whole is None:
        missing[name] = missing.get(under) or missing.get(over) or "not told"
        return None
    if whole <= 0:
        missing[name] = f"no {under} were counted in the window"
        return None
    return part / whole


def _rate(
    counted: dict[str, float | None], names: Sequence[str], duration_s: float, missing: dict[str, str], name: str
) -> float | None:
    total = 0.0
    for part in names:
        value = counted[part]
        if value is None:
            missing[name] = missing.get(part, "not told")
            return None
        total += value
    return total / duration_s


def _share(value: float | None) -> float | None:
    # Scrape times and the engine's own clock differ by milliseconds: an idle engine may seem idle for longer.
    return None if value is None else min(1.0, value)
