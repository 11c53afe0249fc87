"""The batch stops at a configured ceiling although memory has room."""

from __future__ import annotations

import polars as pl

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Bound, Change, Finding, FindingKind
from joulemap.diagnose.findings.wording import (
    at_most,
    confidence_of,
    described,
    measured_change,
    relief,
    weight_of,
)

NAME = "batch-ceiling-by-configuration"
WORTH = 1.08


def alternative(frame: pl.DataFrame) -> pl.DataFrame:
    """Twice the configured ceiling, filled."""
    return frame.with_columns(
        batch_size=pl.col("batch_size") * 2.0,
        max_num_seqs=pl.when(pl.col("max_num_seqs").is_not_null()).then(
            (pl.col("batch_ceiling") * 2.0).ceil().cast(pl.Int64)
        ),
    )


def find(case: Case) -> Finding | None:
    """Find it where the ceiling is filled, memory has room, and a larger batch saves energy."""
    if case.batch_holder is not Bound.APPLICATION_LIMIT or case.batch_gain_ratio < WORTH:
        return None
    higher = [
        row
        for row in (case.series.rows if case.series else ())
        if row["batch_size"] > 1.2 * case.batch and row["energy_per_output_j"] < case.energy_j
    ]
    change: Change = at_most(case.changes.get(NAME) or relief(case.batch_gain_ratio), case.batch_gain_ratio)
    evidence = [_ran_together(case)]
    usage = case.latents.get("kv_cache_utilization")
    if usage is not None:
        evidence.append(f"KV-cache utilisation {usage.value:.0%} ({usage.basis.value})")
    if higher:
        best = min(higher, key=lambda r: float(r["energy_per_output_j"]))
        change = measured_change(case.row, best)
        evidence.append(f"a higher ceiling was measured: {described(best)}")
    knob = "the batch size"
    if case.row["max_num_seqs"] is not None:
        knob = "max_num_seqs"
    elif case.row["max_concurrency"] is not None:
        knob = "the requests that the client keeps in flight (max_concurrency)"
    return Finding(
        name=NAME,
        cause="the application limits the batch below what fits, so static power and weights are spread over few",
        evidence=tuple(evidence),
        lever=f"raise {knob}, as far as latency allows",
        change=change,
        confidence=confidence_of(change),
        weight=weight_of(change),
        falsified_by="no more requests running together after the ceiling was raised",
        kind=FindingKind.CHOICE,
    )


def _ran_together(case: Case) -> str:
    if case.row["max_num_seqs"] is None and case.row["max_concurrency"] is not None:
        return f"{case.batch:.0f} requests ran together; the client kept {case.row['max_concurrency']} in flight"
    return f"{case.batch:.0f} of {case.row['batch_ceiling']:g} allowed requests ran together"
