"""Predict energy, power, time and throughput of configurations, one or many, with intervals and basis."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.errors import UsageError
from joulemap.predict.calibration import Calibration, default_calibration
from joulemap.predict.evaluate import Evaluated, evaluate, rows_of
from joulemap.predict.forms import FormName, Models, form_of
from joulemap.predict.frames import column_of, floats_of
from joulemap.predict.language import LanguageTerms
from joulemap.predict.prepare import Prepared, prepare, with_output_tokens
from joulemap.records import Basis

OUTCOMES: dict[FormName, tuple[str, ...]] = {
    "language": (
        *("energy_per_output_j", "energy_per_request_j", "power_w", "output_throughput_per_s"),
        *("request_throughput_per_s", "throughput_per_watt", "itl_median_s", "ttft_median_s", "latency_mean_s"),
    ),
    "diffusion": (
        *("energy_per_output_j", "power_w", "output_throughput_per_s", "throughput_per_watt", "latency_median_s"),
    ),
}
LATENTS: dict[FormName, tuple[str, ...]] = {
    "language": (
        *(
            "batch_size",
            "batch_ceiling",
            "memory_footprint_bytes",
            "memory_available_bytes",
            "kv_cache_utilization",
        ),
        *("memory_bandwidth_utilization", "compute_utilization", "communication_fraction", "starved_fraction"),
        *("mean_context_tokens", "mean_input_tokens"),
    ),
    "diffusion": (
        *("batch_size", "batch_ceiling", "memory_footprint_bytes", "memory_available_bytes"),
        *("memory_bandwidth_utilization", "compute_utilization", "communication_fraction", "starved_fraction"),
    ),
}
UTILIZATIONS = frozenset({"memory_bandwidth_utilization", "compute_utilization"})
"""Latents that are rates: their intervals follow throughput's."""


@functools.cache
def shipped_calibration() -> Calibration:
    """Return the shipped calibration, read once."""
    return default_calibration()


