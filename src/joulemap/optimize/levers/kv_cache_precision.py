"""KV-cache precision: half the bytes a cached token, so less to read and room for twice the requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

NAME = "kv_cache_precision"
COSTS = "long answers may lose accuracy; not every attention kernel reads FP8 caches as fast"
EVIDENCE = "the calibrated model's bytes; the study has no run with an FP8 cache"


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether the row keeps its cache in 16 bits."""
    return row["output_unit"] == "token" and not str(row["kv_cache_precision"] or "").startswith("fp8")


def options(frame: pl.DataFrame) -> pl.DataFrame:
    """Return every text row with an FP8 cache at the same batch."""
    wide = ~pl.col("kv_cache_precision").fill_null("").str.starts_with("fp8")
    return frame.filter((pl.col("output_unit") == "token") & wide).with_columns(kv_cache_precision=pl.lit("fp8"))
