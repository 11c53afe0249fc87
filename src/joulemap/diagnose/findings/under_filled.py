"""Fewer requests than the server could run together."""

from __future__ import annotations

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Bound, Change, Finding
from joulemap.diagnose.findings.wording import relief, weight_of

NAME = "under-filled"
WORTH = 1.08


def find(case: Case) -> Finding | None:
    """Find it where neither the ceiling, memory nor the host holds the batch."""
    if case.batch_holder is not Bound.UNDER_FILLED or case.batch_gain_ratio < WORTH:
        return None
    change: Change = case.changes.get("batch-ceiling-by-configuration") or relief(case.batch_gain_ratio)
    return Finding(
        name=NAME,
        cause="demand is too low to fill the batch: weights are read and static power is drawn for few requests",
        evidence=(f"{case.batch:.0f} of {case.row['batch_ceiling']:g} allowed requests ran together, none waited",),
        lever="fewer replicas or GPUs for this demand, requests gathered from several services, or batch "
        "jobs beside",
        change=change,
        confidence=0.7,
        weight=weight_of(change),
        falsified_by="requests waiting in the engine's queue",
    )
