"""Precision: narrower weights are read faster and leave memory; at small batches quantising costs more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from joulemap.optimize.levers.varied import default_parallelism

NAME = "precision"
COSTS = "answers may change: narrower numbers lose accuracy, which only an evaluation of the task can tell"
EVIDENCE = "measured siblings in another precision; else the calibrated model"
WIDE = ("bfloat16", "float16")

BITS = {
    **dict.fromkeys(("float32", "fp32"), 32),
    **dict.fromkeys(("bfloat16", "bf16", "float16", "fp16", "half"), 16),
    **dict.fromkeys(("fp8", "float8", "fp8_e4m3", "fp8_e5m2", "int8"), 8),
    **dict.fromkeys(("fp4", "mxfp4", "nvfp4", "int4", "awq", "gptq"), 4),
}
"""Bits of a weight by the name of its format."""


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether 8-bit weights could replace the row's."""
    return row["output_unit"] == "token" and row["weight_precision"] in WIDE


def options(frame: pl.DataFrame) -> pl.DataFrame:
    """Return every 16-bit text row with FP8 weights."""
    wide = frame.filter((pl.col("output_unit") == "token") & pl.col("weight_precision").is_in(WIDE))
    return default_parallelism(wide.with_columns(weight_precision=pl.lit("fp8")))
