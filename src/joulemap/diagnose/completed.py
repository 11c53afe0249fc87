"""Runs completed with what their sources left out, where it follows from the rest or is the publisher's default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from joulemap.catalog import Catalog, DiffusionArchitecture
from joulemap.predict.forms import Models
from joulemap.records import Basis

PIPELINE = {
    "inference_steps": "steps",
    "height_px": "height_px",
    "width_px": "width_px",
    "num_frames": "num_frames",
}
"""Columns that shape a pipeline's output, and where its publisher's defaults say them."""


def completed(frame: pl.DataFrame, catalog: Catalog, models: Models | None = None) -> pl.DataFrame:
    """Return the run table with batches and shapes of outputs that no source states filled in.

    Args:
        frame: The runs.
        catalog: Facts.
        models: Architectures beside the catalog's.
    """
    return _with_shapes(_with_batches(frame), {**catalog.models, **(models or {})})


def _with_batches(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the table with batches by Little's law.

    Tokens per second times seconds per token is the number of sequences that run together.
    """
    inferred = pl.col("output_throughput_per_s") * pl.coalesce("tpot_mean_s", "itl_mean_s", "itl_median_s")
    lacking = pl.col("batch_size").is_null() & (pl.col("output_unit") == "token") & (inferred > 0)
    return _filled(frame, "batch_size", lacking, inferred, Basis.MODELLED)


def _with_shapes(frame: pl.DataFrame, models: Models) -> pl.DataFrame:
    """Return the table with the steps and sizes that a pipeline's publisher uses, where none are stated."""
    pipelines = {i: m for i, m in models.items() if isinstance(m, DiffusionArchitecture)}
    for column, default in PIPELINE.items():
        values = [getattr(m.defaults, default) for m in pipelines.values()]
        usual = pl.col("model_id").replace_strict(list(pipelines), values, default=None, return_dtype=pl.Int64)
        lacking = pl.col(column).is_null() & usual.is_not_null()
        frame = _filled(frame, column, lacking, usual, Basis.ASSUMED)
    return frame


def _filled(frame: pl.DataFrame, column: str, lacking: pl.Expr, value: pl.Expr, basis: Basis) -> pl.DataFrame:
    if not frame.select(lacking.any()).item():
        return frame

    def told(annotations: str | None) -> str:
        stated: Mapping[str, Any] = json.loads(annotations) if annotations else {}
        return json.dumps({**stated, "basis": {**stated.get("basis", {}), column: basis.value}})

    annotated = pl.col("annotations").map_elements(told, return_dtype=pl.String, skip_nulls=False)
    return frame.with_columns(
        pl.when(lacking).then(value).otherwise(column).alias(column),
        pl.when(lacking).then(annotated).otherwise("annotations").alias("annotations"),
    )
