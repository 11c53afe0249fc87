"""Evaluate prepared configurations: values, few-shot corrections and deviations of every quantity, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from joulemap.catalog import Catalog
from joulemap.errors import InputError
from joulemap.physics.arrays import Floats
from joulemap.physics.host import starved_fraction
from joulemap.predict.calibration import ENERGY, Calibration, FormCalibration, usable_runs, with_energy
from joulemap.predict.diffusion import DiffusionTerms
from joulemap.predict.few_shot import kinship, posterior
from joulemap.predict.forms import (
    QUANTITIES,
    FormName,
    FormRows,
    Models,
    form_rows,
    layout,
    logs_of,
    measured_logs,
)
from joulemap.predict.frames import floats_of
from joulemap.predict.intervals import (
    BEYOND_BATCHES,
    BEYOND_CEILING,
    DIFFERENT_GPU,
    EVERYTHING,
    OTHER_SYSTEM,
    SAME_GENERATION,
    factors_of,
    kinds,
)
from joulemap.predict.language import ENGINE_MEMORY_SHARE, LanguageTerms
from joulemap.predict.language_rows import Flags, LanguageRows
from joulemap.predict.prepare import Prepared, prepare

CEILING_TOLERANCE = 1.5
"""Full batches of the study exceed the budget's mean by up to about half, while contexts are still young."""
CHUNK = 8_192
"""Rows evaluated at a time: their arrays then stay in the processor's cache."""
INFORMED = 0.8
"""Deviation relative to the prior below which given runs are taken to inform a row."""
TTFT_DEVIATION = 0.35
"""Deviation (logarithm) of time to first token beyond that of the step: the study has none to calibrate on."""

