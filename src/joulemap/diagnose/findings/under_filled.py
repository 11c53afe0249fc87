"""Fewer requests than the server could run together."""

from __future__ import annotations

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Bound, Change, Finding
from joulemap.diagnose.findings.wording import at_most, relief, weight_of

NAME = "under-filled"
WORTH = 1.08


def find(case: Case) -> Finding | None:
    """Find it where neither the ceiling, memory nor the host holds the batch."""
    if case.batch_holder is not Bound.UNDER_FILLED or case.batch_gain_ratio < WORTH:
        return None
    modelled: Change = case.changes.get("batch-ceiling-by-configuration") or relief(case.batch_gain_ratio)
    change = at_most(modelled, case.batch_gain_ratio)
    arriving = case.row["request_rate_per_s"]
    evidence = [f"{case.batch:.3g} requests ran together"]
    if case.row["max_num_seqs"] is not None:
        evidence = [f"{case.batch:.0f} of {case.row['max_num_seqs']} allowed requests ran together"]
    if arriving is not None:
        evidence.append(f"{arriving:.3g} requests arrived each second")
    if case.row["requests_waiting"] is not None:
        evidence.append(f"{case.row['requests_waiting']:.1f} requests waited in the engine's queue")
    usage = case.latents.get("kv_cache_utilization")
    if usage is not None:
        evidence.append(f"KV-cache utilisation {usage.value:.0%} ({usage.basis.value})")
    return Finding(
        name=NAME,
        cause="demand is too low to fill the batch: weights are read and static power is drawn for few requests",
        evidence=tuple(evidence),
        lever="fewer replicas or GPUs for this demand, requests gathered from several services, or batch "
        "jobs beside",
        change=change,
        confidence=0.7,
        weight=weight_of(change),
        falsified_by="requests waiting in the engine's queue",
    )
