"""Batch: more requests together share the reading of weights, and each waits longer for its next token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

NAME = "batch"
COSTS = "inter-token latency rises with the batch, and memory must hold every request's KV cache"
EVIDENCE = "measured batch sweeps; between and beyond them the calibrated model"

TEXT_CEILINGS = tuple(float(b) for n in range(13) for b in ((2**n, 3 * 2 ** (n - 1)) if n else (1,)))
"""Powers of two up to 4,096, and one value between each two."""
DIFFUSION_BATCHES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether the row has a batch to change."""
    return bool(row["output_unit"])


def options(frame: pl.DataFrame, more: tuple[float, ...] = ()) -> pl.DataFrame:
    """Return every row at every usual batch.

    Args:
        frame: Configurations with or without a batch.
        more: Further batches.
    """
    parts = []
    for token, usual in ((True, TEXT_CEILINGS), (False, DIFFUSION_BATCHES)):
        own = frame.filter((pl.col("output_unit") == "token") == token)
        ceilings = pl.DataFrame({"batch_ceiling": sorted({*usual, *more})}, schema={"batch_ceiling": pl.Float64})
        parts.append(own.drop("batch_ceiling", strict=False).join(ceilings, how="cross"))
    return with_batch(pl.concat(parts), pl.col("batch_ceiling"))


def with_batch(frame: pl.DataFrame, ceiling: pl.Expr) -> pl.DataFrame:
    """Return the rows with a batch ceiling that requests are taken to fill."""
    asked = pl.when(pl.col("output_unit") == "token").then(ceiling.round().cast(pl.Int64))
    return frame.with_columns(
        ceiling.cast(pl.Float64).alias("batch_ceiling"),
        ceiling.cast(pl.Float64).alias("batch_size"),
        asked.alias("max_num_seqs"),
    )
