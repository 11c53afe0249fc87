"""Predict one configuration, found by its batch, its concurrency or the rate of its requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Literal

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, ModelArchitecture, load_catalog
from joulemap.errors import InfeasibleError, UsageError
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import FormName, Models, form_of
from joulemap.predict.language import PARTS
from joulemap.predict.language_form import TASK_INPUT_TOKENS
from joulemap.predict.language_rows import PLAIN, SORTED, newer_engine
from joulemap.predict.predict import LATENTS, OUTCOMES, predict_many, predict_with_parts, shipped_calibration
from joulemap.predict.prepare import DEFAULT_OUTPUT_TOKENS, LIMITS, prepare
from joulemap.predict.served import own_precision
from joulemap.records import Basis, Deployment, OutputUnit, Quantity, Workload
from joulemap.records.estimate import Estimate
from joulemap.records.run import unit_of
from joulemap.units import BYTES_PER_GB

GRID = 96
"""Batches at which throughput is reckoned to find the one that a rate needs."""
LATENT_UNITS = {
    "batch_size": "request",
    "batch_ceiling": "request",
    "memory_footprint_bytes": "B/GPU",
    "memory_available_bytes": "B/GPU",
    "mean_context_tokens": "token",
    "mean_input_tokens": "token",
}
LATENT_SPREAD = {"batch_ceiling": 0.4, "memory_footprint_bytes": 0.1, "memory_available_bytes": 0.3}
"""Half widths of intervals (logarithms) of memory: the study's full batches differ from the budget by about 0.4."""
CAPACITY_NOTE = "from a memory budget, not calibrated on measured capacities"


def predict(
    workload: Workload,
    deployment: Deployment,
    *,
    batch_size: float | None = None,
    calibration: Calibration | None = None,
    given: pl.DataFrame | None = None,
    catalog: Catalog | None = None,
    models: Models | None = None,
    sampler: Literal["sorted", "plain"] | None = None,
) -> Estimate:
    """Predict one configuration.

    Args:
        workload: Task, lengths, output size; ``max_concurrency`` or ``request_rate_per_s`` set the batch where
            ``batch_size`` does not.
        deployment: Model, GPUs, precision, parallelism; ``max_num_seqs`` caps the batch.
        batch_size: Requests that run together; what memory allows if nothing says otherwise.
        calibration: Fitted coefficients; the shipped ones if ``None``.
        given: Measured runs that correct the prediction.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id that the catalog lacks.
        sampler: ``"sorted"`` where tokens are sampled from sorted logits (top-p, top-k), ``"plain"`` where they
            need not be. By default sorted where a task of the study is named, unless ``deployment`` names an engine
            and a version that no longer sorts; else plain.

    Raises:
        InfeasibleError: The weights do not fit on the GPUs.
        UsageError: A name is unknown, a value is not positive, or the GPUs do not divide by a parallelism.
    """
    _check_parallelism(deployment)
    facts = catalog or load_catalog()
    fitted = calibration or shipped_calibration()
    frame = _frame(workload, deployment, batch_size)
    if sampler is not None:
        frame = frame.with_columns(pl.lit(sampler).alias("sampler"))
    prepared = prepare(frame, facts, models)
    model = next(iter(prepared.models.values()))
    form = form_of(model)
    known = {**(models or {}), model.id: model}
    assumptions = _assumptions(form, workload, deployment, prepared.frame, own_precision(model))
    if form == "language" and sampler is None:
        as_study = workload.task in TASK_INPUT_TOKENS and not newer_engine(prepared.frame, facts)[0]
        assumptions["sampler"] = _sampler_assumed(facts) if as_study else PLAIN
    probe = predict_many(frame.with_columns(pl.lit(1.0).alias("batch_size")), fitted, catalog=facts, models=models)
    if probe["batch_ceiling"][0] < 1.0:
        raise _does_not_fit(probe, frame, deployment, fitted, facts, models)
    warnings: list[str] = []
    batch = batch_size or _operating_batch(frame, form, workload, deployment, fitted, facts, models, warnings)
    assumptions |= {} if batch_size else {"batch_size": f"{batch:.4g}"}
    frame = frame.with_columns(pl.lit(float(batch)).alias("batch_size"))
    row = predict_with_parts(frame, fitted, given, catalog=facts, models=models).row(0, named=True)
    if row["beyond_ceiling"]:
        warnings.append(
            f"batch {batch:.4g} is beyond the ceiling of about {row['batch_ceiling']:.0f} that memory allows: "
            "an extrapolation to more memory than there is"
        )
    gpu = facts.gpu(str(deployment.gpu_model))
    if gpu.id not in fitted.forms[form].gpus:
        warnings.append(
            f"{gpu.id} has no measured run in the calibration: only its datasheet is known, intervals are wide"
        )
    if isinstance(model, ModelArchitecture) and not model.verified:
        warnings.append(f"the shape of {model.id} was not read in a file of its publisher")
    unit = model.output if not isinstance(model, ModelArchitecture) else "token"
    return Estimate(
        workload=replace(workload, output_unit=OutputUnit(unit)),
        deployment=replace(
            deployment,
            gpu_model=gpu.id,
            expert_parallel=int(prepared.frame["expert_parallel"][0]),
            data_parallel=int(prepared.frame["data_parallel"][0]),
            weight_precision=deployment.weight_precision or own_precision(next(iter(known.values()))),
        ),
        quantities={name: _outcome(name, row, unit) for name in OUTCOMES[form]},
        latents={name: _latent(name, row) for name in LATENTS[form]},
        step_time_s={n[len("step_") : -len("_s")]: v for n, v in row.items() if n.startswith("step_")},
        power_parts_w={part: row[f"power_{part}_w"] for part in PARTS},
        energy_parts_j={part: row[f"energy_{part}_j"] for part in PARTS},
        assumptions=assumptions,
        warnings=tuple(warnings),
    )


