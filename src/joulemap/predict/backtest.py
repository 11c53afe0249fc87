"""Back-tests: predict runs that the calibration has not seen, and say how far off it was.

Protocols: ``backbone`` holds a whole backbone out, with all its variants, tasks and GPU models; ``model`` holds one
model out; ``gpu`` calibrates on one GPU model and tests on the others; ``few-shot`` is ``backbone`` with three runs
of each series given (lowest, middle and highest batch), tested on the rest of the series. Intervals of a tested
run use conformal factors of other groups' runs only; the residuals' kernel is estimated once, on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.errors import InputError, UnknownNameError
from joulemap.physics.arrays import Floats
from joulemap.predict import baselines
from joulemap.predict.calibration import (
    fit_form,
    held_out_logs,
    representative_points,
    usable_runs,
    with_energy,
)
from joulemap.predict.few_shot import Kinship, fit_kernel, kinship, posterior
from joulemap.predict.forms import QUANTITIES, FormName, FormRows, Models, form_rows, layout, measured_logs
from joulemap.predict.frames import Index, coded, column_of
from joulemap.predict.intervals import DIFFERENT_GPU, conformal_factors, factors_of, kinds

Protocol = Literal["backbone", "model", "gpu", "few-shot"]
FEWEST_IN_SPLIT = 5
COVERAGE_LEVEL = "coverage90"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Errors of one quantity in one split, in percent."""

    split: str
    n: int
    quantity: str
    mdape: float
    """Median absolute percentage error."""
    p90ape: float
    """90th percentile of the absolute percentage error."""
    coverage90: float | None
    """Share of runs inside their 90 % interval, in percent; ``None`` for methods without intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """The scores of a protocol, and of baselines on the same runs."""

    protocol: Protocol
    splits: tuple[Score, ...]
    baselines: tuple[tuple[str, tuple[Score, ...]], ...]
    """By method."""
    predictions: pl.DataFrame
    """One row a tested run and quantity: what was measured, what was predicted, and the interval's ends."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "protocol": self.protocol,
            "splits": [_score_json(s) for s in self.splits],
            "baselines": [
                {"method": name, "splits": [_score_json(s) for s in own]} for name, own in self.baselines
            ],
            "notes": list(self.notes),
        }


def _score_json(score: Score) -> dict[str, Any]:
    names = ("split", "n", "quantity", "mdape", "p90ape", COVERAGE_LEVEL)
    return {name: getattr(score, name) for name in names}


@dataclass(frozen=True, slots=True)
class _Tested:
    """One form's runs with what was predicted of them."""

    form: FormName
    runs: pl.DataFrame
    rows: FormRows
    measured: Floats
    predicted: dict[str, Floats]
    """Logarithms by quantity."""
    half_widths: dict[str, Floats]
    """Of intervals, in logarithms."""
    tested: Index
    groups: Index


def backtest(
    frame: pl.DataFrame, protocol: Protocol, *, catalog: Catalog | None = None, models: Models | None = None
) -> Backtest:
    """Back-test the prediction on measured runs.

    Args:
        frame: Runs (columns of the run table).
        protocol: What is held out.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id, beside the catalog's.

    Raises:
        UnknownNameError: No such protocol.
        InputError: The runs are too few, or all of one group.
    """
    if protocol not in get_args(Protocol):
        kind = "protocol"
        raise UnknownNameError(kind, protocol, get_args(Protocol))
    facts = catalog or load_catalog()
    known = {**facts.models, **(models or {})}
    scores: list[Score] = []
    rivals: dict[str, list[Score]] = {}
    notes: list[str] = []
    predictions: list[pl.DataFrame] = []
    for form in QUANTITIES:
        runs = usable_runs(frame, form, facts, known)
        groups, count = _groups(runs, protocol, known)
        if count < 2:
            notes.append(f"{form}: {count} group(s) to hold out, at least 2 are needed: left out")
            continue
        tested = _test(form, runs, groups, protocol, facts, known)
        scores += _scores(tested, tested.predicted, tested.half_widths)
        predictions.append(_predictions(tested))
        named, said = baselines.predictions(form, tested.runs, tested.measured, groups, known)
        notes += said
        for name, predicted in named.items():
            rivals.setdefault(name, []).extend(_scores(tested, predicted, None))
    if not scores:
        msg = f"nothing to test: {'; '.join(notes)}"
        raise InputError(msg, fix="joulemap import study")
    return Backtest(
        protocol=protocol,
        splits=tuple(scores),
        baselines=tuple((name, tuple(own)) for name, own in rivals.items()),
        predictions=pl.concat(predictions),
        notes=tuple(dict.fromkeys(notes)),
    )


