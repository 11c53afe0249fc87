"""Diagnosis from measurement alone, where the model knows too little of a run: no shape, GPU or batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from joulemap.diagnose.diagnosis import AboveIdeal, Bound, Diagnosis, LedgerPart, Part
from joulemap.diagnose.explain import label
from joulemap.diagnose.latents import measured_latents
from joulemap.diagnose.series import Curves
from joulemap.records import Basis
from joulemap.store.schema import row_to_run

FILLED = 0.85
MEMORY_FULL = 0.85
IDLE_SPREAD = 0.1
"""Static power under load differs from loaded-idle power by about this share: temperature, clocks."""


def measured_only(row: Mapping[str, Any], curves: Curves) -> Diagnosis:
    """Return what measurements alone say: static against dynamic energy, and what was seen of the batch.

    Args:
        row: A row of the run table, with series columns.
        curves: The measured runs of the store.
    """
    total = float(row["energy_per_output_j"])
    basis = row_to_run(row).annotations.basis.get("energy_per_output_j", Basis.MEASURED)
    best = _best_in_series(row, curves)
    bound, margin = _bound(row, total, best)
    return Diagnosis(
        run_id=row["run_id"],
        label=label(row),
        output_unit=row["output_unit"],
        latents=measured_latents(row),
        missing_latents=dict.fromkeys(
            ("memory_footprint_bytes", "memory_available_bytes"),
            "the catalog does not know this model's shape or this processor",
        ),
        ledger=_ledger(row, total, basis),
        total_j_per_output=total,
        total_basis=basis,
        ideal_j_per_output=best,
        above_ideal=(AboveIdeal(name="batch", ratio=total / best),),
        bound_by=bound,
        bound_margin=margin,
        next_bound=None,
        findings=(),
        notes=(
            (
                "from measurements alone: the model does not know this model or this processor, "
                "so that the ideal is the best that was measured at another batch"
            ),
        ),
    )


def _ledger(row: Mapping[str, Any], total: float, basis: Basis) -> tuple[LedgerPart, ...]:
    idle_w, throughput = row["loaded_idle_power_w"], row["output_throughput_per_s"]
    if not idle_w or not throughput:
        return (LedgerPart(part=Part.UNEXPLAINED, joules_per_output=total, low=0.0, high=total, basis=basis),)
    static = min(idle_w / throughput, total)
    slack = static * IDLE_SPREAD
    starved = (row["starved_fraction"] or 0.0) * static
    return (
        LedgerPart(
            part=Part.STATIC_WORKING,
            joules_per_output=static - starved,
            low=max(static - starved - slack, 0.0),
            high=static - starved + slack,
            basis=basis,
        ),
        LedgerPart(
            part=Part.STATIC_STARVED,
            joules_per_output=starved,
            low=0.0,
            high=max(starved, static if row["starved_fraction"] is None else starved + slack),
            basis=basis,
        ),
        LedgerPart(
            part=Part.DYNAMIC,
            joules_per_output=math.fsum((total, -(static - starved), -starved)),
            low=max(total - static - slack, 0.0),
            high=total - static + slack,
            basis=basis,
        ),
    )


def _best_in_series(row: Mapping[str, Any], curves: Curves) -> float:
    series = curves.of(row)
    energies = [r["energy_per_output_j"] for r in series.rows] if series else []
    return float(min([e for e in energies if e] + [row["energy_per_output_j"]]))


def _bound(row: Mapping[str, Any], total: float, best: float) -> tuple[Bound, float]:
    if (row["kv_cache_utilization"] or 0.0) > MEMORY_FULL:
        return Bound.MEMORY_CAPACITY, 1.0
    ceiling, batch = row["batch_ceiling"], row["batch_size"]
    if ceiling and batch and batch < FILLED * ceiling:
        return (Bound.HOST if (row["requests_waiting"] or 0.0) > 1.0 else Bound.UNDER_FILLED), 1.0
    if total > 1.05 * best:
        return Bound.APPLICATION_LIMIT, total / best
    return Bound.COMPUTE, 1.0
