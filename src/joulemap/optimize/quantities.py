"""The quantities of a candidate: value, interval and basis of each, as columns."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from joulemap.diagnose.series import Curves
from joulemap.physics.arrays import Floats
from joulemap.records import Basis

OUTCOMES = (
    *("energy_per_output_j", "energy_per_request_j", "power_w", "output_throughput_per_s"),
    *("request_throughput_per_s", "itl_median_s", "itl_p99_s", "ttft_median_s"),
    *("latency_mean_s", "latency_median_s"),
)
"""Quantities of a candidate; each also has ``_low``, ``_high`` (90 % interval) and ``_basis`` columns.

``latency_mean_s`` is a text request's mean latency, ``latency_median_s`` a diffusion batch's median latency.
"""
Z90 = 1.645
"""Standard deviations on either side of a normal's 90 % interval."""
FALLBACK_REPEATABILITY = 0.07
"""Relative deviation of a measurement where a store has too few repeats to tell: the study's H100 nodes differ
by about 7 % in power."""


def latency_of(output_unit: str) -> str:
    """Return the column that ``latency`` means for an output: a request's for text, else a batch's."""
    return "latency_mean_s" if output_unit == "token" else "latency_median_s"


def repeatability(curves: Curves, quantity: str) -> float:
    """Return the relative standard deviation between measurements of one configuration."""
    found, _interpolation = curves.errors(quantity)
    return FALLBACK_REPEATABILITY if found is None else found[0]


def with_interval(frame: pl.DataFrame, quantity: str, deviation: Floats | float, basis: Basis) -> pl.DataFrame:
    """Return the table with a quantity's interval from its deviation (in logarithms), and its basis.

    Args:
        frame: Has the column ``quantity``, null where the quantity is not known.
        quantity: The column.
        deviation: Standard deviation of the quantity's logarithm, of each row or of all.
        basis: The basis of all rows.
    """
    spread = pl.Series("spread", np.exp(Z90 * np.broadcast_to(np.asarray(deviation, float), frame.height)))
    value = pl.col(quantity)
    return frame.with_columns(
        (value / spread).alias(f"{quantity}_low"),
        (value * spread).alias(f"{quantity}_high"),
        pl.when(value.is_not_null()).then(pl.lit(basis.value)).alias(f"{quantity}_basis"),
    )


def deviations_of(frame: pl.DataFrame, quantity: str) -> Floats:
    """Return the standard deviation of a quantity's logarithm in each row, not a number where there is none."""
    ratio = (frame[f"{quantity}_high"] / frame[quantity]).cast(pl.Float64).fill_null(math.nan)
    return np.asarray(np.log(ratio.to_numpy()) / Z90, dtype=np.float64)


def without(quantity: str) -> list[pl.Expr]:
    """Return the columns of a quantity that no row has."""
    return [
        pl.lit(None, dtype=pl.Float64).alias(quantity),
        pl.lit(None, dtype=pl.Float64).alias(f"{quantity}_low"),
        pl.lit(None, dtype=pl.Float64).alias(f"{quantity}_high"),
        pl.lit(None, dtype=pl.String).alias(f"{quantity}_basis"),
    ]
