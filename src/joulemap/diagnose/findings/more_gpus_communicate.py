"""More GPUs at the same batch only add communication."""

from __future__ import annotations

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Finding
from joulemap.diagnose.findings.wording import (
    MEASURED_CONFIDENCE,
    confidence_of,
    described,
    measured_change,
    weight_of,
)

NAME = "more-gpus-only-add-communication"
WORTH = 0.97


def find(case: Case) -> Finding | None:
    """Find it where fewer GPUs were measured at this batch with less energy."""
    fewer = [r for r in case.beside("num_gpus") if r["num_gpus"] < (case.row["num_gpus"] or 1)]
    if not fewer or fewer[0]["energy_per_output_j"] > WORTH * case.energy_j:
        return None
    change = measured_change(case.row, fewer[0])
    talking = case.latents.get("communication_fraction")
    evidence = [f"fewer GPUs at this batch: {described(fewer[0])}", f"this run: {described(case.row)}"]
    if talking is not None:
        evidence.append(f"communication takes {talking.value:.0%} of a step ({talking.basis.value})")
    return Finding(
        name=NAME,
        cause="at this batch the work of each GPU is too little: more GPUs add communication and static power",
        evidence=tuple(evidence),
        lever=f"serve this batch on {fewer[0]['num_gpus']} GPU(s), or use the memory of {case.row['num_gpus']} for "
        "a larger batch",
        change=change,
        confidence=min(MEASURED_CONFIDENCE, confidence_of(change)),
        weight=weight_of(change),
        falsified_by="a larger batch on these GPUs that still costs more than fewer GPUs at theirs",
    )