def _sampler_assumed(catalog: Catalog) -> str:
    """Return the study's sampler, and until when its engine had it."""
    engine = catalog.engine("vllm")
    return f"{SORTED}, as in the study and in {engine.name} before {engine.samples_without_sorting_from}"


def _frame(workload: Workload, deployment: Deployment, batch_size: float | None) -> pl.DataFrame:
    stated = asdict(workload) | asdict(deployment)
    settings: dict[str, list[object]] = {
        k: [v] for k, v in stated.items() if isinstance(v, str | int | float) and v is not None
    }
    settings |= {} if batch_size is None else {"batch_size": [float(batch_size)]}
    lengths = workload.output_lengths
    if lengths is not None:
        middles = (np.array(lengths.edges[1:]) + np.array(lengths.edges[:-1])) / 2.0
        mean = float(np.average(middles, weights=lengths.counts))
        variance = float(np.average((middles - mean) ** 2, weights=lengths.counts))
        settings |= {"mean_output_tokens": [mean], "output_length_spread": [variance / mean**2]}
    return pl.DataFrame(settings)


def _assumptions(
    form: FormName, workload: Workload, deployment: Deployment, prepared: pl.DataFrame, precision: str
) -> dict[str, str]:
    said: dict[str, str] = {}
    if deployment.weight_precision is None:
        said["weight_precision"] = precision
    if deployment.num_gpus is None:
        said["num_gpus"] = "1"
    if form == "diffusion":
        if workload.inference_steps is None:
            said["inference_steps"] = "the publisher's default"
        return said
    for name in ("expert_parallel", "data_parallel"):
        if getattr(deployment, name) is None:
            said[name] = str(prepared[name][0])
    if workload.mean_output_tokens is None:
        said["mean_output_tokens"] = f"{DEFAULT_OUTPUT_TOKENS:.0f}"
    if workload.mean_input_tokens is None:
        said["mean_input_tokens"] = f"as in the study's {workload.task}" if workload.task else "512"
    return said


def _check_parallelism(deployment: Deployment) -> None:
    count = deployment.num_gpus or 1
    for name in ("tensor_parallel", "expert_parallel", "data_parallel"):
        degree = getattr(deployment, name)
        if degree is not None and degree > 0 and count % degree:
            msg = f"{name} = {degree} does not divide {count} {'GPU' if count == 1 else 'GPUs'}"
            option = name.replace("_", "-")
            raise UsageError(msg, fix=f"give a multiple of {degree} GPUs (--gpus {degree}), or another --{option}")


