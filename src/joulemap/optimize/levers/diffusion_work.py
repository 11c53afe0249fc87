"""Denoising steps, resolution and frames: their product is the work of a picture or a video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

NAME = "diffusion_work"
COSTS = "pictures change: fewer steps lose detail unless the model was distilled for them"
EVIDENCE = "the calibrated model: energy follows steps, and pixels × frames with attention's square"
STEP_SHARES = (0.75, 0.5)
SIDE_SHARE = 0.75
GRID_PX = 16
"""Sides are multiples of this many pixels."""


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether the row makes pictures or videos."""
    return row["output_unit"] != "token" and bool(row["inference_steps"])


def options(frame: pl.DataFrame) -> pl.DataFrame:
    """Return every diffusion row with fewer steps, with smaller pictures, and with fewer frames."""
    made = frame.filter((pl.col("output_unit") != "token") & (pl.col("inference_steps") > 1))
    fewer = [
        made.with_columns(inference_steps=(pl.col("inference_steps") * share).ceil().cast(pl.Int64))
        for share in STEP_SHARES
    ]
    sides = [
        ((pl.col(c) * SIDE_SHARE / GRID_PX).round().clip(lower_bound=1) * GRID_PX).cast(pl.Int64).alias(c)
        for c in ("height_px", "width_px")
    ]
    smaller = made.filter(pl.col("height_px").is_not_null()).with_columns(sides)
    shorter = made.filter(pl.col("num_frames") > 8).with_columns(
        num_frames=((pl.col("num_frames") - 1) // 8 * 4 + 1).cast(pl.Int64)
    )
    return pl.concat([*fewer, smaller, shorter])
