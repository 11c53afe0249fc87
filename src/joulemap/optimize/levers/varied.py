"""What levers share: copies of rows with one setting changed."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from joulemap.diagnose.series import PARALLELISM


def varied(frame: pl.DataFrame, column: str, values: Sequence[float | str]) -> pl.DataFrame:
    """Return a copy of every row for each value that differs from its own.

    Args:
        frame: The rows.
        column: The setting to change.
        values: What to change it to.
    """
    if not values:
        return frame.clear()
    kind = frame.schema[column]
    settings = pl.DataFrame({column: pl.Series(list(values)).cast(kind)})
    crossed = frame.rename({column: "_own"}).join(settings, how="cross")
    return crossed.filter(pl.col("_own").ne_missing(pl.col(column))).drop("_own").select(frame.columns)


def default_parallelism(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with their parallelism left to what such models are usually served with."""
    names = [c for c in PARALLELISM if c in frame.columns]
    return frame.with_columns(pl.lit(None, dtype=pl.Int64).alias(c) for c in names)
