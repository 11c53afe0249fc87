"""One scrape in joulemap's words, and what an engine's adapter declares to make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from joulemap.measure.telemetry.exposition import (
    Exposition,
    Histogram,
    Pick,
    Picker,
    parse_exposition,
    pick_histogram,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySample:
    """What an engine told at one moment; counters count from its start."""

    device: str
    """The server, as ``host:port``."""
    engine: str = ""
    """Name of the engine; empty if this scrape failed."""
    requests_running: float | None = None
    requests_waiting: float | None = None
    kv_cache_utilization: float | None = None
    """Used blocks ÷ available blocks; of several data-parallel engines, their mean."""
    kv_cache_capacity_tokens: float | None = None
    prompt_tokens: float | None = None
    """Counter: prompt tokens of all requests, those found in the prefix cache included."""
    generation_tokens: float | None = None
    """Counter."""
    prefix_queried_tokens: float | None = None
    """Counter: tokens looked up in the prefix cache."""
    prefix_hit_tokens: float | None = None
    """Counter: tokens found there."""
    requests_finished: float | None = None
    """Counter."""
    preemptions: float | None = None
    """Counter: requests thrown out of the batch for want of KV cache."""
    engine_flops: float | None = None
    """Counter: floating-point operations per GPU, as the engine estimates them."""
    engine_read_bytes: float | None = None
    """Counter: bytes read from memory per GPU, as the engine estimates them."""
    engine_write_bytes: float | None = None
    """Counter."""
    steps: float | None = None
    """Counter: forward passes that decode."""
    step_requests: float | None = None
    """Counter: requests in them, added up over the passes."""
    idle_s: float | None = None
    """Counter: time in which the scheduler had nothing to do."""
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    """Cumulative: ``ttft_s, itl_s, latency_s, queue_s, prefill_s, decode_s, prompt_tokens, generation_tokens``,
    ``step_tokens`` as far as the engine has them."""
    missing: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Why a field is ``None``."""
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """How the engine was set, by the name of a deployment's field; what it does not tell is not in it."""


GAUGES = ("requests_running", "requests_waiting", "kv_cache_utilization", "kv_cache_capacity_tokens")
COUNTERS = tuple(f.name for f in fields(TelemetrySample) if f.type == "float | None" and f.name not in GAUGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAdapter:
    """How one engine's metrics become a sample."""

    engine: str
    marks: tuple[str, ...]
    """Beginnings of metric names that no other engine uses."""
    pickers: Mapping[str, Picker]
    """Where each field comes from."""
    uses: frozenset[str] = frozenset()
    """Metrics that pickers read which are no :class:`Pick`."""
    histograms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of each histogram, newest first."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Why this engine never tells a field, or what must be switched on."""
    settings: Callable[[Exposition], Mapping[str, Any]] | None = None
    """Reads how the engine was set, where its metrics tell."""

    @property
    def wanted(self) -> frozenset[str]:
        """All metrics that this adapter reads."""
        picked = {n for p in self.pickers.values() if isinstance(p, Pick) for n in p.names}
        return frozenset(picked | {n for names in self.histograms.values() for n in names}) | self.uses

    def sample(self, text: str, device: str) -> TelemetrySample:
        """Return the sample of a metrics text.

        Raises:
            ServerError: The text is not in the exposition format.
        """
        exposition = parse_exposition(text, self.wanted)
        values = {name: self._value(name, exposition) for name in (*GAUGES, *COUNTERS)}
        found = {name: pick_histogram(exposition, names) for name, names in self.histograms.items()}
        return TelemetrySample(
            device=device,
            engine=self.engine,
            histograms={name: h for name, h in found.items() if h is not None},
            missing={name: self._reason(name) for name, value in values.items() if value is None},
            settings={} if self.settings is None else self.settings(exposition),
            **values,
        )

    def _value(self, name: str, exposition: Exposition) -> float | None:
        picker = self.pickers.get(name)
        return None if picker is None else picker(exposition)

    def _reason(self, name: str) -> str:
        if name in self.absent:
            return self.absent[name]
        picker = self.pickers.get(name)
        named = picker.names[0] if isinstance(picker, Pick) else None
        return f"{self.engine} does not tell {named}" if named else f"{self.engine} does not tell it"
