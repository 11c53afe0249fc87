"""The latent variables of runs: measured where a counter or the engine told them, else inferred by the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from joulemap.diagnose.ledger import BUSY_SM_UTILIZATION, Measurement, drawn_measurements, times_of
from joulemap.diagnose.modelled import Modelled, Terms
from joulemap.physics.arrays import Floats
from joulemap.predict.language import LanguageTerms
from joulemap.predict.language_rows import LanguageRows
from joulemap.records import Basis, Quantity

CAPACITY_SPREAD = 2.2
"""What fits in memory is known to about this factor (90 %): engines reserve differently for graphs, activations
and encoders, and the study's own runs scatter so around the estimate."""
VOLUME_SPREAD = 1.5
"""Traffic and arithmetic over the peak, and what a GPU's counters say of them, agree to about this factor (90 %):
caches serve some reads, and a counter of busy pipes is not one of operations."""

MEASURED = (
    "batch_size",
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
    "memory_footprint_bytes": "B/GPU",
    "memory_available_bytes": "B/GPU",
    "context_tokens": "token",
    "input_tokens": "token",
}
CAPACITY = (
    "memory_footprint_bytes",
    "memory_available_bytes",
    "batch_ceiling",
    "kv_cache_utilization",
    "context_tokens",
    "input_tokens",
)
COUNTED = {
    "sm_utilization": "a counter of GPU activity tells it, and none was read",
    "sm_occupancy": "a counter of GPU activity tells it, and none was read",
}
DIFFUSION_HAS_NONE = {
    "kv_cache_utilization": "a diffusion pipeline has no KV cache",
    "context_tokens": "a diffusion pipeline attends to the whole picture at each step; it has no growing context",
    "input_tokens": "a diffusion pipeline reads its prompt once, by text encoders that hardly count",
    "memory_footprint_bytes": "the memory of diffusion pipelines is not modelled",
    "memory_available_bytes": "the memory of diffusion pipelines is not modelled",
    "batch_ceiling": "the memory of diffusion pipelines is not modelled",
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
            if name == "starved_fraction" and row["sm_utilization"] is not None:
                note = (
                    f"between 1 − SM utilisation and what it falls short of {BUSY_SM_UTILIZATION:.0%}, the least "
                    "that busy GPUs show"
                )
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
    """Return the latents that a run measured itself, or that its engine reported."""
    return {
        name: Quantity(value=float(row[name]), unit=UNITS.get(name, "1"), basis=basis_of(row, name))
        for name in MEASURED
        if row[name] is not None
    }


def missing_latents(row: Mapping[str, Any], latents: Mapping[str, Quantity], unknown: str = "") -> dict[str, str]:
    """Return why latents are not there.

    Args:
        row: The run.
        latents: Those that are there.
        unknown: Why the model says nothing of the run; empty where it does.
    """
    reasons = dict(COUNTED)
    if unknown:
        reasons |= dict.fromkeys((*MEASURED, *CAPACITY), unknown) | COUNTED
    if row["output_unit"] != "token":
        reasons |= DIFFUSION_HAS_NONE
    return {name: reason for name, reason in reasons.items() if name not in latents}


def basis_of(row: Mapping[str, Any], name: str) -> Basis:
    """Return the basis of a run's own quantity."""
    if not row["annotations"]:
        return Basis.MEASURED
    return Basis(json.loads(row["annotations"]).get("basis", {}).get(name, Basis.MEASURED))


def latents_of(modelled: Modelled, measured: Measurement) -> LatentArrays:
    """Return the inferred latents of the runs of one form, with intervals from the calibration's uncertainty."""
    point = _inferred(modelled, modelled.terms, measured)
    drawn = [_inferred(modelled, terms, seen) for terms, seen in drawn_measurements(modelled, measured)]
    values = {}
    for name, value in point.items():
        low, high = np.quantile(np.stack([d[name] for d in drawn]), [0.05, 0.95], axis=0)
        if name == "memory_available_bytes":
            low, high = value / CAPACITY_SPREAD, value * CAPACITY_SPREAD
        if name == "power_of_limit":
            low = high = value  # a measured power over a stated limit
        if name == "batch_ceiling":
            told = np.asarray(modelled.batch_told())
            low = np.maximum(value / CAPACITY_SPREAD, np.minimum(modelled.batch(), value))
            high = np.minimum(value * CAPACITY_SPREAD, np.maximum(told, value))
        if name in {"memory_bandwidth_utilization", "compute_utilization"}:
            low, high = np.minimum(low, value / VOLUME_SPREAD), np.clip(value * VOLUME_SPREAD, high, 1.0)
        if name == "kv_cache_utilization":
            low, high = value / CAPACITY_SPREAD, np.clip(value * CAPACITY_SPREAD, value, 1.0)
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
        rows = modelled.rows.rows
        assert isinstance(rows, LanguageRows)
        moved = sum(terms.bytes_per_step.values(), start=np.zeros_like(step_s))
        flops = terms.flops_per_step["decode"] + terms.flops_per_step["prefill"]
        capacity = {
            # The cache is counted as if nothing were shared or evicted; no run used more than there is.
            "memory_footprint_bytes": np.minimum(terms.memory_footprint_bytes, gpu["memory_bytes"]),
            "memory_available_bytes": terms.kv_available_bytes,
            # What ran together did fit, and an engine admits no more than it was told to.
            "batch_ceiling": np.minimum(modelled.capacity(), modelled.batch_told()),
            "kv_cache_utilization": np.clip(modelled.batch() / terms.batch_ceiling, 0.0, 1.0),
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
