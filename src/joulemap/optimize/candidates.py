"""The candidates among which one chooses: a model and task over batch, precision, GPUs, and what is known of each.

What was measured comes first; between the measured batches of a series values are interpolated; everything else
is modelled, corrected by the measured runs of the same model. Every quantity carries its interval and basis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from joulemap.catalog import Catalog, ModelArchitecture, load_catalog
from joulemap.diagnose.series import Curves, base_model
from joulemap.errors import InfeasibleError, UsageError
from joulemap.optimize.between import interpolated
from joulemap.optimize.levers import batch as batch_lever
from joulemap.optimize.levers.registry import lever_named
from joulemap.optimize.modelled import Corrected, completed, modelled
from joulemap.optimize.quantities import OUTCOMES, latency_of, repeatability, with_interval
from joulemap.optimize.scope import (
    PRECISION_WORDS,
    STRUCTURE,
    SYSTEM_COLUMNS,
    WORK_COLUMNS,
    Measured,
    Scope,
    canonical,
    measured_of,
    task_id,
    within,
)
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import Models, form_of
from joulemap.predict.predict import shipped_calibration
from joulemap.predict.served import own_precision
from joulemap.records import Basis
from joulemap.store.schema import COLUMNS

_FILLED = 0.8
"""Share of the ceiling that a filled batch reaches on average, at the least."""

CANDIDATE_COLUMNS = (
    *("candidate", "basis", "run_ids", "base_model", *WORK_COLUMNS, *SYSTEM_COLUMNS),
    *("max_num_seqs", "batch_ceiling", "batch_size"),
    *(f"{quantity}{ending}" for quantity in OUTCOMES for ending in ("", "_low", "_high", "_basis")),
    *("memory_footprint_bytes", "memory_batch_ceiling", "fits_probability"),
)
"""Columns of the table: the settings; quantities with 90 % interval and basis; memory of one GPU.

``candidate`` numbers the rows, ``basis`` is that of the energy, ``run_ids`` are the runs it was read from,
``batch_ceiling`` is the batch asked for and ``fits_probability`` how likely memory holds it.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The candidates of a scope, and what they were made with."""

    scope: Scope
    table: pl.DataFrame
    """One row a candidate; the columns are ``CANDIDATE_COLUMNS``."""
    measured: Measured
    model: Corrected
    curves: Curves
    """Batch curves of all runs of the store."""
    notes: tuple[str, ...] = ()
    """What is not among the candidates, and why."""

    @property
    def latency(self) -> str:
        """The column that ``latency`` means for this task's outputs."""
        return latency_of(self.output_unit)

    @property
    def output_unit(self) -> str:
        """What the task makes: ``token``, ``image`` or ``video``."""
        return str(self.table["output_unit"][0])


