"""The GPU is larger than the model can use."""

from __future__ import annotations

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Finding, Part
from joulemap.diagnose.findings.wording import MEASURED_CONFIDENCE, described, relief, weight_of

NAME = "gpu-too-large-for-the-model"
RIVAL = 1.05
"""Another GPU's energy over this one's up to which it rivals it."""
LITTLE = 0.35
"""Utilisation of bandwidth and of arithmetic below which a GPU is hardly used."""
HARD_AT_WORK = 0.75
"""Share of its power limit from which a GPU is used, whatever its utilisation of peak."""
SATURATED = 1.12
"""Gain of a doubled batch below which more batch does not fill the GPU either."""


def find(case: Case) -> Finding | None:
    """Find it where neither bandwidth nor arithmetic is used, nothing waits, and more batch does not help."""
    bandwidth, compute = case.latent("memory_bandwidth_utilization"), case.latent("compute_utilization")
    starved = case.latent("starved_fraction") or 0.0
    if bandwidth is None or compute is None or max(bandwidth, compute) > LITTLE or starved > LITTLE:
        return None
    drawn = case.latent("power_of_limit")
    if (case.batch_gain_ratio > SATURATED and case.is_token) or drawn is None or drawn > HARD_AT_WORK:
        return None
    static = case.shares.get(Part.STATIC_WORKING, 0.0) + case.shares.get(Part.STATIC_STARVED, 0.0)
    change = relief(1.0 / max(1.0 - 0.5 * static, 0.1), spread=0.5)
    evidence = [
        f"memory bandwidth {bandwidth:.0%} and arithmetic {compute:.0%} of peak in use",
        f"static power is {static:.0%} of the energy",
    ]
    others = case.beside("gpu_model")
    evidence += [f"another GPU at this batch: {described(r)}" for r in others[:1]]
    # A GPU with less of everything that needs about as little energy shows that this one's is not used.
    rivalled = bool(others) and others[0]["energy_per_output_j"] < RIVAL * case.energy_j
    confidence = MEASURED_CONFIDENCE if rivalled else 0.5
    return Finding(
        name=NAME,
        cause="products and layers are too small to fill the GPU, which draws static power for all of it",
        evidence=tuple(evidence),
        lever="a smaller or older GPU, several instances on one GPU, or (diffusion) larger batches of requests",
        change=change,
        confidence=confidence,
        weight=0.7 * weight_of(change),
        falsified_by="activity counters that show tensor pipes or memory near their peak",
    )
