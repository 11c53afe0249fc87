"""90 % intervals: conformal factors on the deviations that the residuals' kernel gives.

An interval is ``prediction · exp(± z · s)``: s is the deviation of the row's residual (few-shot posterior, or
prior), z the quantile of |residual| / s among runs of the same kind whose backbone was held out of the fit. Kinds
are nested — input and output, GPU model, precision — and the finest with enough runs counts.

Reference: Vovk et al. 2005, Algorithmic Learning in a Random World (Mondrian conformal prediction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from joulemap.physics.arrays import Floats
from joulemap.predict.frames import Index, column_of

LEVEL = 0.90
ENOUGH = 30
"""Runs of a kind from which its own quantile is taken."""
EVERYTHING = "all"
DIFFERENT_GPU = 0.32
"""Deviation (logarithm) added for a GPU model without runs: of calibrating on H100 and testing on B200."""
SAME_GENERATION = 0.10
"""The same where the calibration has a GPU of its generation."""
OTHER_SYSTEM = 0.12
"""The same for a language model outside the study's tasks: another host, engine version or sampler. Independent
teams' measurements of one model, GPU and batch differ from the study's by 5–20 %."""
UNSEEN_KIND = 1.3
"""Widening where the finest kind (such as a precision) has too few runs for a quantile of its own."""
BEYOND_CEILING = 0.25
"""Deviation added beyond the batch ceiling, where no run can be."""
BEYOND_BATCHES = 0.10
"""Deviation added for each factor e beyond the batches that the calibration has seen."""


def kinds(frame: pl.DataFrame) -> list[pl.Series]:
    """Return each row's kind at three levels, finest first."""
    unit = column_of(frame, "output_unit", pl.String).fill_null("token")
    modality = column_of(frame, "input_modality", pl.String).fill_null("text")
    made = pl.Series(["made:"], dtype=pl.String).new_from_index(0, frame.height) + unit
    domain = modality.zip_with(unit == "token", made)
    gpu = frame["gpu_model"].cast(pl.String)
    precision = column_of(frame, "weight_precision", pl.String).fill_null("bfloat16")
    return [domain + "/" + gpu + "/" + precision, domain + "/" + gpu, domain]


def conformal_factors(levels: Sequence[pl.Series], scores: Floats, groups: Index) -> dict[str, float]:
    """Return the factor z of every kind that has enough runs, and of all runs together.

    Args:
        levels: Kinds at each level, from :func:`kinds`.
        scores: |residual| / deviation of each run; not a number where there is none.
        groups: Each run's backbone: runs of one backbone err alike, so that a quantile over few backbones is
            itself uncertain, and is widened by ``sqrt(1 + 1 / backbones)``.
    """
    usable = ~np.isnan(scores)
    factors = {EVERYTHING: _widened(scores[usable], groups[usable])}
    for level in levels:
        names = level.to_numpy()
        for name in np.unique(names[usable].astype(str)):
            own = usable & (names == name)
            if own.sum() >= ENOUGH:
                factors[str(name)] = _widened(scores[own], groups[own])
    return factors


def _widened(scores: Floats, groups: Index) -> float:
    backbones = max(len(np.unique(groups)), 1)
    return _quantile(scores) * float(np.sqrt(1.0 + 1.0 / backbones))


def _quantile(scores: Floats) -> float:
    if scores.size == 0:
        return float("nan")
    rank = min(LEVEL * (1.0 + 1.0 / scores.size), 1.0)
    return float(np.quantile(scores, rank, method="higher"))


def factors_of(levels: Sequence[pl.Series], factors: Mapping[str, float]) -> Floats:
    """Return each row's factor: its finest kind's that is known."""
    chosen = np.full(levels[0].len(), factors[EVERYTHING])
    finest = np.zeros(levels[0].len(), dtype=np.bool_)
    for level in reversed(levels):
        own = level.replace_strict(list(factors), list(factors.values()), default=None, return_dtype=pl.Float64)
        values = own.fill_null(np.nan).to_numpy()
        finest = ~np.isnan(values)
        chosen = np.where(finest, values, chosen)
    return np.where(finest, chosen, UNSEEN_KIND * chosen)