def _groups(runs: pl.DataFrame, protocol: Protocol, models: Models) -> tuple[Index, int]:
    if runs.is_empty():
        return np.empty(0, dtype=np.intp), 0
    if protocol == "gpu":
        names, codes = coded(runs["gpu_model"])
    elif protocol == "model":
        names, codes = coded(runs["model_id"])
    else:
        backbones = {i: models[i].backbone for i in set(runs["model_id"])}
        names, codes = coded(runs["model_id"].replace_strict(backbones, return_dtype=pl.String))
    return codes, len(names)


def _test(
    form: FormName, runs: pl.DataFrame, groups: Index, protocol: Protocol, catalog: Catalog, models: Models
) -> _Tested:
    rows = form_rows(form, runs, catalog, models, layout(form, tuple(sorted(set(runs["gpu_model"])))))
    measured = measured_logs(form, runs)
    (kin,) = kinship([runs], {i: models[i].backbone for i in set(runs["model_id"])})
    if protocol == "gpu":
        # A factor for a GPU model without runs stays at its prior; the shared column is what a new GPU gets.
        predicted = _other_gpu_logs(form, runs, measured, groups, kin.backbone, catalog, models)
    else:
        start = fit_form(rows, measured, kin.backbone).vector
        predicted = held_out_logs(rows, measured, groups, kin.backbone, start)
    said, seen = with_energy(form, predicted), with_energy(form, measured)
    tested = np.arange(runs.height)
    points = np.empty(0, dtype=np.intp)
    if protocol == "few-shot":
        points = representative_points(kin.series, kin.log_batch)
        tested = np.setdiff1d(tested[np.isin(kin.series, kin.series[points])], points)
    half_widths = {}
    for name in said:
        residuals = seen[name] - said[name]
        mean, deviation = _corrected(kin, residuals, points)
        if protocol == "gpu":
            deviation = np.hypot(deviation, DIFFERENT_GPU)
        said[name] = said[name] + mean
        scores = np.full(runs.height, np.nan)
        scores[tested] = np.abs(seen[name] - said[name])[tested] / deviation[tested]
        half_widths[name] = deviation * _factors_without_own(runs, groups, kin.backbone, scores)
    # Energy is power over throughput in the few-shot correction too.
    said = {name: said[name] for name in QUANTITIES[form]}
    said = with_energy(form, np.vstack([said[name] for name in QUANTITIES[form]]))
    return _Tested(form, runs, rows, measured, said, half_widths, tested, groups)


def _other_gpu_logs(
    form: FormName,
    runs: pl.DataFrame,
    measured: Floats,
    groups: Index,
    backbones: Index,
    catalog: Catalog,
    models: Models,
) -> Floats:
    predicted = np.empty_like(measured)
    for group in np.unique(groups):
        out, kept = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
        gpus = tuple(sorted(set(runs["gpu_model"].gather(kept))))
        rows = form_rows(form, runs, catalog, models, layout(form, gpus))
        fitted = fit_form(rows.take(kept), measured[:, kept], backbones[kept])
        predicted[:, out] = rows.take(out).logs(fitted.vector)
    return predicted


