"""Replicas of attention wait for the slowest of them."""

from __future__ import annotations

import polars as pl

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Bound, Change, Finding
from joulemap.diagnose.findings.wording import (
    described,
    measured_change,
    relief,
    weight_of,
)

NAME = "attention-data-parallel-imbalance"
WORTH = 1.05
WAITED = 0.1
"""Share of time spent waiting that is worth telling."""


def alternative(frame: pl.DataFrame) -> pl.DataFrame:
    """Attention divided by heads instead of by requests."""
    return frame.filter(pl.col("data_parallel") > 1).with_columns(
        data_parallel=pl.lit(1, pl.Int64), tensor_parallel=pl.col("num_gpus")
    )


def find(case: Case) -> Finding | None:
    """Find it where attention is data-parallel and undivided attention would save energy."""
    if (case.row["data_parallel"] or 1) < 2 or case.gain_ratio.get(Bound.IMBALANCE, 1.0) < WORTH:
        return None
    change: Change = case.changes.get(NAME) or relief(case.gain_ratio[Bound.IMBALANCE] ** 2)
    evidence = [f"{case.row['data_parallel']} replicas of the attention layers"]
    starved = case.latents.get("starved_fraction")
    if starved is not None and starved.value > WAITED:
        evidence.append(f"GPUs waited {starved.value:.0%} of the time ({starved.basis.value})")
    whole = [r for r in case.beside("precision") if (r["data_parallel"] or 1) == 1]
    if whole:
        change = measured_change(case.row, whole[0])
        evidence.append(f"without replicas at this batch: {described(whole[0])}")
    return Finding(
        name=NAME,
        cause="requests differ in length, so that replicas finish each step at different times; all wait for the "
        "slowest, and for any that reads a prompt, at static power",
        evidence=tuple(evidence),
        lever="tensor-parallel attention, routing by outstanding tokens, or prefill apart from decoding",
        change=change,
        confidence=0.85,
        weight=max(weight_of(change), 0.3) * 1.5,
        falsified_by="equal step times on all replicas",
        shows=Bound.IMBALANCE,
    )
