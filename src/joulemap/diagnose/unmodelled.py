"""Diagnosis from measurement alone, where the model knows too little of a run: no shape, GPU or batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joulemap.catalog import Catalog
from joulemap.diagnose.bounds import (
    FILLED,
    MEMORY_FULL,
    STARVED,
    UNSATURATED,
    held_outside,
    neighbouring_gains,
)
from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import AboveIdeal, Bound, Diagnosis, LedgerPart, Part
from joulemap.diagnose.explain import label
from joulemap.diagnose.findings.registry import findings_of
from joulemap.diagnose.latents import basis_of, measured_latents, missing_latents
from joulemap.diagnose.ledger import BUSY_SM_UTILIZATION
from joulemap.diagnose.neighbours import siblings_of
from joulemap.diagnose.series import Curves, Series
from joulemap.errors import UnknownNameError
from joulemap.records import Basis, Quantity, weakest

IDLE_SPREAD = 0.1
"""Static power under load differs from loaded-idle power by about this share: temperature, clocks."""


def measured_only(row: Mapping[str, Any], curves: Curves, catalog: Catalog) -> Diagnosis:
    """Return what measurements alone say: static against dynamic energy, and what was seen of the batch.

    Args:
        row: A row of the run table, with series columns.
        curves: The measured runs of the store.
        catalog: Facts, for the reason why the model says nothing.
    """
    total = float(row["energy_per_output_j"])
    basis = basis_of(row, "energy_per_output_j")
    series = curves.of(row)
    above, below = neighbouring_gains(row, series)
    gain = above if above is not None else min(below or 1.0, 1.0)
    latents, reason = {**measured_latents(row), **_inferred(row, catalog)}, why_unmodelled(row, catalog)
    starved = latents.get("starved_fraction")
    bound = _bound(row, gain, starved.value if starved else 0.0)
    best = _best_in_series(total, series)
    ledger = _ledger(row, total, basis, starved.value if starved else None)
    case = Case(
        row=row,
        latents=latents,
        shares={part.part: part.joules_per_output / total for part in ledger},
        bound_by=bound,
        batch_holder=bound,
        gain_ratio={},
        batch_gain_ratio=gain,
        changes={},
        series=series,
        siblings=siblings_of(row, curves),
    )
    return Diagnosis(
        run_id=row["run_id"],
        label=label(row),
        output_unit=row["output_unit"],
        latents=latents,
        missing_latents=missing_latents(row, latents, reason),
        ledger=ledger,
        total_j_per_output=total,
        total_basis=basis,
        ideal_j_per_output=best,
        above_ideal=(AboveIdeal(name="batch", ratio=total / best),),
        bound_by=bound,
        bound_margin=1.0,
        next_bound=None,
        findings=findings_of(case),
        notes=(
            f"from measurements alone, because {reason}; the ideal is the best that was measured at another batch",
            *(() if bound else ("what binds it cannot be told",)),
        ),
    )


def why_unmodelled(row: Mapping[str, Any], catalog: Catalog) -> str:
    """Return why the model cannot describe a run."""
    if row["model_id"] not in catalog.models:
        return f"the catalog does not know the shape of {row['model_id']} (its config.json tells it)"
    if row["gpu_model"] is None:
        return "no GPU model is stated"
    try:
        catalog.gpu(row["gpu_model"])
    except UnknownNameError:
        return f"the catalog does not know the GPU {row['gpu_model']}"
    lacking = [name for name in ("num_gpus", "batch_size", "mean_output_tokens") if not row[name]]
    return f"the run does not state {', '.join(lacking)}"


def _inferred(row: Mapping[str, Any], catalog: Catalog) -> dict[str, Quantity]:
    """Return what follows from a counter or a datasheet: waiting, and power over the GPUs' limit."""
    found = {}
    busy = row["sm_utilization"]
    if busy is not None and row["starved_fraction"] is None and busy < BUSY_SM_UTILIZATION:
        found["starved_fraction"] = Quantity(
            value=1.0 - busy / BUSY_SM_UTILIZATION,
            unit="1",
            basis=weakest(basis_of(row, "sm_utilization"), Basis.MODELLED),
            low=1.0 - busy / BUSY_SM_UTILIZATION,
            high=1.0 - busy,
        )
    try:
        tdp_w = catalog.gpu(row["gpu_model"] or "").tdp_w
    except UnknownNameError:
        return found
    if row["power_w"] and row["num_gpus"]:
        limit_w = min(row["power_limit_w"] or tdp_w, tdp_w) * row["num_gpus"]
        found["power_of_limit"] = Quantity(value=row["power_w"] / limit_w, unit="1", basis=basis_of(row, "power_w"))
    return found


def _ledger(row: Mapping[str, Any], total: float, basis: Basis, told: float | None) -> tuple[LedgerPart, ...]:
    idle_w, throughput = row["loaded_idle_power_w"], row["output_throughput_per_s"]
    if not idle_w or not throughput:
        return (LedgerPart(part=Part.UNEXPLAINED, joules_per_output=total, low=0.0, high=total, basis=basis),)
    static = min(idle_w / throughput, total)
    slack = static * IDLE_SPREAD
    starved = (told or 0.0) * static
    working, rest = static - starved, max(total - static, 0.0)
    # The idle power is that of a GPU that waits: taking it for that of a working one is a model, if a small one.
    weaker = weakest(basis, Basis.MODELLED)

    def part(name: Part, joules: float, low: float, high: float) -> LedgerPart:
        return LedgerPart(part=name, joules_per_output=joules, low=max(low, 0.0), high=high, basis=weaker)

    return (
        part(Part.STATIC_WORKING, working, 0.0 if told is None else working - slack, working + slack),
        part(Part.STATIC_STARVED, starved, starved - slack, static if told is None else starved + slack),
        part(Part.DYNAMIC, rest, rest - slack, rest + slack),
    )


def _best_in_series(total: float, series: Series | None) -> float:
    energies = [r["energy_per_output_j"] for r in series.rows] if series else []
    return float(min([e for e in energies if e] + [total]))


def _bound(row: Mapping[str, Any], gain: float, starved: float) -> Bound | None:
    """Return what measurements show to bind a run; ``None`` where they show nothing."""
    if starved > STARVED:
        return Bound.HOST
    if (row["kv_cache_utilization"] or 0.0) > MEMORY_FULL:
        return Bound.MEMORY_CAPACITY
    ceiling, batch = row["max_num_seqs"] or row["batch_size"], row["batch_size"]
    if ceiling and batch and batch < FILLED * ceiling:
        waits = (row["requests_waiting"] or 0.0) > 1.0 or held_outside(row) is not None
        return Bound.HOST if waits else Bound.UNDER_FILLED
    return Bound.APPLICATION_LIMIT if gain > UNSATURATED else None
