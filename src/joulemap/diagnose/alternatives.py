"""What-ifs: how energy, latency and throughput would change with another setting, by the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from joulemap.catalog import Catalog
from joulemap.diagnose.diagnosis import Change
from joulemap.diagnose.modelled import Modelled, Terms, energy_per_output, modelled_forms
from joulemap.physics.arrays import Floats
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import Models
from joulemap.predict.language import LanguageTerms
from joulemap.records import Basis

Z90 = 1.645
SERIES_COLUMNS = ("task", "model_id", "gpu_model", "num_gpus")
_CASE = "_case"
_NAME = "_alternative"


def predicted_changes(
    frame: pl.DataFrame,
    alternatives: Mapping[str, pl.DataFrame],
    *,
    calibration: Calibration,
    catalog: Catalog,
    models: Models | None = None,
) -> list[dict[str, Change]]:
    """Return the predicted change of each alternative of each run.

    The interval holds the error that runs of one series, or of different ones, were found to have in common or
    not when their backbone was held out of the calibration.

    Args:
        frame: The runs as they are, one row each.
        alternatives: By name, changed copies of some rows, with the column ``_case`` naming the row's position.
        calibration: The calibrated model.
        catalog: Facts.
        models: Architectures beside the catalog's.

    Returns:
        For each run, changes by the alternative's name.
    """
    changes: list[dict[str, Change]] = [{} for _ in range(frame.height)]
    tables = [t.with_columns(pl.lit(name).alias(_NAME)) for name, t in alternatives.items() if t.height]
    if not tables:
        return changes
    changed = pl.concat(tables, how="vertical_relaxed")
    now = _predicted(modelled_forms(frame, calibration=calibration, catalog=catalog, models=models), frame.height)
    then_forms = modelled_forms(changed, calibration=calibration, catalog=catalog, models=models)
    then = _predicted(then_forms, changed.height)
    same_series = _same(frame, changed)
    spreads = _spreads(then_forms, changed.height, same_series)
    cases = changed[_CASE].to_list()
    for position, (case, name) in enumerate(zip(cases, changed[_NAME], strict=True)):
        ratios = then[:, position] / now[:, case]
        if not np.all(np.isfinite(ratios)):
            continue
        spread = math.exp(Z90 * spreads[position])
        energy = float(ratios[0])
        changes[case][name] = Change(
            energy_ratio=energy,
            energy_ratio_min=energy / spread,
            energy_ratio_max=energy * spread,
            latency_ratio=float(ratios[1]),
            throughput_ratio=float(ratios[2]),
            basis=Basis.MODELLED,
        )
    return changes


def numbered(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the runs with their position, as alternatives need it."""
    return frame.with_row_index(_CASE)


def _predicted(forms: Sequence[Modelled], rows: int) -> Floats:
    """Return energy per output, latency and throughput, shape (3, rows); not a number where nothing is known."""
    values = np.full((3, rows), np.nan)
    for form in forms:
        values[:, form.index] = np.stack(
            [energy_per_output(form.terms), _latency(form.terms), form.terms.output_throughput_per_s]
        )
    return values


def _latency(terms: Terms) -> Floats:
    return terms.itl_median_s if isinstance(terms, LanguageTerms) else terms.latency_s


def _same(frame: pl.DataFrame, changed: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    before = frame[changed[_CASE].to_list()].select(SERIES_COLUMNS)
    equal = [before[c].eq_missing(changed[c]) for c in SERIES_COLUMNS]
    return np.asarray(np.logical_and.reduce([e.to_numpy() for e in equal]), dtype=np.bool_)


def _spreads(
    forms: Sequence[Modelled], rows: int, same_series: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Floats:
    """Return the standard deviation (logarithm) of a ratio of two modelled energies."""
    spreads = np.full(rows, np.nan)
    for form in forms:
        deviations = form.calibration.kernels["energy_per_output_j"].deviations
        within = math.sqrt(2.0) * deviations["batch"]
        between = math.sqrt(2.0 * (deviations["batch"] ** 2 + deviations["series"] ** 2))
        spreads[form.index] = np.where(same_series[form.index], within, between)
    return spreads
