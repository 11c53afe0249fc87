"""Memory share and longest context: more memory for the KV cache holds a larger batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from joulemap.catalog import load_catalog
from joulemap.optimize.levers.batch import with_batch
from joulemap.predict.language import ENGINE_MEMORY_SHARE
from joulemap.predict.predict import predict_many

NAME = "memory_share"
COSTS = (
    "less memory is spared for spikes, so an engine may run out of it; a lower max_model_len refuses longer "
    "requests, and frees memory only where the engine reserves it"
)
EVIDENCE = "the memory budget's bytes, and the calibrated model at the larger batch"
SHARE = 0.95
NEAR = 0.7
"""Share of the modelled ceiling above which memory is thought to hold the batch."""


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether the row's engine keeps a KV cache within a smaller share."""
    return row["output_unit"] == "token" and (row["gpu_memory_utilization"] or ENGINE_MEMORY_SHARE) < SHARE


def options(frame: pl.DataFrame) -> pl.DataFrame:
    """Return text rows whose batch memory holds, with the batch that a share of 95 % would hold.

    The batch grows with the memory left for caches, of which the wider share adds to a small remainder.
    """
    text = frame.filter(pl.col("output_unit") == "token")
    if text.is_empty():
        return text
    said = predict_many(text)
    catalog = load_catalog()
    memory = pl.Series("memory", [float(catalog.gpu(name).memory_bytes) for name in text["gpu_model"]])
    left = said["memory_available_bytes"]
    more = 1.0 + (SHARE - ENGINE_MEMORY_SHARE) * memory / left.clip(lower_bound=1.0)
    held = (text["batch_size"] >= NEAR * said["batch_ceiling"]) & (left > 0)
    grown = text.with_columns(more.alias("_more"), gpu_memory_utilization=pl.lit(SHARE)).filter(held)
    return with_batch(grown, (pl.col("batch_ceiling") * pl.col("_more")).floor()).drop("_more")
