"""Candidates between the measured batches of a series: logarithms linear in the logarithm of the batch ceiling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from joulemap.diagnose.series import Curves
from joulemap.optimize.quantities import OUTCOMES, repeatability, with_interval
from joulemap.optimize.scope import SYSTEM_COLUMNS, WORK_COLUMNS
from joulemap.records import Basis

_LENGTHS = ("mean_input_tokens", "mean_output_tokens")
"""Mean lengths differ a little from run to run of one series, and are interpolated with the rest."""
_SERIES = ["base_model", *(c for c in (*WORK_COLUMNS, *SYSTEM_COLUMNS) if c not in _LENGTHS)]
_READ = (*OUTCOMES, "batch_size", *_LENGTHS)
_UNKNOWN_INTERPOLATION = 0.05
"""Relative deviation where a store has no series of three runs to tell it by."""


def interpolated(runs: pl.DataFrame, ceilings: Sequence[float], curves: Curves) -> pl.DataFrame:
    """Return candidates at the ceilings that lie between measured ones of the same series.

    Args:
        runs: Measured runs with series columns.
        ceilings: Batch ceilings wanted.
        curves: All batch curves, whose errors give the intervals.
    """
    made: list[pl.DataFrame] = []
    for series in runs.sort("batch_ceiling").partition_by(_SERIES, maintain_order=True):
        own = series.unique("batch_ceiling", keep="last", maintain_order=True)
        x = own["batch_ceiling"].to_numpy()
        wanted = np.array([c for c in ceilings if x[0] < c < x[-1] and not np.isclose(x, c).any()])
        if len(wanted):
            made.append(_between(own, wanted))
    if not made:
        return runs.clear()
    frame = pl.concat(made, how="diagonal_relaxed")
    for quantity in OUTCOMES:
        error = curves.errors(quantity)[1] or _UNKNOWN_INTERPOLATION
        deviation = float(np.hypot(repeatability(curves, quantity), error))
        frame = with_interval(frame, quantity, deviation, Basis.INTERPOLATED)
    return frame


def _between(own: pl.DataFrame, wanted: np.ndarray[tuple[int], np.dtype[np.float64]]) -> pl.DataFrame:
    """Return one series' rows at the wanted ceilings."""
    x = own["batch_ceiling"].to_numpy()
    above = np.searchsorted(x, wanted)
    ids = own["run_id"].to_list()
    columns: dict[str, object] = {
        "batch_ceiling": wanted,
        "run_ids": [[ids[i - 1], ids[i]] for i in above],
    }
    for name in _READ:
        values = own[name].cast(pl.Float64).to_numpy()
        known = np.isfinite(values) & (values > 0)
        if known.sum() < 2:
            columns[name] = [None] * len(wanted)
            continue
        logs = np.interp(np.log(wanted), np.log(x[known]), np.log(values[known]), left=np.nan, right=np.nan)
        columns[name] = pl.Series(name, np.exp(logs)).fill_nan(None)
    frame = pl.DataFrame(columns, schema_overrides=dict.fromkeys(_READ, pl.Float64))
    shared = own.head(1).select(_SERIES)
    frame = shared.join(frame, how="cross")
    asked = pl.col("batch_ceiling").round().cast(pl.Int64)
    token = pl.col("output_unit") == "token"
    return frame.with_columns(pl.when(token).then(asked).alias("max_num_seqs"))
