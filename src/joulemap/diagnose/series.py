"""Batch curves: the runs that differ only in batch, and what lies between them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.records import Basis
from joulemap.store.selector import BATCH_CEILING, latest

PARALLELISM = (
    "tensor_parallel",
    "expert_parallel",
    "data_parallel",
    "pipeline_parallel",
    "ulysses_degree",
    "ring_degree",
)
KNOB_COLUMNS: dict[str, tuple[str, ...]] = {
    "task": ("task",),
    "model": ("base_model",),
    "precision": ("weight_precision",),
    "gpu_model": ("gpu_model",),
    "num_gpus": ("num_gpus",),
    "parallelism": PARALLELISM,
    "engine": ("engine", "engine_version"),
}
"""What may differ between two runs beside the batch, and the columns in which it shows."""
SETTING = tuple(c for knob, columns in KNOB_COLUMNS.items() if knob != "parallelism" for c in columns)
"""The columns that say which configuration it is, however it is divided over its GPUs."""

WORK_EXPONENT = {"energy_per_output_j": 1, "latency_median_s": 1, "output_throughput_per_s": -1}
"""How a quantity grows with the work of one output (a diffusion pipeline's steps, pixels and frames)."""

SAME_BATCH_TOLERANCE = 0.2
"""Two runs under one configured ceiling count as at the same batch if what they achieved differs by less."""

_PRECISION_IN_NAME = re.compile(
    r"[-_ ](?:fp8|bf16|bfloat16|fp16|int8|int4|fp4|nvfp4|mxfp4|awq|gptq)(?=$|[-_ /])", re.I
)


def base_model(model_id: str) -> str:
    """Return a model's id without the words that name its precision, so that FP8 and BF16 meet.

    >>> base_model("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8")
    'qwen/qwen3-235b-a22b-instruct-2507'
    """
    return _PRECISION_IN_NAME.sub("", model_id).casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value read off a batch curve."""

    value: float
    basis: Basis
    run_ids: tuple[str, ...]
    """The runs that it was read from."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The runs that share every knob but the batch, by rising achieved batch."""

    knobs: Mapping[str, Any]
    """Value of every column of ``KNOB_COLUMNS``."""
    rows: tuple[Mapping[str, Any], ...]

    def at(self, quantity: str, ceiling: float | None, batch: float) -> Point | None:
        """Return ``quantity`` per unit of work at a batch: a run's own if one ran there, else between neighbours.

        Between two runs, the logarithm of the quantity is taken as linear in the logarithm of the batch.

        Args:
            quantity: A column of the run table.
            ceiling: The configured batch; a run with this ceiling and about this batch is an exact neighbour.
            batch: The achieved batch.

        Returns:
            The value; ``None`` outside the measured range.
        """
        rows = [r for r in self.rows if (r[quantity] or 0) > 0 and (r["batch_size"] or 0) > 0]
        for row in reversed(rows):
            if row["batch_ceiling"] == ceiling and abs(math.log(row["batch_size"] / batch)) < SAME_BATCH_TOLERANCE:
                return point_of(row, quantity)
        batches = [r["batch_size"] for r in rows]
        above = int(np.searchsorted(batches, batch))
        if above == len(rows) or (above == 0 and (not rows or batches[0] != batch)):
            return None
        if batches[above] == batch:
            return point_of(rows[above], quantity)
        left, right = rows[above - 1], rows[above]
        share = math.log(batch / left["batch_size"]) / math.log(right["batch_size"] / left["batch_size"])
        ends = [math.log(point_of(row, quantity).value) for row in (left, right)]
        value = math.exp((1 - share) * ends[0] + share * ends[1])
        return Point(value=value, basis=Basis.INTERPOLATED, run_ids=(left["run_id"], right["run_id"]))

    @property
    def largest_ceiling(self) -> float | None:
        """The largest configured batch among the runs."""
        return max((r["batch_ceiling"] for r in self.rows if r["batch_ceiling"]), default=None)


class Curves:
    """All batch curves of a run table.

    Args:
        frame: The run table; invalid runs are left out, and of repeated configurations the latest counts.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        valid = frame.filter(pl.col("valid") & pl.col("batch_size").is_not_null())
        self._all = with_series_columns(valid)
        columns = [column for columns in KNOB_COLUMNS.values() for column in columns]
        grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in with_series_columns(latest(valid)).sort("batch_size").iter_rows(named=True):
            grouped.setdefault(tuple(row[c] for c in columns), []).append(row)
        self.series = [Series(dict(zip(columns, k, strict=True)), tuple(v)) for k, v in grouped.items()]
        self._by_setting: dict[tuple[Any, ...], list[Series]] = {}
        for series in self.series:
            self._by_setting.setdefault(tuple(series.knobs[c] for c in SETTING), []).append(series)
        self._by_task: dict[str | None, list[Series]] = {}
        for series in self.series:
            self._by_task.setdefault(series.knobs["task"], []).append(series)
        self._errors: dict[str, tuple[tuple[float, int] | None, float | None]] = {}

    def find(self, wanted: Mapping[str, Any]) -> list[Series]:
        """Return the series with the wanted value in every column but those of parallelism."""
        return self._by_setting.get(tuple(wanted[c] for c in SETTING), [])

    def of_task(self, task: str | None) -> list[Series]:
        """Return the series of a task."""
        return self._by_task.get(task, [])

    def of(self, row: Mapping[str, Any]) -> Series | None:
        """Return the series that a run belongs to; ``None`` if the run is not among those counted."""
        knobs = {c: row[c] for columns in KNOB_COLUMNS.values() for c in columns}
        return next((s for s in self.find(knobs) if not differing(s.knobs, knobs, PARALLELISM)), None)

    def errors(self, quantity: str) -> tuple[tuple[float, int] | None, float | None]:
        """Return :meth:`repeatability` and :meth:`interpolation_error`, worked out once for each quantity."""
        if quantity not in self._errors:
            self._errors[quantity] = (self.repeatability(quantity), self.interpolation_error(quantity))
        return self._errors[quantity]

    def repeatability(self, quantity: str) -> tuple[float, int] | None:
        """Return the relative standard deviation of one measurement, and the pairs that it was read from.

        It is read off configurations that were measured more than once; ``None`` where fewer than three were.
        """
        columns = [c for columns in KNOB_COLUMNS.values() for c in columns]
        keys = [*columns, "batch_ceiling", "mean_input_tokens", "height_px", "num_frames"]
        repeated = (
            self._all.filter(pl.col(quantity) > 0)
            .with_columns(logarithm=pl.col(quantity).log())
            .group_by(keys)
            .agg(pl.col("logarithm"))
            .filter(pl.col("logarithm").list.len() > 1)
        )
        differences = [a - b for values in repeated["logarithm"] for a, b in itertools.pairwise(values)]
        if len(differences) < 3:
            return None
        # The difference of two equal measurements has twice the variance of one.
        return float(np.sqrt(np.mean(np.square(differences)) / 2)), len(differences)

    def interpolation_error(self, quantity: str) -> float | None:
        """Return the relative standard error of interpolation, found by leaving out each inner point in turn.

        This overstates the error, since the gap is twice as wide as that between true neighbours.
        """
        errors: list[NDArray[np.float64]] = []
        for series in self.series:
            pairs = [(r["batch_size"], r[quantity]) for r in series.rows if (r[quantity] or 0) > 0]
            if len(pairs) < 3:
                continue
            x, y = np.log(np.array(pairs, dtype=float)).T
            gap = x[2:] - x[:-2]
            usable = gap > 0
            share = (x[1:-1] - x[:-2])[usable] / gap[usable]
            errors.append(((1 - share) * y[:-2][usable] + share * y[2:][usable]) - y[1:-1][usable])
        if not errors:
            return None
        # A few series jump (a host limit, a changed kernel); the median keeps them from setting the scale.
        return float(np.median(np.abs(np.concatenate(errors))) * 1.4826)


def point_of(row: Mapping[str, Any], quantity: str) -> Point:
    """Return a run's own value of ``quantity`` per unit of work, as a point."""
    value = row[quantity] / row["work"] ** WORK_EXPONENT.get(quantity, 0)
    return Point(value=value, basis=Basis.MEASURED, run_ids=(row["run_id"],))


def with_series_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the run table with ``base_model``, ``batch_ceiling``, ``pixels`` and ``work`` added.

    ``work`` is steps × pixels × frames of one output, as far as they are stated; 1 for tokens.
    """
    names = {name: base_model(name) for name in frame["model_id"].unique()}
    with_pixels = frame.with_columns(
        BATCH_CEILING,
        base_model=pl.col("model_id").replace_strict(names, return_dtype=pl.String) if names else "model_id",
        pixels=pl.col("height_px") * pl.col("width_px"),
    )
    parts = [pl.col(c).fill_null(1).cast(pl.Float64) for c in ("inference_steps", "pixels", "num_frames")]
    return with_pixels.with_columns(work=parts[0] * parts[1] * parts[2])


def differing(a: Mapping[str, Any], b: Mapping[str, Any], columns: Iterable[str]) -> bool:
    """Say whether two rows differ in any of the columns."""
    return any(a[c] != b[c] for c in columns)