Arrays = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Arrays over the rows of one form."""

    values: Arrays
    """Outcomes and latents by name."""
    half_widths: Arrays
    """Half widths of the 90 % intervals of outcomes, in logarithms."""
    interpolated: Flags
    """Where runs of the same series were given on both sides of the batch."""
    step_parts: Arrays
    power_parts: Arrays
    flops: Arrays
    bytes_moved: Arrays
    beyond_ceiling: Flags


def rows_of(form: FormName, prepared: Prepared, calibration: Calibration, catalog: Catalog) -> FormRows:
    """Return a prepared table as rows of a form under a calibration.

    Raises:
        InputError: The calibration does not cover the form.
    """
    fitted = calibration.forms.get(form)
    if fitted is None:
        msg = f"the calibration has no {form} models"
        raise InputError(msg, fix="leave out --calibration to use the shipped one")
    return form_rows(form, prepared.frame, catalog, prepared.models, layout(form, fitted.gpus))


def evaluate(
    form: FormName, prepared: Prepared, calibration: Calibration, catalog: Catalog, given: pl.DataFrame | None
) -> Evaluated:
    """Evaluate configurations of one form.

    Args:
        form: The form of all rows.
        prepared: The configurations.
        calibration: Fitted coefficients.
        catalog: Facts.
        given: Measured runs that correct the prediction; ``None`` for none.
    """
    rows = rows_of(form, prepared, calibration, catalog)
    fitted = calibration.forms[form]
    starts = range(0, max(len(rows), 1), CHUNK)
    pieces = [_piece(rows.take(np.arange(s, min(s + CHUNK, len(rows)))), fitted) for s in starts]
    joined = {key: _joined([p[key] for p in pieces]) for key in pieces[0]}
    values = joined["values"]
    corrections, deviations, interpolated = _corrections(form, prepared, calibration, catalog, given)
    for name in QUANTITIES[form]:
        values[name] = values[name] * np.exp(corrections[name])
    values[ENERGY] = values["power_w"] / values["output_throughput_per_s"]
    step_scale = np.exp(-corrections["output_throughput_per_s"])
    beyond = values["batch_size"] > values["batch_ceiling"] * CEILING_TOLERANCE
    widths = _half_widths(prepared, rows, calibration, catalog, deviations, beyond)
    _derive(form, prepared.frame, values, widths, step_scale)
    return Evaluated(
        values=values,
        half_widths=widths,
        interpolated=interpolated & ~beyond,
        step_parts={name: part * step_scale for name, part in joined["step"].items()},
        power_parts={name: part * np.exp(corrections["power_w"]) for name, part in joined["power"].items()},
        flops=joined["flops"],
        bytes_moved=joined["bytes"],
        beyond_ceiling=beyond,
    )


def _joined(pieces: list[Arrays]) -> Arrays:
    if len(pieces) == 1:
        return dict(pieces[0])
    return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}


def _piece(rows: FormRows, fitted: FormCalibration) -> dict[str, Arrays]:
    terms = rows.terms(fitted.vector)
    if isinstance(terms, LanguageTerms):
        assert isinstance(rows.rows, LanguageRows)
        return _language_piece(rows.rows, terms)
    return _diffusion_piece(rows, terms)


def _language_piece(rows: LanguageRows, t: LanguageTerms) -> dict[str, Arrays]:
    bytes_moved = sum(t.bytes_per_step.values(), start=np.zeros(len(rows)))
    useful = t.flops_per_step["decode"] + t.flops_per_step["prefill"]
    used = np.divide(rows.batch * rows.copies, t.batch_ceiling, out=np.ones(len(rows)), where=t.batch_ceiling > 0)
    values = {
        "itl_median_s": t.itl_median_s,
        "output_throughput_per_s": t.output_throughput_per_s,
        "power_w": t.power_w,
        "ttft_s": t.prefill_s + 1.5 * t.mean_step_s,
        "mean_step_s": t.mean_step_s,
        "batch_size": rows.batch * rows.copies,
        "batch_ceiling": t.batch_ceiling,
        "mean_context_tokens": t.context_tokens,
        "mean_input_tokens": t.input_tokens,
        "memory_footprint_bytes": t.memory_footprint_bytes,
        "memory_available_bytes": t.kv_available_bytes,
        "kv_cache_utilization": np.minimum(used, 1.0),
        "memory_bandwidth_utilization": bytes_moved / t.mean_step_s / rows.gpu["bandwidth"],
        "compute_utilization": useful / t.mean_step_s / rows.gpu["peak"],
        "communication_fraction": t.step_s["communication"] / t.mean_step_s,
        "starved_fraction": t.step_s["starved"] / t.mean_step_s,
    }
    return {
        "values": values,
        "step": t.step_s,
        "power": t.power_parts_w,
        "flops": t.flops_per_step,
        "bytes": t.bytes_per_step,
    }


def _diffusion_piece(rows: FormRows, t: DiffusionTerms) -> dict[str, Arrays]:
    r = rows.rows
    assert not isinstance(r, LanguageRows)
    available = np.maximum(ENGINE_MEMORY_SHARE * r.gpu["memory_bytes"] - r.weight_bytes, 0.0)
    # Activations of one sample at its widest point: the blocks' hidden states, unfused.
    each = r.volume["samples"] * (r.volume["latent_tokens"] / r.gpus + r.volume["text_tokens"])
    each = each * r.volume["hidden_size"] * ACTIVATION_BYTES
    fits = np.where(available > 0, np.maximum(available / each, 1.0), 0.0)
    flops = t.flops_per_batch["matrix"] + t.flops_per_batch["attention"] + t.flops_per_batch["decode"] / r.gpus
    values = {
        "output_throughput_per_s": t.output_throughput_per_s,
        "power_w": t.power_w,
        "latency_s": t.latency_s,
        "batch_size": r.batch,
        "batch_ceiling": fits,
        "memory_footprint_bytes": r.weight_bytes + each * r.batch,
        "memory_available_bytes": available,
        "memory_bandwidth_utilization": t.bytes_per_batch / t.latency_s / r.gpu["bandwidth"],
        "compute_utilization": flops / t.latency_s / r.gpu["peak"],
        "communication_fraction": t.batch_s["communication"] / t.latency_s,
        "starved_fraction": starved_fraction(t.latency_s, t.latency_s),
    }
    bytes_moved = {"activations": t.bytes_per_batch}
    return {
        "values": values,
        "step": t.batch_s,
        "power": t.power_parts_w,
        "flops": t.flops_per_batch,
        "bytes": bytes_moved,
    }


ACTIVATION_BYTES = 24.0
"""Bytes of live activations per token and hidden unit: about twelve 16-bit tensors."""


Corrections = tuple[Arrays, Arrays, Flags]


def _corrections(
    form: FormName, prepared: Prepared, calibration: Calibration, catalog: Catalog, given: pl.DataFrame | None
) -> Corrections:
    """Return few-shot corrections, deviations and where the batch lies between given ones of the series."""
    fitted = calibration.forms[form]
    count = prepared.frame.height
    corrections = {name: np.zeros(count) for name in fitted.kernels}
    deviations = {name: np.full(count, k.prior_deviation) for name, k in fitted.kernels.items()}
    between = np.zeros(count, dtype=np.bool_)
    runs = None if given is None else _given_runs(form, given, catalog, prepared.models)
    if runs is None or runs.frame.is_empty():
        return corrections, deviations, between
    rows = rows_of(form, runs, calibration, catalog)
    predicted = with_energy(form, logs_of(rows.terms(fitted.vector)))
    measured = with_energy(form, measured_logs(form, runs.frame))
    known, asked = kinship([runs.frame, prepared.frame], {**runs.backbones, **prepared.backbones})
    for name, kernel in fitted.kernels.items():
        residuals = measured[name] - predicted[name]
        corrections[name], deviations[name] = posterior(kernel, known, residuals, asked)
    for code in np.intersect1d(known.series, asked.series):
        own = known.log_batch[known.series == code]
        at = asked.series == code
        between |= at & (asked.log_batch >= own.min() - 1e-9) & (asked.log_batch <= own.max() + 1e-9)
    return corrections, deviations, between


def _given_runs(form: FormName, given: pl.DataFrame, catalog: Catalog, models: Models) -> Prepared:
    runs = usable_runs(given, form, catalog, {**catalog.models, **models})
    return prepare(runs, catalog, models)


def _half_widths(
    prepared: Prepared,
    rows: FormRows,
    calibration: Calibration,
    catalog: Catalog,
    deviations: Arrays,
    beyond: Flags,
) -> Arrays:
    """Return half widths by quantity, wider where the row lies outside what the calibration has seen."""
    fitted = calibration.forms[rows.form]
    frame = prepared.frame
    levels = kinds(frame)
    models = rows.rows.gpu_models
    known = {catalog.gpus[g].generation for g in fitted.gpus if g in catalog.gpus}
    strange = [
        0.0 if g.id in fitted.gpus else SAME_GENERATION if g.generation in known else DIFFERENT_GPU for g in models
    ]
    extra = np.array(strange)[rows.rows.gpu_index]
    batch = floats_of(frame, "batch_size", 1.0)
    low, high = fitted.batches
    outside = np.maximum(np.log(np.maximum(batch, 1e-9) / high), 0.0) + np.maximum(np.log(low / batch), 0.0)
    extra = np.hypot(np.hypot(extra, BEYOND_BATCHES * outside), np.where(beyond, BEYOND_CEILING, 0.0))
    elsewhere = np.zeros(len(rows))
    if isinstance(rows.rows, LanguageRows):
        elsewhere = np.where(rows.rows.as_study & (rows.rows.sorted_sampler > 0), 0.0, OTHER_SYSTEM)
    widths = {}
    for name, kernel in fitted.kernels.items():
        informed = deviations[name] < INFORMED * kernel.prior_deviation
        factor = factors_of(levels, fitted.factors[name])
        if informed.any():
            few = fitted.factors_few[name]
            usable = few if np.isfinite(few[EVERYTHING]) else fitted.factors[name]
            factor = np.where(informed, factors_of(levels, usable), factor)
        unknown = np.hypot(extra, np.where(informed, 0.0, elsewhere))
        widths[name] = factor * np.hypot(deviations[name], unknown)
    return widths


def _derive(form: FormName, frame: pl.DataFrame, values: Arrays, widths: Arrays, step_scale: Floats) -> None:
    """Add the quantities that follow from others, with their intervals."""
    values["throughput_per_watt"] = 1.0 / values[ENERGY]
    widths["throughput_per_watt"] = widths[ENERGY]
    through = widths["output_throughput_per_s"]
    if form == "diffusion":
        values["latency_median_s"] = values.pop("latency_s") * step_scale
        widths["latency_median_s"] = through
        return
    lengths = frame["mean_output_tokens"].cast(pl.Float64).to_numpy()
    step = values.pop("mean_step_s") * step_scale
    values["ttft_median_s"] = values.pop("ttft_s") * step_scale
    widths["ttft_median_s"] = np.hypot(through, 1.645 * TTFT_DEVIATION)
    values["latency_mean_s"] = values["ttft_median_s"] + step * np.maximum(lengths - 1.0, 0.0)
    widths["latency_mean_s"] = through
    values["request_throughput_per_s"] = values["output_throughput_per_s"] / lengths
    widths["request_throughput_per_s"] = through
    values["energy_per_request_j"] = values[ENERGY] * lengths
    widths["energy_per_request_j"] = widths[ENERGY]
