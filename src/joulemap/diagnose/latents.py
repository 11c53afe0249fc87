"""The latent variables of runs: measured where a counter or the engine told them, else inferred by the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from joulemap.diagnose.ledger import Measurement, times_of
from joulemap.diagnose.modelled import Modelled, Terms
from joulemap.physics.arrays import Floats
from joulemap.predict.language import LanguageTerms
from joulemap.records import Basis, Quantity

CAPACITY_SPREAD = 2.2
"""What fits in memory is known to about this factor (90 %): engines reserve differently for graphs, activations
and encoders, and the study's own runs scatter so around the estimate."""

MEASURED = (
    "kv_cache_utilization",
    "memory_bandwidth_utilization",
    "compute_utilization",
    "sm_utilization",
    "sm_occupancy",
    "communication_fraction",
    "starved_fraction",
)
"""Latents that a run may have measured itself; those count before the model's."""
UNITS = {
    "batch_size": "request",
    "batch_ceiling": "request",
    "memory_footprint_bytes": "B",
    "memory_available_bytes": "B",
    "context_tokens": "token",
    "input_tokens": "token",
}


@dataclass(frozen=True, slots=True, eq=False)
class LatentArrays:
    """Latents of the runs of one form: by name, value and 90 % interval as arrays of one length."""

    values: Mapping[str, tuple[Floats, Floats, Floats]]

    def of(self, run: int, row: Mapping[str, Any], holder: str) -> dict[str, Quantity]:
        """Return one run's latents; what the run measured itself takes the place of what was inferred."""
        latents = {}
        for name, (value, low, high) in self.values.items():
            if not np.isfinite(value[run]):
                continue
            note = f"set by {holder}" if name == "batch_ceiling" else ""
            if name == "batch_ceiling" and row["max_num_seqs"] == value[run]:
                low, high = value, value  # the engine was told so
            latents[name] = Quantity(
                value=float(value[run]),
                unit=UNITS.get(name, "1"),
                basis=Basis.MODELLED,
                low=float(min(low[run], value[run])),
                high=float(max(high[run], value[run])),
                note=note,
            )
        return latents | measured_latents(row)


def measured_latents(row: Mapping[str, Any]) -> dict[str, Quantity]:
    """Return the latents that a run measured itself."""
    names = ["batch_size", *MEASURED]
    return {
        name: Quantity(value=float(row[name]), unit=UNITS.get(name, "1"), basis=Basis.MEASURED)
        for name in names
        if row[name] is not None
    }


def latents_of(modelled: Modelled, measured: Measurement) -> LatentArrays:
    """Return the inferred latents of the runs of one form, with intervals from the calibration's uncertainty."""
    point = _inferred(modelled, modelled.terms, measured)
    drawn = [_inferred(modelled, terms, measured) for terms in modelled.draws()]
    values = {}
    for name, value in point.items():
        low, high = np.quantile(np.stack([d[name] for d in drawn]), [0.05, 0.95], axis=0)
        if name in {"batch_ceiling", "memory_available_bytes"}:
            low, high = value / CAPACITY_SPREAD, value * CAPACITY_SPREAD
        if name == "kv_cache_utilization":
            low, high = value / CAPACITY_SPREAD, np.minimum(value * CAPACITY_SPREAD, 1.0)
        values[name] = (value, low, high)
    return LatentArrays(values)


def _inferred(modelled: Modelled, terms: Terms, measured: Measurement) -> dict[str, Floats]:
    times, gpu = times_of(terms, measured), modelled.rows.rows.gpu
    step_s = measured.step_s
    shared = {
        "communication_fraction": times.communication_s / step_s,
        "starved_fraction": times.starved_s / step_s,
        "launch_fraction": times.launch_s / step_s,
        "prefill_fraction": times.prefill_s / step_s,
    }
    if isinstance(terms, LanguageTerms):
        moved = sum(terms.bytes_per_step.values(), start=np.zeros_like(step_s))
        flops = terms.flops_per_step["decode"] + terms.flops_per_step["prefill"]
        ceiling = np.minimum(terms.batch_ceiling, modelled.rows.rows.ceiling)  # type: ignore[union-attr]
        capacity = {
            "memory_footprint_bytes": terms.memory_footprint_bytes,
            "memory_available_bytes": terms.kv_available_bytes,
            "batch_ceiling": ceiling,
            "kv_cache_utilization": np.clip(modelled.rows.rows.batch / terms.batch_ceiling, 0.0, 1.0),
            "context_tokens": terms.context_tokens,
            "input_tokens": terms.input_tokens,
        }
    else:
        moved = terms.bytes_per_batch
        flops = sum(terms.flops_per_batch.values(), start=np.zeros_like(step_s))
        capacity = {}
    return {
        **capacity,
        "memory_bandwidth_utilization": np.clip(moved / step_s / gpu["bandwidth"], 0.0, 1.0),
        "compute_utilization": np.clip(flops / step_s / gpu["peak"], 0.0, 1.0),
        **{name: np.clip(value, 0.0, 1.0) for name, value in shared.items()},
        "power_of_limit": measured.power_w / (modelled.rows.rows.power_cap_w * modelled.rows.rows.gpus),
    }
