"""What configurations are predicted to show, for looking before a sweep begins."""

from __future__ import annotations

import polars as pl

from joulemap.catalog import Catalog
from joulemap.errors import UsageError
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import Models
from joulemap.predict.predict import predict_many

PREDICTED = ("energy_per_output_j", "power_w", "output_throughput_per_s", "itl_median_s", "latency_median_s")
"""Quantities that are forecast, each with ``_low`` and ``_high`` (90 % interval) where the model has it."""


def forecast(
    grid: pl.DataFrame,
    *,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> pl.DataFrame:
    """Return what the calibrated model says of each row of a grid.

    Args:
        grid: Columns as for :class:`~joulemap.optimize.frontier_search.FrontierSearch`.
        calibration: The calibrated model; the shipped one if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id that the catalog lacks.

    Returns:
        One row each, in order: ``PREDICTED`` with intervals, ``fits`` (whether memory is thought to hold the batch)
        and ``unpredicted``, the reason where nothing can be said.
    """
    table = grid.with_row_index("position").with_columns(
        pl.col("batch_ceiling").cast(pl.Float64).alias("batch_size")
    )
    wanted = [f"{name}{ending}" for name in PREDICTED for ending in ("", "_low", "_high")]
    parts = []
    for group in table.partition_by("model_id", "gpu_model", "weight_precision", maintain_order=True):
        own = group.select("position")
        try:
            said = predict_many(group, calibration, catalog=catalog, models=models)
        except UsageError as error:
            parts.append(own.with_columns(pl.lit(error.message).alias("unpredicted")))
            continue
        fits = (group["batch_size"] <= said["batch_ceiling"]).alias("fits")
        parts.append(own.hstack([said[name] for name in wanted if name in said.columns]).hstack([fits]))
    whole = pl.concat(parts, how="diagonal").sort("position").drop("position")
    lacking = {**dict.fromkeys(wanted, pl.Float64), "fits": pl.Boolean, "unpredicted": pl.String}
    missing = [pl.lit(None, dtype=kind).alias(name) for name, kind in lacking.items() if name not in whole.columns]
    return whole.with_columns(missing).select(list(lacking))