def candidates(
    frame: pl.DataFrame,
    scope: Scope,
    *,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> Candidates:
    """Return the candidates of a scope.

    Args:
        frame: The run table; may be empty.
        scope: Which configurations.
        calibration: The calibrated model; the shipped one if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id that the catalog lacks.

    Raises:
        UnknownNameError: A model, task, GPU or lever is unknown.
        InfeasibleError: No candidate lies within the scope.
    """
    facts = catalog or load_catalog()
    scope = canonical(scope, frame, facts)
    measured = measured_of(frame, scope, facts, models)
    curves = Curves(frame)
    model = Corrected(calibration or shipped_calibration(), facts, models, measured.model_runs)
    notes: list[str] = []
    parts = [_measured_rows(measured.runs, curves)]
    if not scope.measured_only:
        own = batch_lever.TEXT_CEILINGS if _makes_text(measured) else batch_lever.DIFFUSION_BATCHES
        parts.append(interpolated(measured.runs, sorted({*own, *scope.batches}), curves))
    known = [_completed(part, model, repeatability(curves, "output_throughput_per_s"), notes) for part in parts]
    if not scope.measured_only:
        wanted = _unmeasured(frame, scope, measured, model, notes)
        power = repeatability(curves, "energy_per_output_j")
        known.append(modelled(wanted, model, measured.task_runs, power))
    table = pl.concat([p for p in known if p.height] or known[:1], how="diagonal_relaxed")
    if table.is_empty():
        raise _nothing(scope, notes)
    table = table.with_columns(basis=pl.col("energy_per_output_j_basis")).with_row_index("candidate")
    lacking = [pl.lit(None).alias(c) for c in CANDIDATE_COLUMNS if c not in table.columns]
    table = table.with_columns(lacking).select(CANDIDATE_COLUMNS)
    return Candidates(scope, table, measured, model, curves, tuple(dict.fromkeys(notes)))


def _makes_text(measured: Measured) -> bool:
    return bool((measured.task_runs["output_unit"] == "token").any())


def _measured_rows(runs: pl.DataFrame, curves: Curves) -> pl.DataFrame:
    rows = runs.with_columns(run_ids=pl.concat_list("run_id"))
    for quantity in OUTCOMES:
        rows = with_interval(rows, quantity, repeatability(curves, quantity), Basis.MEASURED)
    return rows


def _completed(frame: pl.DataFrame, model: Corrected, deviation: float, notes: list[str]) -> pl.DataFrame:
    """Return measured or interpolated rows, completed by the model where it knows them."""
    if frame.is_empty():
        return frame
    sure = frame.with_columns(fits_probability=pl.lit(1.0))
    known = model.known(sure, notes)
    unknown = sure.join(known.select("model_id", "gpu_model").unique(), on=["model_id", "gpu_model"], how="anti")
    done = completed(known, model, deviation) if known.height else known
    return pl.concat([p for p in (done, unknown) if p.height], how="diagonal_relaxed")


def _unmeasured(
    frame: pl.DataFrame, scope: Scope, measured: Measured, model: Corrected, notes: list[str]
) -> pl.DataFrame:
    """Return the configurations that the levers reach and no series has at or between its batches."""
    start = _structures(measured.task_runs)
    if start.is_empty():
        start = _from_catalog(frame, scope, measured, model)
    # GPU models that nobody asked for are no candidates, however many the catalog knows.
    here = start["gpu_model"].unique().to_list()
    reached = start
    for name in scope.levers:
        if name == batch_lever.NAME:
            continue
        more = lever_named(name).options(reached)
        reached = pl.concat([reached, more], how="vertical_relaxed").unique(STRUCTURE, maintain_order=True)
        reached = reached.filter(pl.col("gpu_model").is_in([*here, *scope.gpu_models]))
    wanted = within(reached.filter(pl.col("gpu_model").is_in(scope.gpu_models or here)), scope)
    reached = _with_sibling_ids(wanted, measured, model.catalog)
    known = _supported(model.known(reached, notes), model.catalog)
    if batch_lever.NAME in scope.levers:
        grid = batch_lever.options(known, scope.batches)
    else:
        asked = scope.batches or tuple(measured.task_runs["batch_ceiling"].unique())
        grid = batch_lever.with_batch(
            known.join(pl.DataFrame({"batch_ceiling": [float(b) for b in asked]}), how="cross"),
            pl.col("batch_ceiling"),
        )
    return _outside_measured(grid, measured.runs)


def _structures(runs: pl.DataFrame) -> pl.DataFrame:
    """Return the structures of runs, each once, with the task's mean lengths."""
    lengths = [pl.col(c).mean() for c in ("mean_input_tokens", "mean_output_tokens")]
    return (
        runs.with_columns(lengths)
        .select("base_model", *WORK_COLUMNS, *SYSTEM_COLUMNS)
        .unique(STRUCTURE, maintain_order=True)
    )


def _from_catalog(frame: pl.DataFrame, scope: Scope, measured: Measured, model: Corrected) -> pl.DataFrame:
    """Return the structures to start from where no run of the model at the task is in the store."""
    name = measured.model_runs["model_id"][0] if measured.model_runs.height else scope.model
    architecture = (model.models or {}).get(name) or model.catalog.model(name)
    task = model.catalog.task(scope.task)
    made = None if isinstance(architecture, ModelArchitecture) else architecture.defaults
    precision = own_precision(architecture)
    calibrated = model.calibration.forms[form_of(architecture)].gpus
    known: dict[str, object] = {
        "base_model": base_model(architecture.id),
        "model_id": architecture.id,
        "task": task_id(frame, scope.task, model.catalog),
        "output_unit": task.output_unit,
        "input_modality": task.input_modality,
        "mean_output_tokens": task.output_lengths.mean_tokens if task.output_lengths else None,
        "weight_precision": PRECISION_WORDS.get(precision, precision),
        "num_gpus": 1,
        "inference_steps": made.steps if made else None,
        "height_px": made.height_px if made else None,
        "width_px": made.width_px if made else None,
        "num_frames": made.num_frames if made and architecture.output == "video" else None,  # type: ignore[union-attr]
    }
    if (task.output_unit == "token") != isinstance(architecture, ModelArchitecture):
        msg = f"{architecture.id} does not make what the task {task.id} asks for ({task.output_unit}s)"
        raise UsageError(msg, fix="'joulemap runs' lists which models were run at which task")
    names = ["base_model", *WORK_COLUMNS, *SYSTEM_COLUMNS]
    rows = [{n: g if n == "gpu_model" else known.get(n) for n in names} for g in scope.gpu_models or calibrated]
    return pl.DataFrame(rows, schema={n: COLUMNS.get(n, pl.String()) for n in names})


def _with_sibling_ids(frame: pl.DataFrame, measured: Measured, catalog: Catalog) -> pl.DataFrame:
    """Name each precision by the model id under which it is published, where it is."""
    siblings = {
        (row["weight_precision"]): (row["model_id"], row["nickname"])
        for row in measured.model_runs.select("weight_precision", "model_id", "nickname").iter_rows(named=True)
    }
    ids, nicknames = [], []
    for row in frame.select("model_id", "nickname", "weight_precision").iter_rows(named=True):
        own, name, precision = row["model_id"], row["nickname"], row["weight_precision"]
        published = f"{own}-{str(precision).upper()}"
        found = siblings.get(precision) or ((published, name) if published in catalog.models else (own, name))
        ids.append(found[0])
        nicknames.append(found[1])
    return frame.with_columns(
        pl.Series("model_id", ids, dtype=pl.String), pl.Series("nickname", nicknames, dtype=pl.String)
    )


def _supported(frame: pl.DataFrame, catalog: Catalog) -> pl.DataFrame:
    """Leave out FP8 weights on GPUs whose arithmetic has no FP8."""
    without_fp8 = [g for g in frame["gpu_model"].unique() if "fp8" not in catalog.gpu(g).peak_flops_per_s]
    fp8 = pl.col("weight_precision").str.starts_with("fp8").fill_null(value=False)
    return frame.filter(~(fp8 & pl.col("gpu_model").is_in(without_fp8)))


def _outside_measured(grid: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Leave out batches at or between those that were measured of the same structure.

    Batches beyond are left out too where the largest that was measured did not fill: something other than the
    ceiling (the host, the requests that arrive) holds the batch, and a higher ceiling changes nothing.
    """
    filled = pl.col("batch_size") / pl.col("batch_ceiling") >= _FILLED
    by_ceiling = pl.col("batch_ceiling").sort_by("batch_ceiling")
    ends = runs.group_by(STRUCTURE).agg(
        by_ceiling.first().alias("_first"),
        pl.when(filled.sort_by("batch_ceiling").last()).then(by_ceiling.last()).otherwise(math.inf).alias("_last"),
    )
    joined = grid.join(ends, on=STRUCTURE, how="left", nulls_equal=True, maintain_order="left")
    inside = pl.col("batch_ceiling").is_between(pl.col("_first"), pl.col("_last")).fill_null(value=False)
    return joined.filter(~inside).drop("_first", "_last")


def _nothing(scope: Scope, notes: list[str]) -> InfeasibleError:
    kind = "measured run" if scope.measured_only else "configuration"
    limits = [
        f"{name} {', '.join(map(str, values))}"
        for name, values in (
            ("GPU", scope.gpu_models),
            ("GPU count", scope.gpu_counts),
            ("precision", scope.precisions),
        )
        if values
    ]
    said = f" within {'; '.join(limits)}" if limits else ""
    why = f" ({'; '.join(dict.fromkeys(notes))})" if notes else ""
    msg = f"no {kind} of {scope.model} at {scope.task}{said} is known, or fits into memory{why}"
    return InfeasibleError(msg, fix=f"'joulemap runs model={scope.model}' lists what was measured")
