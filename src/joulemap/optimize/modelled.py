"""What the calibrated model, corrected by the measured runs of the same model, says of configurations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtr

from joulemap.catalog import Catalog
from joulemap.errors import UsageError
from joulemap.optimize.quantities import OUTCOMES, Z90, with_interval, without
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import Models
from joulemap.predict.predict import predict_many
from joulemap.predict.single import LATENT_SPREAD
from joulemap.records import Basis

P99 = "itl_p99_s"
P99_DEVIATION = 0.35
"""Deviation (logarithm) of p99 over median ITL where fewer than three runs of a task tell it."""
_SERVED = ["model_id", "weight_precision", "gpu_model"]
_CEILING_DEVIATION = LATENT_SPREAD["batch_ceiling"] / Z90


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """A calibrated model, with the runs that correct it."""

    calibration: Calibration
    catalog: Catalog
    models: Models | None
    given: pl.DataFrame

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return predictions beside a table that :meth:`known` has kept."""
        given = self.given if self.given.height else None
        return predict_many(frame, self.calibration, given, catalog=self.catalog, models=self.models)

    def known(self, frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
        """Return the rows that the model can describe; why others cannot be is added to the notes."""
        kept = []
        for group in frame.partition_by(_SERVED, maintain_order=True):
            try:
                self.predict(group.head(1))
            except UsageError as error:
                notes.append(f"not modelled: {error.message}")
                continue
            kept.append(group)
        return pl.concat(kept) if kept else frame.clear()


def modelled(frame: pl.DataFrame, model: Corrected, tails: pl.DataFrame, deviation: float) -> pl.DataFrame:
    """Return candidates with modelled quantities, as far as memory is thought to hold them.

    Args:
        frame: Configurations that the model knows.
        model: The corrected model.
        tails: Measured runs of the task, for the ratio of p99 to median ITL.
        deviation: Relative deviation between measurements of one configuration, which no model can undercut.
    """
    if frame.is_empty():
        return frame
    said = model.predict(frame)
    made = frame.with_columns(
        said["batch_ceiling"].alias("memory_batch_ceiling"),
        said["memory_footprint_bytes"],
        pl.Series("fits_probability", fits_probability(frame["batch_size"], said["batch_ceiling"])),
        pl.lit([], dtype=pl.List(pl.String)).alias("run_ids"),
    )
    made = _with_outcomes(made, said, deviation)
    made = _with_tail(made, tails)
    return made.filter(pl.col("batch_size") <= pl.col("memory_batch_ceiling"))


def completed(frame: pl.DataFrame, model: Corrected, deviation: float) -> pl.DataFrame:
    """Return measured or interpolated candidates with what was not measured filled in by the model.

    Args:
        frame: Candidates with ``OUTCOMES`` and their intervals, null where not measured.
        model: The corrected model, which knows every row.
        deviation: As for :func:`modelled`.
    """
    latents = model.predict(frame)
    said = _with_outcomes(frame, latents, deviation)
    columns = []
    for quantity in ("ttft_median_s", "latency_mean_s"):
        lacking = frame[quantity].is_null()
        names = [quantity, *(f"{quantity}_{ending}" for ending in ("low", "high", "basis"))]
        columns += [pl.when(lacking).then(said[n]).otherwise(frame[n]).alias(n) for n in names]
    held = [float(model.catalog.gpu(name).memory_bytes) for name in frame["gpu_model"]]
    return frame.with_columns(
        *columns,
        latents["batch_ceiling"].alias("memory_batch_ceiling"),
        # What was measured did fit, whatever the memory budget says.
        pl.min_horizontal(latents["memory_footprint_bytes"], pl.Series("held", held)).alias(
            "memory_footprint_bytes"
        ),
    )


def fits_probability(batch: pl.Series, ceiling: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the probability that memory holds a batch, from the modelled ceiling and its spread."""
    distance = np.log(np.maximum(ceiling.to_numpy(), 1e-9)) - np.log(batch.to_numpy())
    return np.asarray(ndtr(distance / _CEILING_DEVIATION), dtype=np.float64)


def _with_outcomes(frame: pl.DataFrame, said: pl.DataFrame, deviation: float) -> pl.DataFrame:
    """Return the table with modelled outcomes; ``deviation`` is added to the model's own in quadrature."""
    made, said = frame, _per_request(said, frame["output_unit"])
    for quantity in OUTCOMES:
        if quantity not in said.columns:
            made = made.with_columns(without(quantity))
            continue
        wide = (said[f"{quantity}_high"] / said[quantity]).fill_null(np.nan).to_numpy()
        own = np.log(wide) / Z90
        made = with_interval(made.with_columns(said[quantity]), quantity, np.hypot(own, deviation), Basis.MODELLED)
    return made


def _per_request(said: pl.DataFrame, output_unit: pl.Series) -> pl.DataFrame:
    """Return predictions with those per request: a request for a picture or video is for one output."""
    token = pl.lit(output_unit == "token")
    pairs = (
        ("energy_per_request_j", "energy_per_output_j"),
        ("request_throughput_per_s", "output_throughput_per_s"),
    )
    columns = []
    for quantity, same in pairs:
        for ending in ("", "_low", "_high"):
            own = pl.col(quantity + ending) if quantity + ending in said.columns else pl.lit(None, dtype=pl.Float64)
            columns.append(pl.when(token).then(own).otherwise(pl.col(same + ending)).alias(quantity + ending))
    return said.with_columns(columns)


def _with_tail(frame: pl.DataFrame, tails: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with p99 ITL: the median times the measured ratio at the nearest batch of the task."""
    known = tails.filter((pl.col(P99) > 0) & (pl.col("itl_median_s") > 0)).sort("batch_ceiling")
    if known.is_empty() or frame["itl_median_s"].null_count() == frame.height:
        return frame
    ratios = np.log((known[P99] / known["itl_median_s"]).to_numpy())
    spread = float(np.std(ratios, ddof=1)) if len(ratios) > 2 else P99_DEVIATION
    at = np.log(known["batch_ceiling"].to_numpy())
    levels, positions = np.unique(at, return_inverse=True)
    means = np.bincount(positions, weights=ratios) / np.bincount(positions)
    ratio = np.exp(np.interp(np.log(frame["batch_ceiling"].to_numpy()), levels, means))
    wide = np.log((frame["itl_median_s_high"] / frame["itl_median_s"]).fill_null(np.nan).to_numpy()) / Z90
    made = frame.with_columns((pl.col("itl_median_s") * pl.Series("ratio", ratio)).alias(P99))
    return with_interval(made, P99, np.hypot(wide, spread), Basis.MODELLED)