def _does_not_fit(
    probe: pl.DataFrame,
    frame: pl.DataFrame,
    deployment: Deployment,
    calibration: Calibration,
    catalog: Catalog,
    models: Models | None,
) -> InfeasibleError:
    gpu = catalog.gpu(str(deployment.gpu_model))
    count = deployment.num_gpus or 1
    need = float(probe["memory_footprint_bytes"][0])
    msg = (
        f"{deployment.model_id} does not fit on {count} x {gpu.id}: it needs {need / BYTES_PER_GB:.1f} GB on each "
        f"GPU, of {gpu.memory_bytes / BYTES_PER_GB:.1f} GB ({need:.0f} of {gpu.memory_bytes} bytes), "
        "engine reserve not counted"
    )
    counts = [n for n in (count << doublings for doublings in range(1, 13)) if n <= LIMITS["num_gpus"]]
    enough = _fit(frame, "num_gpus", counts, calibration, catalog, models)
    ways = [f"more GPUs (--gpus {counts[enough.index(True)]})"] if True in enough else []
    if True in _fit(frame, "weight_precision", ["fp8"], calibration, catalog, models):
        ways.append("a smaller precision (--precision fp8)")
    return InfeasibleError(
        msg, fix=f"use {' or '.join(ways)}" if ways else "choose a smaller model or a larger GPU"
    )


def _fit(
    frame: pl.DataFrame,
    name: str,
    values: Sequence[int] | Sequence[str],
    calibration: Calibration,
    catalog: Catalog,
    models: Models | None,
) -> list[bool]:
    """Return with which values of a column memory holds one request."""
    tried = pl.DataFrame({name: values, "batch_size": [1.0] * len(values)})
    try:
        made = predict_many(
            frame.drop(tried.columns, strict=False).join(tried, how="cross"),
            calibration,
            catalog=catalog,
            models=models,
        )
    except UsageError:
        # A diffusion model that is calibrated in its own precision only.
        return [False] * len(values)
    return (made["batch_ceiling"] >= 1.0).to_list()


def _operating_batch(
    frame: pl.DataFrame,
    form: FormName,
    workload: Workload,
    deployment: Deployment,
    calibration: Calibration,
    catalog: Catalog,
    models: Models | None,
    warnings: list[str],
) -> float:
    """Return the batch that concurrency, rate or memory sets."""
    if form == "diffusion":
        return 1.0
    alone = frame.drop("batch_size", strict=False)
    row = predict_many(alone, calibration, catalog=catalog, models=models).row(0, named=True)
    most = min(float(row["batch_size"]), float(deployment.max_num_seqs or np.inf))
    if workload.max_concurrency is not None:
        return min(float(workload.max_concurrency), most)
    rate = workload.request_rate_per_s
    if rate is None:
        return max(most, 1.0)
    batches = np.geomspace(1.0, max(most, 1.0 + 1e-9), GRID)
    grid = pl.concat([alone] * GRID).with_columns(pl.Series("batch_size", batches))
    through = predict_many(grid, calibration, catalog=catalog, models=models)["request_throughput_per_s"].to_numpy()
    reached = np.flatnonzero(through >= rate)
    if reached.size == 0:
        warnings.append(
            f"{rate:g} requests/s exceed the {through.max():.3g} requests/s that this can serve: a queue grows"
        )
        return float(batches[int(np.argmax(through))])
    first = int(reached[0])
    if first == 0:
        # Fewer than one request runs at a time: the batch is the share of time with one.
        return 1.0
    return float(np.interp(rate, through[first - 1 : first + 1], batches[first - 1 : first + 1]))


def _outcome(name: str, row: dict[str, object], unit: str) -> Quantity:
    label = f"{unit}/J" if name == "throughput_per_watt" else unit_of(name, unit)
    return Quantity(
        value=_number(row[name]),
        unit=label,
        basis=Basis(str(row["basis"])),
        low=_number(row[f"{name}_low"]),
        high=_number(row[f"{name}_high"]),
    )


def _latent(name: str, row: dict[str, object]) -> Quantity:
    value = _number(row[name])
    unit = LATENT_UNITS.get(name, "1")
    spread = LATENT_SPREAD.get(name)
    if spread is not None:
        low, high = value * np.exp(-spread), value * np.exp(spread)
        return Quantity(
            value=value, unit=unit, basis=Basis.MODELLED, low=float(low), high=float(high), note=CAPACITY_NOTE
        )
    if name in ("batch_size", "mean_context_tokens", "mean_input_tokens"):
        return Quantity(value=value, unit=unit, basis=Basis.ASSUMED, note="a setting, or follows from settings")
    rate = _number(row["output_throughput_per_s"])
    wide = _number(row["output_throughput_per_s_high"]) / rate
    return Quantity(value=value, unit=unit, basis=Basis.MODELLED, low=value / wide, high=value * wide)


def _number(value: object) -> float:
    return float(value)  # type: ignore[arg-type]  # a column of floats
