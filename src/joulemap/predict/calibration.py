"""Calibration: fit the forms on runs, learn from held-out backbones how far to trust them, save and load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.errors import InputError
from joulemap.physics.arrays import Floats
from joulemap.predict.few_shot import Kernel, Kinship, fit_kernel, kinship, posterior
from joulemap.predict.fit import NOISE, Fit, fit_vector
from joulemap.predict.forms import (
    QUANTITIES,
    FormName,
    FormRows,
    Models,
    form_of,
    form_rows,
    layout,
    measured_logs,
    weighted_residuals,
)
from joulemap.predict.frames import Index, coded, floats_of
from joulemap.predict.intervals import conformal_factors, kinds
from joulemap.predict.language_form import FORM_VERSION
from joulemap.predict.served import known_precision

ENERGY = "energy_per_output_j"
FEWEST_RUNS = 30
"""Runs of a form below which its coefficients are not fitted."""
FEWEST_BACKBONES = 4
"""Backbones below which nothing can be learnt from holding one out."""
HELD_TOLERANCE = 1e-3
"""Fits without a group begin at the one with it, and are near their end after a few steps."""
FILE_FORMAT = "joulemap calibration"
DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class FormCalibration:
    """One form's fitted vector, and what held-out backbones say of its errors."""

    form: FormName
    gpus: tuple[str, ...]
    vector: Floats
    deviation: Floats
    """Standard deviation of each entry of the vector (logarithms)."""
    covariance: Floats
    rows: int
    batches: tuple[float, float]
    """Smallest and largest batch seen."""
    kernels: Mapping[str, Kernel]
    """By quantity, energy among them."""
    factors: Mapping[str, Mapping[str, float]]
    """Conformal factors by quantity and kind, without runs of the series."""
    factors_few: Mapping[str, Mapping[str, float]]
    """The same with three runs of the series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Fitted forms with their provenance."""

    forms: Mapping[FormName, FormCalibration]
    form_version: int = FORM_VERSION
    date: str = ""
    """When it was made (ISO 8601)."""
    source: str = ""
    digest: str = ""
    """SHA-256 of the fitted quantities and configurations."""
    notes: tuple[str, ...] = field(default=())

    def save(self, path: Path) -> None:
        """Write the calibration as JSON."""
        path.write_text(json.dumps(_to_json(self), separators=(",", ":")) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Calibration:
        """Read a calibration.

        Raises:
            InputError: The file is no calibration, or one of another form version.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}"
            raise InputError(msg, fix="joulemap calibrate -o FILE") from error
        return _from_text(text, str(path))


def default_calibration() -> Calibration:
    """Return the calibration that ships with joulemap, made from the study's runs by ``scripts/calibrate.py``."""
    file = resources.files("joulemap.predict").joinpath("data", "default_calibration.json")
    return _from_text(file.read_text("utf-8"), "the shipped calibration")


def calibrate(
    frame: pl.DataFrame,
    *,
    catalog: Catalog | None = None,
    models: Models | None = None,
    source: str = "",
    date: str = "",
) -> Calibration:
    """Fit the forms on measured runs.

    Args:
        frame: Runs (columns of the run table); rows whose model or GPU the catalog lacks are left out.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id, beside the catalog's.
        source: What the runs are, for the provenance.
        date: When the calibration was made, for the provenance.

    Raises:
        InputError: No form has enough usable runs.
    """
    facts = catalog or load_catalog()
    known = {**facts.models, **(models or {})}
    forms: dict[FormName, FormCalibration] = {}
    notes = []
    for form in QUANTITIES:
        runs = usable_runs(frame, form, facts, known)
        if runs.height < FEWEST_RUNS:
            notes.append(f"{form}: {runs.height} usable runs, fewer than {FEWEST_RUNS}: not calibrated")
            continue
        forms[form] = _calibrate_form(form, runs, facts, known)
    if not forms:
        msg = f"no runs to calibrate on ({'; '.join(notes)})"
        raise InputError(msg, fix="joulemap import study")
    return Calibration(forms=forms, date=date, source=source, digest=_digest(frame), notes=tuple(notes))


def usable_runs(frame: pl.DataFrame, form: FormName, catalog: Catalog, models: Models) -> pl.DataFrame:
    """Return the runs that a form can be fitted on: valid, known, measured."""
    wanted = [i for i, m in models.items() if form_of(m) == form]
    kept = frame.filter(pl.col("model_id").is_in(wanted) & pl.col("gpu_model").is_in(list(catalog.gpus)))
    for name in ("batch_size", "num_gpus", "output_throughput_per_s", "power_w"):
        kept = kept.filter(pl.col(name) > 0)
    if form == "language":
        kept = kept.filter(pl.col("mean_output_tokens") > 0)
    kept = kept.filter(known_precision(kept))
    if "valid" in kept.columns:
        kept = kept.filter(pl.col("valid"))
    return kept


def fit_form(
    rows: FormRows,
    measured: Floats,
    backbones: Index,
    *,
    start: Floats | None = None,
    limit: int = 40,
    tolerance: float = 1e-8,
) -> Fit:
    """Fit one form's vector.

    Args:
        rows: Configurations.
        measured: Measured logarithms, shape (quantities, rows).
        backbones: Each row's backbone, whose rows err alike: see :func:`balanced_weights`.
        start: Where to begin.
        limit: Most evaluations of the Jacobian.
        tolerance: Relative fall of the cost at which to stop.
    """
    coefficients = rows.coefficients
    noise = NOISE / np.tile(balanced_weights(backbones), len(measured) + 1)

    def residuals(vector: Floats) -> Floats:
        return weighted_residuals(rows.form, rows.logs(vector), measured, noise)

    return fit_vector(
        residuals,
        coefficients.prior_mean,
        coefficients.prior_spread,
        start=start,
        limit=limit,
        tolerance=tolerance,
    )


def balanced_weights(backbones: Index) -> Floats:
    """Return a factor for each row's residuals, so that a backbone's weight grows with the root of its rows.

    Halfway between rows that count alike, as if they erred independently, and backbones that count alike, as if
    their rows erred as one. The mean square is 1.
    """
    rows = np.bincount(backbones)[backbones]
    weights = rows**-0.25
    return np.asarray(weights / np.sqrt(np.mean(weights**2)))


def with_energy(form: FormName, logs: Floats) -> dict[str, Floats]:
    """Return logarithms by quantity, energy per output among them."""
    named = dict(zip(QUANTITIES[form], logs, strict=True))
    return named | {ENERGY: named["power_w"] - named["output_throughput_per_s"]}


def held_out_logs(
    rows: FormRows, measured: Floats, groups: Index, backbones: Index, start: Floats, limit: int = 12
) -> Floats:
    """Return predicted logarithms of each row from a fit without its group, shape (quantities, rows)."""
    predicted = np.empty_like(measured)
    for group in np.unique(groups):
        out, kept = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
        fitted = fit_form(
            rows.take(kept), measured[:, kept], backbones[kept], start=start, limit=limit, tolerance=HELD_TOLERANCE
        )
        predicted[:, out] = rows.take(out).logs(fitted.vector)
    return predicted


def representative_points(series: Index, log_batch: Floats) -> Index:
    """Return the positions of the runs of lowest, middle and highest batch of each series of five or more."""
    chosen: list[int] = []
    for code in np.unique(series):
        own = np.flatnonzero(series == code)
        own = own[np.argsort(log_batch[own], kind="stable")]
        if own.size >= FEWEST_OF_SERIES:
            chosen += [int(own[0]), int(own[own.size // 2]), int(own[-1])]
    return np.array(sorted(set(chosen)), dtype=np.intp)


FEWEST_OF_SERIES = 5


def _calibrate_form(form: FormName, runs: pl.DataFrame, catalog: Catalog, models: Models) -> FormCalibration:
    gpus = tuple(sorted(set(runs["gpu_model"])))
    rows = form_rows(form, runs, catalog, models, layout(form, gpus))
    measured = measured_logs(form, runs)
    backbones = {i: models[i].backbone for i in set(runs["model_id"])}
    _, groups = coded(runs["model_id"].replace_strict(backbones, return_dtype=pl.String))
    fitted = fit_form(rows, measured, groups)
    if len(np.unique(groups)) >= FEWEST_BACKBONES:
        predicted = held_out_logs(rows, measured, groups, groups, fitted.vector)
    else:
        predicted = rows.logs(fitted.vector)
    kernels, factors, few = error_model(form, runs, backbones, predicted, measured)
    batches = floats_of(runs, "batch_size", np.nan)
    return FormCalibration(
        form=form,
        gpus=gpus,
        vector=fitted.vector,
        deviation=np.sqrt(np.diag(fitted.covariance)),
        covariance=fitted.covariance,
        rows=runs.height,
        batches=(float(batches.min()), float(batches.max())),
        kernels=kernels,
        factors=factors,
        factors_few=few,
    )


ErrorModel = tuple[dict[str, Kernel], dict[str, dict[str, float]], dict[str, dict[str, float]]]


def error_model(
    form: FormName, runs: pl.DataFrame, backbones: Mapping[str, str], predicted: Floats, measured: Floats
) -> ErrorModel:
    """Return kernels and conformal factors, without and with runs of the series, from held-out predictions."""
    (kin,) = kinship([runs], backbones)
    levels = kinds(runs)
    said, seen = with_energy(form, predicted), with_energy(form, measured)
    points = representative_points(kin.series, kin.log_batch)
    others = np.setdiff1d(np.arange(runs.height), points)
    others = others[np.isin(kin.series[others], kin.series[points])]
    kernels, factors, few = {}, {}, {}
    for name in said:
        residuals = seen[name] - said[name]
        kernel = fit_kernel(kin, residuals)
        kernels[name] = kernel
        factors[name] = conformal_factors(levels, np.abs(residuals) / kernel.prior_deviation, kin.backbone)
        scores = np.full(runs.height, np.nan)
        scores[others] = few_shot_scores(
            kernel, kin.take(points), residuals[points], kin.take(others), residuals[others]
        )
        few[name] = conformal_factors(levels, scores, kin.backbone)
    return kernels, factors, few


def few_shot_scores(kernel: Kernel, given: Kinship, known: Floats, asked: Kinship, truth: Floats) -> Floats:
    """Return |residual − posterior mean| / posterior deviation, backbone by backbone."""
    scores = np.full(len(truth), np.nan)
    for code in np.unique(asked.backbone):
        own, mine = np.flatnonzero(asked.backbone == code), np.flatnonzero(given.backbone == code)
        mean, deviation = posterior(kernel, given.take(mine), known[mine], asked.take(own))
        scores[own] = np.abs(truth[own] - mean) / deviation
    return scores


def _digest(frame: pl.DataFrame) -> str:
    names = [
        n for n in ("run_id", "model_id", "gpu_model", "num_gpus", "batch_size", "power_w") if n in frame.columns
    ]
    text = frame.select(names).write_csv()
    return hashlib.sha256(text.encode()).hexdigest()


def _to_json(calibration: Calibration) -> dict[str, Any]:
    return {
        "format": FILE_FORMAT,
        "form_version": calibration.form_version,
        "date": calibration.date,
        "source": calibration.source,
        "digest": calibration.digest,
        "notes": list(calibration.notes),
        "forms": {name: _form_to_json(f) for name, f in calibration.forms.items()},
    }


def _form_to_json(f: FormCalibration) -> dict[str, Any]:
    names = layout(f.form, f.gpus).names()
    upper = np.triu_indices(len(f.vector))
    return {
        "rows": f.rows,
        "gpus": list(f.gpus),
        "batches": list(f.batches),
        "coefficients": {n: [_short(v), _short(d)] for n, v, d in zip(names, f.vector, f.deviation, strict=True)},
        "covariance_upper": [_short(x, 4) for x in f.covariance[upper]],
        "kernels": {
            q: {"deviations": {n: _short(d) for n, d in k.deviations.items()}, "length": _short(k.length)}
            for q, k in f.kernels.items()
        },
        "factors": {q: {n: _short(z) for n, z in kinds_.items()} for q, kinds_ in f.factors.items()},
        "factors_few": {q: {n: _short(z) for n, z in kinds_.items()} for q, kinds_ in f.factors_few.items()},
    }


def _short(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")


def _from_text(text: str, name: str) -> Calibration:
    try:
        data = json.loads(text)
        if data.get("format") != FILE_FORMAT:
            msg = "format"
            raise KeyError(msg)
        if data["form_version"] != FORM_VERSION:
            msg = f"{name} was made for form version {data['form_version']}; this joulemap uses {FORM_VERSION}"
            raise InputError(msg, fix="joulemap calibrate -o FILE")
        forms = {form: _form_from_json(form, f) for form, f in data["forms"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{name} is no joulemap calibration: {error!r}"
        raise InputError(msg, fix="joulemap calibrate -o FILE") from error
    return Calibration(
        forms=forms,
        form_version=data["form_version"],
        date=data["date"],
        source=data["source"],
        digest=data["digest"],
        notes=tuple(data["notes"]),
    )


def _form_from_json(form: FormName, data: dict[str, Any]) -> FormCalibration:
    names = layout(form, data["gpus"]).names()
    pairs = np.array([data["coefficients"][name] for name in names])
    covariance = np.zeros((len(names), len(names)))
    covariance[np.triu_indices(len(names))] = data["covariance_upper"]
    return FormCalibration(
        form=form,
        gpus=tuple(data["gpus"]),
        vector=pairs[:, 0],
        deviation=pairs[:, 1],
        covariance=covariance + np.triu(covariance, 1).T,
        rows=data["rows"],
        batches=(data["batches"][0], data["batches"][1]),
        kernels={q: Kernel(k["deviations"], k["length"]) for q, k in data["kernels"].items()},
        factors=data["factors"],
        factors_few=data["factors_few"],
    )
