"""An older GPU uses less energy for this work."""

from __future__ import annotations

from joulemap.catalog import load_catalog
from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Finding
from joulemap.diagnose.findings.wording import (
    MEASURED_CONFIDENCE,
    confidence_of,
    described,
    measured_change,
    weight_of,
)
from joulemap.errors import UnknownNameError

NAME = "older-gpu-is-more-efficient-here"
WORTH = 0.98


def find(case: Case) -> Finding | None:
    """Find it where an older GPU model was measured at this batch with less energy."""
    year = _year(case.row["gpu_model"])
    older = [r for r in case.beside("gpu_model") if year is not None and (_year(r["gpu_model"]) or year) < year]
    if not older or older[0]["energy_per_output_j"] > WORTH * case.energy_j:
        return None
    change = measured_change(case.row, older[0])
    return Finding(
        name=NAME,
        cause="the newer GPU's static power and width are not used by this work",
        evidence=(f"the older GPU at this batch: {described(older[0])}", f"this run: {described(case.row)}"),
        lever=f"serve this on {older[0]['gpu_model']}, or give the newer GPU more work at once",
        change=change,
        confidence=min(MEASURED_CONFIDENCE, confidence_of(change)),
        weight=weight_of(change),
        falsified_by="the newer GPU with less energy at this batch and a full host",
    )


def _year(gpu_model: str | None) -> int | None:
    if gpu_model is None:
        return None
    try:
        return load_catalog().gpu(gpu_model).release_year
    except UnknownNameError:
        return None
