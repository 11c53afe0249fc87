"""Narrower weights save energy from some batch on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Finding
from joulemap.diagnose.findings.wording import (
    MEASURED_CONFIDENCE,
    confidence_of,
    described,
    is_narrow,
    is_wide,
    measured_change,
    weight_of,
)
from joulemap.diagnose.neighbours import nearest_in_batch

NAME = "fp8-pays-from-batch"
WORTH = 0.97


def find(case: Case) -> Finding | None:
    """Find it where a run has 16-bit weights and narrower ones were measured with less energy at its batch."""
    if not is_wide(case.row):
        return None
    narrow = [
        r
        for r in case.beside("precision")
        if is_narrow(r) and (r["data_parallel"] or 1) == (case.row["data_parallel"] or 1)
    ]
    if not narrow or narrow[0]["energy_per_output_j"] > WORTH * case.energy_j:
        return None
    change = measured_change(case.row, narrow[0])
    crossing = _pays_from(case, narrow[0])
    from_batch = f" (from about batch {crossing:.0f} on)" if crossing else ""
    return Finding(
        name=NAME,
        cause=f"{narrow[0]['weight_precision']} weights cost less here{from_batch}: less weight traffic and "
        "cheaper arithmetic, at a batch that uses it",
        evidence=(f"at this batch: {described(narrow[0])}", f"this run: {described(case.row)}"),
        lever=f"serve {narrow[0]['weight_precision']} weights, if quality allows",
        change=change,
        confidence=min(MEASURED_CONFIDENCE, confidence_of(change)),
        weight=weight_of(change),
        falsified_by="16-bit weights with less energy at this batch on another node",
    )


def _pays_from(case: Case, narrow: Mapping[str, Any]) -> float | None:
    """Return the smallest batch from which the narrower weights always had less energy."""
    own = case.series.rows if case.series else ()
    other = next(
        (s for s in case.siblings["precision"] if any(r["run_id"] == narrow["run_id"] for r in s.rows)), None
    )
    if other is None:
        return None
    smallest = None
    for row in sorted(own, key=lambda r: -float(r["batch_size"])):
        beside = nearest_in_batch(other, row)
        if beside is None:
            continue
        if beside["energy_per_output_j"] >= row["energy_per_output_j"]:
            break
        smallest = float(row["batch_size"])
    return smallest
