"""GPU count: more GPUs at the same batch cost energy, unless their memory unlocks a batch that pays for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from joulemap.optimize.levers.varied import default_parallelism, varied

NAME = "gpu_count"
COSTS = "at the same batch more GPUs cost energy for communication and buy latency"
EVIDENCE = "measured series of other GPU counts; else the calibrated model"
COUNTS = (1, 2, 4, 8)


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether the row's GPUs are counted."""
    return bool(row["num_gpus"])


def options(frame: pl.DataFrame) -> pl.DataFrame:
    """Return every row on the other usual numbers of GPUs, parallelism as such models are usually served."""
    return default_parallelism(varied(frame, "num_gpus", COUNTS))
