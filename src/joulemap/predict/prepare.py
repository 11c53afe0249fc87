"""A table of configurations, checked and completed: names looked up, precisions and parallelism settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from joulemap.catalog import Catalog, DiffusionArchitecture, ModelArchitecture
from joulemap.errors import UnknownNameError, UsageError
from joulemap.physics.shape import language_shape
from joulemap.predict.forms import Models, form_of
from joulemap.predict.frames import column_of
from joulemap.predict.language_rows import PLAIN, SORTED
from joulemap.predict.served import as_served, own_precision

RECORDED_PRECISIONS = {"bf16": "bfloat16", "fp16": "float16"}
"""What runs call a number format where the catalog's name is another."""
ATTENTION_REPLICAS = frozenset({"Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8"})
"""Models that the study served with attention data parallelism (its FP8 blocks do not divide over 8 GPUs)."""
POSITIVE = (
    *("num_gpus", "batch_size", "max_num_seqs", "mean_input_tokens", "mean_output_tokens", "inference_steps"),
    *("height_px", "width_px", "num_frames", "tensor_parallel", "expert_parallel", "data_parallel"),
    *("ulysses_degree", "ring_degree", "power_limit_w", "request_rate_per_s", "max_concurrency"),
)
LIMITS = {
    "num_gpus": 4096,
    "batch_size": 1e6,
    "max_num_seqs": 1e6,
    "mean_input_tokens": 1e8,
    "mean_output_tokens": 1e8,
    "inference_steps": 10_000,
    "height_px": 32_768,
    "width_px": 32_768,
    "num_frames": 100_000,
}
"""Beyond these a value is a slip of the pen, not a configuration."""
LEAST = {"batch_size": 1e-6, "mean_input_tokens": 1e-3, "mean_output_tokens": 1e-3, "power_limit_w": 1e-3}
"""Likewise below these; at far smaller ones, times overflow."""
DEFAULT_OUTPUT_TOKENS = 512.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A table that the forms can read, and the architectures that its ``model_id`` names."""

    frame: pl.DataFrame
    models: Models
    backbones: Mapping[str, str]


def prepare(frame: pl.DataFrame, catalog: Catalog, models: Models | None = None) -> Prepared:
    """Check and complete a table of configurations.

    Args:
        frame: Columns of the run table; ``model_id``, ``gpu_model`` and ``num_gpus`` are needed.
        catalog: Facts.
        models: Architectures by model id that the catalog lacks.

    Raises:
        UnknownNameError: A model, GPU model or precision is unknown.
        UsageError: A column is missing, or a value is not positive or absurd.
    """
    for name in ("model_id", "gpu_model"):
        if name not in frame.columns or frame[name].null_count():
            msg = f"configurations need a {name}"
            raise UsageError(msg, fix=f"fill the column {name!r}")
    _check_numbers(frame)
    for name in column_of(frame, "sampler", pl.String).drop_nulls().unique():
        if name not in (SORTED, PLAIN):
            kind = "sampler"
            raise UnknownNameError(kind, name, (SORTED, PLAIN))
    frame = frame.with_columns(column_of(frame, "num_gpus", pl.Int64).fill_null(1))
    gpus = {name: catalog.gpu(name).id for name in frame["gpu_model"].unique()}
    frame = frame.with_columns(_replaced(frame["gpu_model"], gpus))
    frame, known = _with_served_models(frame, catalog, models or {})
    frame = _with_parallelism(frame, known, catalog)
    frame = _with_kind(frame, known, catalog)
    return Prepared(frame, known, {i: m.backbone for i, m in known.items()})


def _with_kind(frame: pl.DataFrame, models: Models, catalog: Catalog) -> pl.DataFrame:
    """Return the table with output unit and precision as the models have them, and modality as the task has it."""
    ids = list(models)
    units = [m.output if isinstance(m, DiffusionArchitecture) else "token" for m in models.values()]
    precisions = [RECORDED_PRECISIONS.get(p := own_precision(m), p) for m in models.values()]
    tasks = list(catalog.tasks)
    modalities = [catalog.tasks[t].input_modality for t in tasks]
    task = column_of(frame, "task", pl.String)
    usual = task.replace_strict(tasks, modalities, default="text", return_dtype=pl.String)
    return frame.with_columns(
        frame["model_id"].replace_strict(ids, units, return_dtype=pl.String).alias("output_unit"),
        frame["model_id"].replace_strict(ids, precisions, return_dtype=pl.String).alias("weight_precision"),
        usual.zip_with(task.is_not_null(), column_of(frame, "input_modality", pl.String).fill_null("text")).alias(
            "input_modality"
        ),
    )


def _check_numbers(frame: pl.DataFrame) -> None:
    for name in POSITIVE:
        if name not in frame.columns:
            continue
        values = frame[name].cast(pl.Float64)
        bad = values.is_not_null() & ~(values.is_finite() & (values > 0))
        if bad.any():
            row = int(bad.arg_true()[0])
            msg = f"{name} must be a positive number, not {frame[name][row]!r} (row {row})"
            raise UsageError(msg, fix=f"give {name} a value above 0")
        limit = LIMITS.get(name)
        if limit is not None and (values > limit).any():
            row = int((values > limit).arg_true()[0])
            msg = f"{name} = {frame[name][row]!r} (row {row}) is beyond anything that can be meant ({limit:g})"
            raise UsageError(msg, fix=f"check {name}: at most {limit:g} is accepted")
        least = LEAST.get(name)
        if least is not None and (values < least).any():
            row = int((values < least).arg_true()[0])
            msg = f"{name} = {frame[name][row]!r} (row {row}) is less than anything that can be meant ({least:g})"
            raise UsageError(msg, fix=f"check {name}: at least {least:g} is accepted")


def _replaced(series: pl.Series, names: Mapping[str, str]) -> pl.Series:
    if all(a == b for a, b in names.items()):
        return series
    return series.replace_strict(list(names), list(names.values()), return_dtype=pl.String)


def _with_served_models(
    frame: pl.DataFrame, catalog: Catalog, models: Models
) -> tuple[pl.DataFrame, dict[str, ModelArchitecture | DiffusionArchitecture]]:
    """Return the table with ids of models as served: a precision other than a model's own makes a variant."""
    precision = column_of(frame, "weight_precision", pl.String).fill_null("auto")
    asked = pl.DataFrame({"model_id": frame["model_id"], "weight_precision": precision})
    served: dict[tuple[str, str], ModelArchitecture | DiffusionArchitecture] = {}
    for name, wanted in asked.unique(maintain_order=True).iter_rows():
        model = models.get(name) or catalog.model(name)
        served[name, wanted] = as_served(model, wanted, catalog)
    known = {m.id: m for m in served.values()}
    if len({name for name, _ in served}) == len(served):
        names = {name: m.id for (name, _), m in served.items()}
        return frame.with_columns(_replaced(frame["model_id"], names)), known
    keys = asked["model_id"] + "|" + asked["weight_precision"]
    ids = keys.replace_strict(
        [f"{a}|{b}" for a, b in served], [m.id for m in served.values()], return_dtype=pl.String
    )
    return frame.with_columns(ids.alias("model_id")), known


