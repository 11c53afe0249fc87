"""The server as it runs now, as a run that can be diagnosed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from joulemap.measure.session.server import extra_of
from joulemap.measure.telemetry.window import TelemetryWindow
from joulemap.records import (
    Annotations,
    Basis,
    Deployment,
    Measured,
    Provenance,
    Quantity,
    Run,
    Workload,
)

SOURCE = "joulemap watch"
MOVED = 0.1
"""Relative change of a quantity from which a diagnosis no longer describes the server."""
HISTOGRAM_MEANS = {"itl_mean_s": "itl_s", "ttft_mean_s": "ttft_s", "latency_mean_s": "latency_s"}
MEASURED_FIELDS = frozenset(f.name for f in fields(Measured))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the last minute tells."""

    energy_per_output: Quantity
    power_w: float
    output_throughput_per_s: float
    window: TelemetryWindow
    """Of the whole minute."""
    activity: Mapping[str, float]
    """Of the GPUs, by field name."""
    idle_power_w: float | None
    """Power without any request, where it was seen."""
    mean_input_tokens: float | None
    """As stated by the user."""
    mean_output_tokens: float | None

    @property
    def signature(self) -> tuple[float, ...]:
        """Quantities whose change makes another diagnosis worth its cost."""
        return (
            self.energy_per_output.value,
            self.power_w,
            self.output_throughput_per_s,
            self.window.batch_size or 0.0,
            self.window.kv_cache_utilization or 0.0,
        )


def moved(before: tuple[float, ...], now: tuple[float, ...]) -> bool:
    """Return whether a signature has changed by more than a tenth."""
    return any(abs(a - b) > MOVED * max(abs(a), abs(b)) for a, b in zip(before, now, strict=True))


def to_run(observed: Observed, deployment: Deployment, now: datetime) -> Run:
    """Return the operating point as a run; it is not stored."""
    window = observed.window
    extra = {name: v for name, v in extra_of(window).measured.items() if name in MEASURED_FIELDS}
    means = {name: h.mean for name, key in HISTOGRAM_MEANS.items() if (h := window.histograms.get(key))}
    if window.batch_size is not None:
        extra["batch_size"] = window.batch_size
    quantities: dict[str, Any] = {
        **extra,
        **{name: mean for name, mean in means.items() if mean is not None},
        **{name: value for name, value in observed.activity.items() if name in MEASURED_FIELDS},
    }
    preemptions = quantities.pop("preemptions", None)
    basis = observed.energy_per_output.basis
    powers = ("energy_per_output_j", "power_w", "loaded_idle_power_w")
    return Run(
        workload=Workload(
            mean_input_tokens=observed.mean_input_tokens or _mean(window, "prompt_tokens", window.prompt_tokens),
            mean_output_tokens=observed.mean_output_tokens
            or _mean(window, "generation_tokens", window.generation_tokens),
        ),
        deployment=deployment,
        measured=Measured(
            energy_per_output_j=observed.energy_per_output.value,
            power_w=observed.power_w,
            output_throughput_per_s=observed.output_throughput_per_s,
            duration_s=window.duration_s,
            loaded_idle_power_w=observed.idle_power_w,
            preemptions=None if preemptions is None else round(preemptions),
            **quantities,
        ),
        provenance=Provenance(source=SOURCE, measured_at=now),
        annotations=Annotations(basis={} if basis is Basis.MEASURED else dict.fromkeys(powers, basis)),
    )


def _mean(window: TelemetryWindow, histogram: str, total: float | None) -> float | None:
    """Return a mean length: of the requests that ended, or all tokens over their number."""
    told = window.histograms.get(histogram)
    if told is not None and told.mean is not None:
        return told.mean
    return total / window.requests_finished if total and window.requests_finished else None