def predict_many(
    frame: pl.DataFrame,
    calibration: Calibration | None = None,
    given: pl.DataFrame | None = None,
    *,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> pl.DataFrame:
    """Predict every row of a table of configurations.

    Args:
        frame: Columns of the run table. ``model_id``, ``gpu_model`` and ``num_gpus`` are needed; a language
            model's ``batch_size`` is the achieved one, and where it is null the ceiling that memory and
            ``max_num_seqs`` allow. Outcome columns are not read.
        calibration: Fitted coefficients; the shipped ones if ``None``.
        given: Measured runs of the same series, models or GPUs, which correct the prediction (few-shot).
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id that the catalog lacks.

    Returns:
        One row a configuration, in order: each outcome with ``_low`` and ``_high`` (90 % interval), the latents,
        ``basis`` (``interpolated`` between given runs of the series, else ``modelled``) and ``beyond_ceiling``.
        Quantities that a kind of model does not have are null.

    Raises:
        UsageError: A configuration cannot be read, or a name is unknown.
    """
    return _by_form(frame, calibration, given, catalog, models, _prediction_table)


def decompose(
    frame: pl.DataFrame,
    calibration: Calibration | None = None,
    given: pl.DataFrame | None = None,
    *,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> pl.DataFrame:
    """Take predictions apart: where step time, power and energy of each configuration go.

    Args:
        frame: As for :func:`predict_many`.
        calibration: As there.
        given: As there.
        catalog: As there.
        models: As there.

    Returns:
        One row a configuration: ``step_<part>_s`` (sums to the mean step, or a diffusion batch's time),
        ``power_<part>_w`` (sums to ``power_w``), ``energy_<part>_j`` (sums to ``energy_per_output_j``),
        ``bytes_per_output_<part>`` and ``flops_per_output_<part>`` (all GPUs together), and the latents.
    """
    return _by_form(frame, calibration, given, catalog, models, _decomposition_table)


def predict_with_parts(
    frame: pl.DataFrame,
    calibration: Calibration | None = None,
    given: pl.DataFrame | None = None,
    *,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> pl.DataFrame:
    """Return the columns of :func:`predict_many` and of :func:`decompose` as one table, evaluated once."""
    return _by_form(frame, calibration, given, catalog, models, _full_table)


def _by_form(
    frame: pl.DataFrame,
    calibration: Calibration | None,
    given: pl.DataFrame | None,
    catalog: Catalog | None,
    models: Models | None,
    table: Callable[[FormName, pl.DataFrame, Evaluated], pl.DataFrame],
) -> pl.DataFrame:
    facts = catalog or load_catalog()
    fitted = calibration or shipped_calibration()
    prepared = prepare(frame, facts, models)
    forms = {i: form_of(m) for i, m in prepared.models.items()}
    pieces = []
    for form in dict.fromkeys(forms.values()):
        ids = [i for i, f in forms.items() if f == form]
        at = None if len(ids) == len(forms) else np.flatnonzero(prepared.frame["model_id"].is_in(ids).to_numpy())
        own = prepared if at is None else Prepared(prepared.frame[at], prepared.models, prepared.backbones)
        completed = complete(form, own, fitted, facts)
        done = evaluate(form, completed, fitted, facts, given)
        made = table(form, completed.frame, done)
        pieces.append(made if at is None else made.with_columns(pl.Series("_row", at)))
    if len(pieces) == 1:
        return pieces[0].drop("_row", strict=False)
    return pl.concat(pieces, how="diagonal").sort("_row").drop("_row")


def complete(form: FormName, prepared: Prepared, calibration: Calibration, catalog: Catalog) -> Prepared:
    """Return the table with batch and reply length filled in.

    A language model's missing batch is the smaller of ``max_num_seqs`` and the ceiling that memory allows.

    Raises:
        UsageError: A batch is missing and no ceiling is known.
    """
    frame = prepared.frame
    if form == "diffusion":
        batch = column_of(frame, "batch_size", pl.Float64).fill_null(1.0)
        return Prepared(frame.with_columns(batch.alias("batch_size")), prepared.models, prepared.backbones)
    frame = with_output_tokens(frame)
    batches = floats_of(frame, "batch_size", np.nan)
    missing = np.isnan(batches)
    if missing.any():
        trial = frame.with_columns(pl.Series("batch_size", np.where(missing, 1.0, batches)))
        terms = rows_of(form, Prepared(trial, prepared.models, prepared.backbones), calibration, catalog).terms(
            calibration.forms[form].vector
        )
        assert isinstance(terms, LanguageTerms)
        asked = floats_of(frame, "max_num_seqs", np.inf)
        batches = np.where(missing, np.maximum(np.minimum(asked, terms.batch_ceiling), 1.0), batches)
        if not np.isfinite(batches).all():
            msg = "a batch size is needed"
            raise UsageError(msg, fix="fill the column 'batch_size' or 'max_num_seqs'")
    filled = frame.with_columns(pl.Series("batch_size", batches))
    return Prepared(filled, prepared.models, prepared.backbones)


def _prediction_table(form: FormName, frame: pl.DataFrame, done: Evaluated) -> pl.DataFrame:
    del frame
    columns: dict[str, pl.Series | np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    spreads = {name: np.exp(width) for name, width in done.half_widths.items()}
    for name in OUTCOMES[form]:
        value, spread = done.values[name], spreads[name]
        columns[name] = value
        columns[f"{name}_low"] = value / spread
        columns[f"{name}_high"] = value * spread
    for name in LATENTS[form]:
        columns[name] = done.values[name]
    names = pl.Enum([Basis.MODELLED.value, Basis.INTERPOLATED.value])
    between = pl.Series("basis", done.interpolated)
    basis = pl.when(pl.lit(between)).then(pl.lit(Basis.INTERPOLATED.value)).otherwise(pl.lit(Basis.MODELLED.value))
    beyond = pl.Series("beyond_ceiling", done.beyond_ceiling)
    return pl.DataFrame(columns).with_columns(basis.cast(names).alias("basis"), beyond)


def _full_table(form: FormName, frame: pl.DataFrame, done: Evaluated) -> pl.DataFrame:
    predicted = _prediction_table(form, frame, done)
    parts = _decomposition_table(form, frame, done)
    return predicted.hstack([c for c in parts if c.name not in predicted.columns])


def _decomposition_table(form: FormName, frame: pl.DataFrame, done: Evaluated) -> pl.DataFrame:
    v = done.values
    columns = {f"step_{part}_s": array for part, array in done.step_parts.items()}
    columns |= {f"power_{part}_w": array for part, array in done.power_parts.items()}
    rate = v["output_throughput_per_s"]
    columns |= {f"energy_{part}_j": array / rate for part, array in done.power_parts.items()}
    gpus = floats_of(frame, "num_gpus", 1.0)
    # A step makes one token of each running sequence; a batch makes that many images or videos.
    per_output = gpus / v["batch_size"]
    columns |= {f"bytes_per_output_{part}": array * per_output for part, array in done.bytes_moved.items()}
    columns |= {f"flops_per_output_{part}": array * per_output for part, array in done.flops.items()}
    for name in (*OUTCOMES[form], *LATENTS[form]):
        columns[name] = v[name]
    return pl.DataFrame(columns)