def _with_parallelism(frame: pl.DataFrame, models: Models, catalog: Catalog) -> pl.DataFrame:
    """Fill parallelism as the study used it for such models.

    Experts are divided whole between all GPUs (expert parallelism) unless they are 4-bit; everything else is
    divided by tensor parallelism; one listed model replicates its attention.
    """
    whole = [
        i
        for i, m in models.items()
        if isinstance(m, ModelArchitecture)
        and (shape := language_shape(m, catalog.precisions)).moe_layers > 0
        and not shape.mxfp4_experts
    ]
    replicated = [i for i, m in models.items() if form_of(m) == "language" and i in ATTENTION_REPLICAS]
    gpus = frame["num_gpus"].cast(pl.Int64)
    one = pl.Series([1], dtype=pl.Int64).new_from_index(0, frame.height)
    tp = column_of(frame, "tensor_parallel", pl.Int64)
    experts = gpus.zip_with(frame["model_id"].is_in(whole), one)
    # A stated tensor parallelism over all GPUs says that experts are divided by it too.
    experts = one.zip_with((tp == gpus).fill_null(value=False), experts)
    replicas = gpus.zip_with(frame["model_id"].is_in(replicated), one)
    return frame.with_columns(
        column_of(frame, "expert_parallel", pl.Int64).fill_null(experts).alias("expert_parallel"),
        column_of(frame, "data_parallel", pl.Int64).fill_null(replicas).alias("data_parallel"),
    )


def with_output_tokens(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the table with a default reply length where none is given."""
    lengths = column_of(frame, "mean_output_tokens", pl.Float64).fill_null(DEFAULT_OUTPUT_TOKENS)
    return frame.with_columns(lengths.fill_nan(DEFAULT_OUTPUT_TOKENS).alias("mean_output_tokens"))
