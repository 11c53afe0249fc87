"""Narrow weights cost more than they save, because the batch is small."""

from __future__ import annotations

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

NAME = "quantisation-overhead-at-small-batch"
WORTH = 1.03


def find(case: Case) -> Finding | None:
    """Find it where the same model with 16-bit weights was measured at this batch with less energy."""
    if not is_narrow(case.row) or (case.row["data_parallel"] or 1) > 1:
        return None
    wide = [r for r in case.beside("precision") if is_wide(r)]
    if not wide or case.energy_j < WORTH * wide[0]["energy_per_output_j"]:
        return None
    change = measured_change(case.row, wide[0])
    return Finding(
        name=NAME,
        cause=f"quantising activations and scaling results for {case.row['weight_precision']} costs more than the "
        "narrower weights save while the batch is too small to use the arithmetic",
        evidence=(f"16-bit weights at this batch: {described(wide[0])}", f"this run: {described(case.row)}"),
        lever="serve 16-bit weights at this batch, or raise the batch until narrow weights pay",
        change=change,
        confidence=min(MEASURED_CONFIDENCE, confidence_of(change)),
        weight=weight_of(change) * 1.5,
        falsified_by="the same comparison at this batch on another node with the opposite sign",
    )
