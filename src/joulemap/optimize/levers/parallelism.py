"""Parallelism: the same GPUs divided another way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

NAME = "parallelism"
COSTS = "nothing where it helps; the engine has to be started anew"
EVIDENCE = "measured series that differ in parallelism alone; else the calibrated model"


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether there is more than one GPU to divide."""
    return (row["num_gpus"] or 1) > 1


def options(frame: pl.DataFrame) -> pl.DataFrame:
    """Return text rows with experts divided by tensor parallelism, and diffusion rows with half of each ring."""
    several = frame.filter(pl.col("num_gpus") > 1)
    text = several.filter((pl.col("output_unit") == "token") & (pl.col("expert_parallel") > 1)).with_columns(
        tensor_parallel=pl.col("num_gpus"), expert_parallel=pl.lit(1, dtype=pl.Int64)
    )
    made = several.filter(pl.col("output_unit") != "token")
    rings = [
        made.filter(pl.col("num_gpus") % ring == 0).with_columns(
            ring_degree=pl.lit(ring, dtype=pl.Int64),
            ulysses_degree=(pl.col("num_gpus") / ring).cast(pl.Int64),
        )
        for ring in (1, 2)
    ]
    other = pl.concat(rings).join(
        made.select("num_gpus", "ulysses_degree", "ring_degree", "model_id"),
        on=["num_gpus", "ulysses_degree", "ring_degree", "model_id"],
        how="anti",
    )
    return pl.concat([text, other])