def _corrected(kin: Kinship, residuals: Floats, points: Index) -> tuple[Floats, Floats]:
    """Return mean and deviation of residuals, given those at ``points`` of the same backbone."""
    kernel = fit_kernel(kin, residuals)
    mean = np.zeros(len(residuals))
    deviation = np.full(len(residuals), kernel.prior_deviation)
    for code in np.unique(kin.backbone[points]):
        own, given = np.flatnonzero(kin.backbone == code), points[kin.backbone[points] == code]
        mean[own], deviation[own] = posterior(kernel, kin.take(given), residuals[given], kin.take(own))
    return mean, deviation


def _factors_without_own(runs: pl.DataFrame, groups: Index, backbones: Index, scores: Floats) -> Floats:
    """Return each row's conformal factor from runs of other groups."""
    factors = np.empty(runs.height)
    levels = kinds(runs)
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        others = np.where(groups == group, np.nan, scores)
        learnt = conformal_factors(levels, others, backbones)
        factors[own] = factors_of([level.gather(own) for level in levels], learnt)
    return factors


def _scores(
    tested: _Tested, predicted: Mapping[str, Floats], half_widths: Mapping[str, Floats] | None
) -> list[Score]:
    seen = with_energy(tested.form, tested.measured)
    scores = []
    for split, where in _splits(tested).items():
        chosen = np.intersect1d(where, tested.tested)
        for name, logs in predicted.items():
            errors = (logs - seen[name])[chosen]
            usable = ~np.isnan(errors)
            if usable.sum() < FEWEST_IN_SPLIT:
                continue
            percent = 100.0 * np.abs(np.expm1(errors[usable]))
            inside = None
            if half_widths is not None:
                inside = float(100.0 * np.mean(np.abs(errors) <= half_widths[name][chosen], where=usable))
            scores.append(
                Score(
                    split=split,
                    n=int(usable.sum()),
                    quantity=name,
                    mdape=float(np.median(percent)),
                    p90ape=float(np.quantile(percent, 0.9)),
                    coverage90=inside,
                )
            )
    return scores


def _predictions(tested: _Tested) -> pl.DataFrame:
    seen = with_energy(tested.form, tested.measured)
    runs = tested.runs[tested.tested]
    shared = runs.select("model_id", "gpu_model", "num_gpus", "batch_size")
    pieces = []
    for name, logs in tested.predicted.items():
        said, width = logs[tested.tested], tested.half_widths[name][tested.tested]
        columns = {
            "measured": seen[name][tested.tested],
            "predicted": said,
            "low": said - width,
            "high": said + width,
        }
        pieces.append(
            shared.with_columns(
                pl.lit(tested.form).alias("form"),
                pl.lit(name).alias("quantity"),
                *(pl.Series(key, np.exp(values)) for key, values in columns.items()),
            )
        )
    return pl.concat(pieces)


def _splits(tested: _Tested) -> dict[str, Index]:
    runs = tested.runs
    everything = np.arange(runs.height)
    unit = column_of(runs, "output_unit", pl.String).fill_null("token").to_numpy()
    modality = column_of(runs, "input_modality", pl.String).fill_null("text").to_numpy()
    gpu = runs["gpu_model"].to_numpy()
    precision = column_of(runs, "weight_precision", pl.String).fill_null("unknown").to_numpy()
    if tested.form == "diffusion":
        domains = {f"diffusion {u}": np.flatnonzero(unit == u) for u in np.unique(unit)}
    else:
        domains = {"text": np.flatnonzero(modality == "text"), "multimodal": np.flatnonzero(modality != "text")}
    splits = {f"{tested.form} (all)": everything} | domains
    for name, where in domains.items():
        splits |= {f"{name}, {g}": where[gpu[where] == g] for g in np.unique(gpu)}
        splits |= {f"{name}, {p}": where[precision[where] == p] for p in np.unique(precision[where])}
    return splits
