"""More GPUs would unlock a batch that saves more than they cost."""

from __future__ import annotations

import polars as pl

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Bound, Change, Finding
from joulemap.diagnose.findings.wording import confidence_of, described, measured_change, weight_of

NAME = "more-gpus-would-unlock-batch"
WORTH = 0.92


def alternative(frame: pl.DataFrame) -> pl.DataFrame:
    """Twice the GPUs with four times the batch: weights are then spread over twice the memory."""
    doubled = pl.col("num_gpus") * 2
    return frame.filter((pl.col("output_unit") == "token") & (doubled <= 8)).with_columns(
        num_gpus=doubled,
        tensor_parallel=pl.when(pl.col("tensor_parallel") > 1)
        .then(pl.col("tensor_parallel") * 2)
        .otherwise(pl.when(pl.col("expert_parallel") > 1).then(1).otherwise(doubled)),
        expert_parallel=pl.when(pl.col("expert_parallel") > 1).then(doubled).otherwise(pl.col("expert_parallel")),
        batch_size=pl.col("batch_size") * 4.0,
        max_num_seqs=(pl.col("batch_ceiling") * 4.0).ceil().cast(pl.Int64),
    )


def find(case: Case) -> Finding | None:
    """Find it where memory holds the batch and more GPUs reach a larger one with less energy."""
    if case.batch_holder is not Bound.MEMORY_CAPACITY or not case.is_token:
        return None
    reached = [
        row
        for series in case.siblings.get("num_gpus", ())
        for row in series.rows
        if row["num_gpus"] > (case.row["num_gpus"] or 1)
        and row["batch_size"] > case.batch
        and row["energy_per_output_j"] < WORTH * case.energy_j
    ]
    evidence = []
    if reached:
        best = min(reached, key=lambda r: float(r["energy_per_output_j"]))
        change: Change | None = measured_change(case.row, best)
        evidence.append(f"measured: {described(best)}")
        gpus = best["num_gpus"]
    else:
        change, gpus = case.changes.get(NAME), 2 * (case.row["num_gpus"] or 1)
        evidence.append("modelled: twice the GPUs with four times the batch")
    if change is None or change.energy_ratio is None or change.energy_ratio > WORTH:
        return None
    evidence.append(f"this run: {described(case.row)}")
    return Finding(
        name=NAME,
        cause="weights leave too little memory for KV cache; another GPU would hold a batch that saves more "
        "than the GPU costs",
        evidence=tuple(evidence),
        lever=f"serve on {gpus} GPUs and let the batch grow",
        change=change,
        confidence=confidence_of(change),
        # Unless it was measured, it is one way among others to mend what the ceiling's finding names.
        weight=weight_of(change) * (1.0 if reached else 0.5),
        falsified_by="the batch does not grow on more GPUs: the queue is empty",
    )
