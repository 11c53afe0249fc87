"""A replica as a queueing server: how fast it works and what it draws, by the requests that it runs together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from joulemap.errors import UsageError
from joulemap.plan.problem import Floats

IDLE_SHARE = 0.5
"""Power of a loaded, idle GPU over that at the smallest batch, where the catalog has no reading: a guess."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchCurve:
    """What a replica does at each batch from 0 to its ceiling; every array is indexed by the batch.

    Between the points of an option's batch curve, logarithms are interpolated over the logarithm of the batch.
    Below its smallest batch the rate and power of that batch are kept.
    """

    rate_per_s: Floats
    """Requests of mean length that one of the running requests gets through per second: throughput ÷ batch."""
    power_w: Floats
    """GPU power; at batch 0 that of loaded, idle GPUs."""
    itl_median_s: Floats
    """Median inter-token latency; not a number where nothing is known."""
    ttft_s: Floats
    """Time to first token once a request is running; 0 where nothing is known."""

    @property
    def ceiling(self) -> int:
        """Most requests that run together."""
        return self.rate_per_s.size - 1


def batch_curve(points: pl.DataFrame, ceiling: float, idle_power_w: float | None) -> BatchCurve:
    """Return the curve of one series of options.

    Args:
        points: Options of one series (columns: ``joulemap.plan.options.OPTION_COLUMNS``).
        ceiling: Most requests that are to run together.
        idle_power_w: Of all GPUs with the model loaded and no request; ``None``: :data:`IDLE_SHARE` is assumed.

    Raises:
        UsageError: There is no point.
    """
    rows = (
        points.filter(pl.col("request_throughput_per_s") > 0).unique("batch_size", keep="first").sort("batch_size")
    )
    if rows.is_empty():
        msg = "a batch curve needs a configuration with a known throughput"
        raise UsageError(msg)
    batch = rows["batch_size"].to_numpy()
    most = max(round(ceiling), 1)
    grid = np.log(np.arange(1, most + 1, dtype=np.float64))

    def along(column: str) -> Floats:
        values = rows[column].cast(pl.Float64).to_numpy()
        known = np.isfinite(values) & (values > 0)
        if not known.any():
            return np.full(most, np.nan)
        return np.asarray(np.exp(np.interp(grid, np.log(batch[known]), np.log(values[known]))))

    throughput = rows["request_throughput_per_s"].to_numpy() / batch
    rate = np.exp(np.interp(grid, np.log(batch), np.log(throughput)))
    power = along("power_w")
    idle = min(IDLE_SHARE * power[0] if idle_power_w is None else idle_power_w, float(power.min()))
    return BatchCurve(
        rate_per_s=np.concatenate([[0.0], rate]),
        power_w=np.concatenate([[idle], power]),
        itl_median_s=np.concatenate([[np.nan], along("itl_median_s")]),
        ttft_s=np.concatenate([[0.0], np.nan_to_num(along("ttft_median_s"))]),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replica:
    """One replica of a fleet, and when it runs."""

    curve: BatchCurve
    site: int
    facility_power_w: Floats
    """Facility power by batch, its share of the server included; shape (ceiling + 1,)."""
    on_s: tuple[tuple[float, float], ...]
    """Spans in which it takes requests; after each it finishes what it has and is switched off."""
    label: str = ""
