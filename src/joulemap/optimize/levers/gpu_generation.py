"""GPU generation: another GPU model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from joulemap.catalog import load_catalog
from joulemap.optimize.levers.varied import varied

NAME = "gpu_generation"
COSTS = "other hardware has to be had; a larger GPU that its work cannot fill wastes power"
EVIDENCE = "measured series on the other GPU; else the calibrated model, from the datasheet where it has no run"


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether the row's GPU is named."""
    return bool(row["gpu_model"])


def options(frame: pl.DataFrame) -> pl.DataFrame:
    """Return every row on every other GPU model of the catalog."""
    return varied(frame, "gpu_model", tuple(load_catalog().gpus))
