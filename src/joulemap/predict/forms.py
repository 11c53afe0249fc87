"""The two model forms behind one face: predicted logarithms of quantities for a table and a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, DiffusionArchitecture, ModelArchitecture
from joulemap.physics.arrays import Floats
from joulemap.predict.coefficients import CoefficientSet, coefficient_set
from joulemap.predict.diffusion import DiffusionTerms, diffusion_terms
from joulemap.predict.diffusion_form import DIFFUSION
from joulemap.predict.diffusion_rows import DiffusionRows, diffusion_rows
from joulemap.predict.frames import Index, floats_of
from joulemap.predict.language import LanguageTerms, language_terms
from joulemap.predict.language_form import LANGUAGE
from joulemap.predict.language_rows import LanguageRows, language_rows

FormName = Literal["language", "diffusion"]
Models = Mapping[str, ModelArchitecture | DiffusionArchitecture]

QUANTITIES: Mapping[FormName, tuple[str, ...]] = {
    "language": ("itl_median_s", "output_throughput_per_s", "power_w"),
    "diffusion": ("output_throughput_per_s", "power_w"),
}
"""What each form is fitted on; energy per output is power over throughput."""
WEIGHTS: Mapping[str, float] = {"itl_median_s": 1.0, "output_throughput_per_s": 1.0, "power_w": 1.3}
"""Weight of a residual: power repeats better than times do (1–7 % against 2–9 %)."""
ENERGY_WEIGHT = 0.7
COEFFICIENTS = {"language": LANGUAGE, "diffusion": DIFFUSION}


def form_of(model: ModelArchitecture | DiffusionArchitecture) -> FormName:
    """Return which form describes a model."""
    return "diffusion" if isinstance(model, DiffusionArchitecture) else "language"


def layout(form: FormName, gpus: Sequence[str]) -> CoefficientSet:
    """Return the coefficients of a form for the given GPU models."""
    return coefficient_set(COEFFICIENTS[form], gpus)


@dataclass(frozen=True, slots=True)
class FormRows:
    """Configurations of one form, ready to be evaluated for any vector of coefficients."""

    form: FormName
    rows: LanguageRows | DiffusionRows
    coefficients: CoefficientSet
    columns: Index
    """Each row's column in the table of coefficients."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: Index) -> FormRows:
        """Return the rows at the given positions."""
        return FormRows(self.form, self.rows.take(which), self.coefficients, self.columns[which])

    def terms(self, vector: Floats) -> LanguageTerms | DiffusionTerms:
        """Return everything that the form says of the configurations."""
        values = self.coefficients.values(vector, self.columns)
        if isinstance(self.rows, LanguageRows):
            return language_terms(self.rows, values)
        return diffusion_terms(self.rows, values)

    def logs(self, vector: Floats) -> Floats:
        """Return predicted logarithms, shape (quantities, rows), in the order of ``QUANTITIES``."""
        return logs_of(self.terms(vector))


def logs_of(terms: LanguageTerms | DiffusionTerms) -> Floats:
    """Return logarithms of the fitted quantities, shape (quantities, rows)."""
    if isinstance(terms, LanguageTerms):
        return np.log(np.vstack([terms.itl_median_s, terms.output_throughput_per_s, terms.power_w]))
    return np.log(np.vstack([terms.output_throughput_per_s, terms.power_w]))


def form_rows(
    form: FormName, frame: pl.DataFrame, catalog: Catalog, models: Models, coefficients: CoefficientSet
) -> FormRows:
    """Return a table of configurations as rows of a form."""
    rows: LanguageRows | DiffusionRows
    if form == "language":
        rows = language_rows(frame, catalog, {i: m for i, m in models.items() if isinstance(m, ModelArchitecture)})
    else:
        rows = diffusion_rows(
            frame, catalog, {i: m for i, m in models.items() if isinstance(m, DiffusionArchitecture)}
        )
    columns = [coefficients.column_of(gpu, catalog.gpus) for gpu in rows.gpu_models]
    return FormRows(form, rows, coefficients, np.array(columns, dtype=np.intp)[rows.gpu_index])


def measured_logs(form: FormName, frame: pl.DataFrame) -> Floats:
    """Return measured logarithms, shape (quantities, rows); not a number where a quantity was not measured."""
    values = np.vstack([floats_of(frame, name, np.nan) for name in QUANTITIES[form]])
    return np.log(np.where(values > 0, values, np.nan))


def weighted_residuals(form: FormName, predicted: Floats, measured: Floats, noise: Floats) -> Floats:
    """Return residuals in units of noise: each quantity's, and energy's as power minus throughput."""
    errors = predicted - measured
    names = QUANTITIES[form]
    energy = errors[names.index("power_w")] - errors[names.index("output_throughput_per_s")]
    weights = np.array([WEIGHTS[name] for name in names])[:, None]
    stacked = np.concatenate([(weights * errors).ravel(), ENERGY_WEIGHT * energy]) / noise
    return np.asarray(np.where(np.isnan(stacked), 0.0, stacked))
