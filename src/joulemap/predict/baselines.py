"""What simpler methods would have predicted in the same back-test."""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
import polars as pl

from joulemap.catalog import DiffusionArchitecture, ModelArchitecture
from joulemap.physics.arrays import Floats
from joulemap.physics.parameters import parameter_counts
from joulemap.predict.calibration import with_energy
from joulemap.predict.forms import QUANTITIES, FormName, Models
from joulemap.predict.frames import Index, column_of, floats_of

NEAREST = "nearest measured, scaled by active parameters"
TREES = "boosted trees"
FEATURES = (
    *("num_gpus", "batch_size", "mean_output_tokens", "tensor_parallel", "expert_parallel", "data_parallel"),
    *("inference_steps", "height_px", "width_px", "num_frames", "ulysses_degree", "ring_degree"),
)


def predictions(
    form: FormName, runs: pl.DataFrame, measured: Floats, groups: Index, models: Models
) -> tuple[dict[str, dict[str, Floats]], list[str]]:
    """Return logarithms by quantity, by method, and notes on methods that could not run."""
    active, total = _sizes(runs, models)
    named = {NEAREST: with_energy(form, _nearest(form, runs, measured, groups, active))}
    notes = []
    if importlib.util.find_spec("sklearn") is None:
        notes.append(f"{TREES}: scikit-learn is not installed, left out")
    else:
        named[TREES] = with_energy(form, _trees(runs, measured, groups, active, total))
    return named, notes


def _sizes(runs: pl.DataFrame, models: Models) -> tuple[Floats, Floats]:
    """Return active and total parameters of each run's model."""
    sizes: dict[str, tuple[float, float]] = {}
    for name in set(runs["model_id"]):
        model = models[name]
        if isinstance(model, ModelArchitecture):
            counts = parameter_counts(model)
            sizes[name] = (float(counts.active), float(counts.total))
        elif isinstance(model, DiffusionArchitecture):
            published = model.published.total if model.published else 1e9
            sizes[name] = (published, published)
    pairs = np.array([sizes[name] for name in runs["model_id"]])
    return pairs[:, 0], pairs[:, 1]


def _nearest(form: FormName, runs: pl.DataFrame, measured: Floats, groups: Index, active: Floats) -> Floats:
    """Take the most alike run of another group; scale times by active parameters per GPU."""
    gpus = floats_of(runs, "num_gpus", 1.0)
    position = np.column_stack(
        [
            np.log(floats_of(runs, "batch_size", 1.0)),
            np.log(active / gpus),
            4.0 * (runs["gpu_model"] == runs["gpu_model"][0]).to_numpy(),
            2.0 * (column_of(runs, "task", pl.String).fill_null("").rank("dense").to_numpy()),
        ]
    )
    predicted = np.empty_like(measured)
    names = QUANTITIES[form]
    for i in range(len(position)):
        others = np.flatnonzero((groups != groups[i]) & ~np.isnan(measured).any(axis=0))
        near = others[np.argmin(np.sum((position[others] - position[i]) ** 2, axis=1))]
        scale = np.log(active[i] / gpus[i]) - np.log(active[near] / gpus[near])
        batch = position[i, 0] - position[near, 0]
        change = {"itl_median_s": scale, "output_throughput_per_s": batch - scale}
        change["power_w"] = np.log(gpus[i] / gpus[near])
        predicted[:, i] = measured[:, near] + np.array([change[n] for n in names])
    return predicted


def _trees(runs: pl.DataFrame, measured: Floats, groups: Index, active: Floats, total: Floats) -> Floats:
    ensemble = importlib.import_module("sklearn.ensemble")

    columns = [floats_of(runs, name, -1.0) for name in FEATURES]
    texts = ("task", "gpu_model", "weight_precision")
    codes = [column_of(runs, n, pl.String).fill_null("").rank("dense").to_numpy().astype(np.float64) for n in texts]
    features = np.column_stack([*columns, *codes, np.log(active), np.log(total)])
    predicted = np.empty_like(measured)
    for group in np.unique(groups):
        out = groups == group
        for q in range(len(measured)):
            kept = ~out & ~np.isnan(measured[q])
            trees = ensemble.HistGradientBoostingRegressor(max_iter=200, learning_rate=0.08, random_state=0)
            trees.fit(features[kept], measured[q, kept])
            predicted[q, out] = trees.predict(features[out])
    return predicted
