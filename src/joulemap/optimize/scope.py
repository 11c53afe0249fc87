"""What is chosen among: one model (in all its precisions) at one task, on which GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from joulemap.catalog import Catalog
from joulemap.diagnose.series import PARALLELISM, base_model, with_series_columns
from joulemap.errors import UnknownNameError, UsageError
from joulemap.predict.forms import Models
from joulemap.store.selector import condition, latest

SEARCHED = ("gpu_count", "precision", "gpu_generation", "batch")
"""The levers that span the candidates unless others are asked for; they leave the output as it is, but for
precision."""

PRECISION_WORDS = {"bf16": "bfloat16", "fp16": "float16"}
"""The run table's words for number formats that have shorter names, the catalog's among them."""

WORK_COLUMNS = (
    *("task", "output_unit", "input_modality", "mean_input_tokens", "mean_output_tokens"),
    *("inference_steps", "height_px", "width_px", "num_frames"),
)
"""What is asked of a configuration."""
SYSTEM_COLUMNS = (
    *("model_id", "nickname", "gpu_model", "num_gpus", "weight_precision", "kv_cache_precision"),
    *PARALLELISM,
    *("engine", "engine_version", "gpu_memory_utilization", "power_limit_w"),
)
"""What serves it, apart from the batch."""
STRUCTURE = (
    *("base_model", "gpu_model", "num_gpus", "weight_precision", "kv_cache_precision"),
    *("inference_steps", "height_px", "width_px", "num_frames", "gpu_memory_utilization", "power_limit_w"),
)
"""Columns that tell two structures apart; how a structure is divided over its GPUs follows from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which configurations are candidates; an empty tuple sets no limit."""

    model: str
    """Model id or nickname; its siblings in other precisions belong to it."""
    task: str
    gpu_models: tuple[str, ...] = ()
    """By default those on which the model was measured at the task, else those of the calibration."""
    gpu_counts: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ()
    measured_only: bool = False
    """Leave out what was interpolated or modelled."""
    levers: tuple[str, ...] = SEARCHED
    """Levers whose options are added to what was measured, by name."""
    batches: tuple[float, ...] = ()
    """Batch ceilings to look at beside the usual ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The runs that a scope names, with series columns."""

    runs: pl.DataFrame
    """Of the model and task, within the scope's limits; one row a configuration."""
    task_runs: pl.DataFrame
    """Of the model and task, whatever the limits."""
    model_runs: pl.DataFrame
    """Of the model at any task and on any GPU: they correct predictions."""
    base_model: str


def measured_of(frame: pl.DataFrame, scope: Scope, catalog: Catalog, models: Models | None = None) -> Measured:
    """Return the measured runs of a scope.

    Raises:
        UnknownNameError: Neither the store nor the catalog knows the model, or a task or GPU is unknown.
        UsageError: The name fits several models that are not one model in several precisions.
    """
    usable = latest(frame.filter(pl.col("valid") & (pl.col("energy_per_output_j") > 0)))
    bases = _bases(frame, scope.model, catalog, models)
    if len(bases) > 1:
        msg = f"{scope.model!r} names {len(bases)} models: {', '.join(sorted(bases))}"
        raise UsageError(msg, fix="give the full model id")
    (base,) = bases
    runs = with_series_columns(usable)
    own = runs.filter((pl.col("base_model") == base) & (pl.col("batch_ceiling") > 0))
    of_task = own.filter(pl.col("task") == task_id(frame, scope.task, catalog))
    return Measured(within(of_task, scope), of_task, own, base)


def canonical(scope: Scope, frame: pl.DataFrame, catalog: Catalog) -> Scope:
    """Return a scope whose GPU models and precisions are named as in the run table.

    Raises:
        UnknownNameError: Neither the store nor the catalog knows a GPU model.
    """
    return replace(
        scope,
        gpu_models=tuple(dict.fromkeys(gpu_id(name, frame, catalog) for name in scope.gpu_models)),
        precisions=tuple(PRECISION_WORDS.get(p.casefold(), p.casefold()) for p in scope.precisions),
    )


def gpu_id(name: str, frame: pl.DataFrame, catalog: Catalog) -> str:
    """Return a GPU model's name in the run table, else the catalog's.

    Raises:
        UnknownNameError: Neither knows it.
    """
    known = {g.casefold(): g for g in frame["gpu_model"].drop_nulls().unique()}
    return known.get(name.casefold()) or catalog.gpu(name).id


def within(frame: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return the rows that lie within a canonical scope's GPU models, counts and precisions."""
    kept = frame
    for column, wanted in (("gpu_model", scope.gpu_models), ("weight_precision", scope.precisions)):
        kept = kept.filter(pl.col(column).is_in(wanted)) if wanted else kept
    return kept.filter(pl.col("num_gpus").is_in(scope.gpu_counts)) if scope.gpu_counts else kept


def _bases(frame: pl.DataFrame, name: str, catalog: Catalog, models: Models | None) -> set[str]:
    """Return the base models that a name means in the store, else in the catalog."""
    try:
        if frame.height:
            return {base_model(i) for i in frame.filter(condition(frame, "model", name))["model_id"].unique()}
    except UnknownNameError:
        if name in (models or {}):
            return {base_model(name)}
        try:
            return {base_model(catalog.model(name).id)}
        except UnknownNameError:
            pass
        raise
    return {base_model(name if name in (models or {}) else catalog.model(name).id)}


def task_id(frame: pl.DataFrame, name: str, catalog: Catalog) -> str:
    """Return a task's id as the store has it; a task that only the catalog knows keeps its id there."""
    known: Mapping[str, str] = {t.casefold(): t for t in frame["task"].drop_nulls().unique()}
    found = known.get(name.casefold())
    if found is not None:
        return found
    try:
        return catalog.task(name).id
    except UnknownNameError as error:
        kind = "task"
        raise UnknownNameError(kind, name, [*known.values(), *catalog.tasks]) from error
