"""The time–energy frontier of a model at a task: which configurations nothing beats, and where its knee lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from joulemap.catalog import Catalog
from joulemap.errors import InfeasibleError, UsageError
from joulemap.notebook import ShownInNotebooks
from joulemap.optimize.candidates import Candidates, candidates
from joulemap.optimize.pareto import frontier_of, hypervolume, knee_of
from joulemap.optimize.quantities import OUTCOMES
from joulemap.optimize.same_batch import SameBatch, same_batch
from joulemap.optimize.scope import Scope
from joulemap.physics.arrays import Floats
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import Models
from joulemap.records.run import unit_of
from joulemap.store.run_store import RunStore, open_store
from joulemap.store.selector import condition, parse_selector

TimeAxis = Literal["itl", "latency", "throughput"]
TIME_AXES: tuple[str, ...] = get_args(TimeAxis)
LIKELY = 0.5
"""A modelled batch is shown where memory holds it more likely than not."""
SETTINGS = (
    *("model_id", "gpu_model", "num_gpus", "weight_precision", "kv_cache_precision", "tensor_parallel"),
    *("expert_parallel", "data_parallel", "ulysses_degree", "ring_degree", "max_num_seqs", "batch_ceiling"),
    *("batch_size", "inference_steps", "height_px", "width_px", "num_frames"),
)
"""Columns that say what a candidate is, in JSON."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frontier(ShownInNotebooks):
    """A frontier of time and energy."""

    model: str
    task: str
    output_unit: str
    time_quantity: str
    """The column on the time axis; seconds, or outputs per second."""
    table: pl.DataFrame
    """All candidates, with ``on_frontier`` and ``knee``; by rising time."""
    hypervolume: float
    """Area dominated in logarithms of both costs, up to the reference point."""
    reference_s: float
    """Time of the reference point; on an axis of throughput, seconds per output."""
    reference_j_per_output: float
    same_batch: tuple[SameBatch, ...]
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> pl.DataFrame:
        """The candidates on the frontier."""
        return self.table.filter(pl.col("on_frontier"))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: the frontier's points in full, all candidates in short."""
        return {
            "model": self.model,
            "task": self.task,
            "output_unit": self.output_unit,
            "time_quantity": self.time_quantity,
            "points": [candidate_json(row) for row in self.points.iter_rows(named=True)],
            "candidates": self.table.height,
            "hypervolume": self.hypervolume,
            "reference": {"time_s": self.reference_s, "energy_per_output_j": self.reference_j_per_output},
            "same_batch": [pair.to_json() for pair in self.same_batch],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The least energy of two frontiers under one limit of time."""

    limit_s: float
    """Seconds; on an axis of throughput, seconds per output."""
    a_j_per_output: float | None
    """``None`` where nothing of that side meets the limit."""
    b_j_per_output: float | None
    energy_ratio: float | None
    """A's energy over B's."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "limit_s": self.limit_s,
            "a_j_per_output": self.a_j_per_output,
            "b_j_per_output": self.b_j_per_output,
            "energy_ratio": self.energy_ratio,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison(ShownInNotebooks):
    """Two frontiers side by side, with one reference point."""

    a_label: str
    b_label: str
    a: Frontier
    b: Frontier
    limits: tuple[Limit, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "a_label": self.a_label,
            "b_label": self.b_label,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "hypervolume_difference": self.a.hypervolume - self.b.hypervolume,
            "limits": [limit.to_json() for limit in self.limits],
        }


def frontier(
    scope: Scope,
    *,
    x: TimeAxis | None = None,
    store: RunStore | None = None,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> Frontier:
    """Return the time–energy frontier of a scope.

    Args:
        scope: Model, task and what is looked at.
        x: ``itl`` (median inter-token latency; the default for text), ``latency`` (of a request, or of a diffusion
            batch; the default there) or ``throughput`` (outputs per second).
        store: The run store; the default one if ``None``.
        calibration: The calibrated model; the shipped one if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id that the catalog lacks.

    Raises:
        UnknownNameError: A model, task or GPU is unknown.
        InfeasibleError: No candidate has both time and energy.
        UsageError: The task has no such time axis.
    """
    runs = store if store is not None else open_store()
    found = candidates(runs.frame, scope, calibration=calibration, catalog=catalog, models=models)
    return frontier_among(found, found.table, x)


def compare(
    found: Candidates, selectors: Sequence[str], *, x: TimeAxis | None = None, limits: Sequence[float] = ()
) -> Comparison:
    """Return two frontiers out of one set of candidates.

    Args:
        found: The candidates.
        selectors: Two selectors such as ``gpu=H100`` and ``gpu=B200``.
        x: As for :func:`frontier`.
        limits: Limits in seconds (on an axis of throughput, seconds per output), under which the sides' least
            energies are compared.

    Raises:
        UsageError: There are not two selectors.
        InfeasibleError: A selector leaves no candidate.
    """
    if len(selectors) != 2:
        msg = f"two selections are compared, not {len(selectors)}"
        raise UsageError(msg, fix="--compare gpu=H100 --compare gpu=B200")
    tables = [_narrowed(found, text) for text in selectors]
    whole = frontier_among(found, pl.concat(tables), x)
    reference = (whole.reference_s, whole.reference_j_per_output)
    a, b = (frontier_among(found, table, x, reference) for table in tables)
    compared = [_limit(limit, a, b) for limit in limits]
    return Comparison(a_label=selectors[0], b_label=selectors[1], a=a, b=b, limits=tuple(compared))


def frontier_among(
    found: Candidates, table: pl.DataFrame, x: TimeAxis | None, reference: tuple[float, float] | None = None
) -> Frontier:
    """Return the frontier of a table of candidates.

    Args:
        found: Where they come from.
        table: Some or all of its candidates.
        x: The time axis.
        reference: Reference point of the hypervolume; the worst costs among the candidates if ``None``.
    """
    quantity = time_quantity(found, x)
    usable = table.filter((pl.col(quantity) > 0) & (pl.col("fits_probability") >= LIKELY))
    if usable.is_empty():
        msg = f"no candidate of {found.scope.model} at {found.scope.task} has a {quantity}"
        raise InfeasibleError(msg, fix="choose another axis with --x")
    cost, energy = time_cost(usable, quantity), usable["energy_per_output_j"].to_numpy()
    on = frontier_of(cost, energy)
    knee = knee_of(cost[on], energy[on])
    worst = reference or (float(cost.max()), float(energy.max()))
    marks = np.zeros(usable.height, dtype=np.bool_)
    marks[on] = True
    bends = np.zeros(usable.height, dtype=np.bool_)
    if knee is not None:
        bends[on[knee]] = True
    marked = usable.with_columns(pl.Series("on_frontier", marks), pl.Series("knee", bends))
    return Frontier(
        model=str(usable["nickname"].drop_nulls().first() or usable["model_id"][0]),
        task=str(usable["task"][0]),
        output_unit=found.output_unit,
        time_quantity=quantity,
        table=marked[np.argsort(cost, kind="stable").tolist()],
        hypervolume=hypervolume(cost, energy, worst),
        reference_s=worst[0],
        reference_j_per_output=worst[1],
        same_batch=same_batch(table),
        notes=found.notes,
    )


def time_quantity(found: Candidates, x: TimeAxis | None) -> str:
    """Return the column that a time axis means for the candidates' task.

    Raises:
        UsageError: Pictures and videos have no inter-token latency.
    """
    token = found.output_unit == "token"
    axis = x or ("itl" if token else "latency")
    if axis == "itl" and not token:
        msg = f"a task that makes {found.output_unit}s has no inter-token latency"
        raise UsageError(msg, fix="--x latency or --x throughput")
    return {"itl": "itl_median_s", "latency": found.latency, "throughput": "output_throughput_per_s"}[axis]


def time_cost(table: pl.DataFrame, quantity: str) -> Floats:
    """Return time as a cost: seconds, or for a throughput seconds per output."""
    values = table[quantity].to_numpy().astype(np.float64)
    return np.asarray(1.0 / values if quantity.endswith("_per_s") else values)


def candidate_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a candidate's JSON form: settings, and quantities with interval and basis."""
    unit = str(row["output_unit"])
    quantities = {
        q: {
            "value": row[q],
            "unit": unit_of(q, unit),
            "low": row[f"{q}_low"],
            "high": row[f"{q}_high"],
            "basis": row[f"{q}_basis"],
        }
        for q in OUTCOMES
        if row[q] is not None
    }
    return {
        **{name: row[name] for name in SETTINGS},
        "basis": row["basis"],
        "run_ids": list(row["run_ids"] or ()),
        "fits_probability": row["fits_probability"],
        "memory_footprint_bytes": row["memory_footprint_bytes"],
        **({"knee": row["knee"]} if "knee" in row else {}),
        "quantities": quantities,
    }


def _narrowed(found: Candidates, text: str) -> pl.DataFrame:
    table = found.table
    for key, value in parse_selector(text).values.items():
        if key == "batch" and value in ("max", "best"):
            msg = f"{key}={value} names one run, and a frontier needs several"
            raise UsageError(msg, fix="compare by gpu, gpus, precision or a parallelism")
        table = table.filter(condition(found.table, key, value))
    if table.is_empty():
        msg = f"no candidate matches {text!r}"
        raise InfeasibleError(msg, fix="'joulemap frontier' without --compare lists the candidates")
    return table


def _limit(limit_s: float, a: Frontier, b: Frontier) -> Limit:
    lows = []
    for side in (a, b):
        below = side.table.filter(pl.Series(time_cost(side.table, side.time_quantity) <= limit_s))
        lows.append(None if below.is_empty() else float(below["energy_per_output_j"].to_numpy().min()))
    ratio = None if lows[0] is None or lows[1] is None else lows[0] / lows[1]
    return Limit(limit_s=limit_s, a_j_per_output=lows[0], b_j_per_output=lows[1], energy_ratio=ratio)
