"""``joulemap predict``."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.errors import InputError, UsageError
from joulemap.records import Deployment, LengthDistribution, Workload
from joulemap.records.estimate import Estimate
from joulemap.report.numbers import quantity_cells

if TYPE_CHECKING:
    import polars as pl

    from joulemap.catalog import DiffusionArchitecture, ModelArchitecture

SWEPT = {"batch": "batch", "gpus": "gpus", "output-tokens": "output_tokens", "input-tokens": "input_tokens"}
SWEEP_LIMIT = 200


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class System:
    """What serves."""

    model: str
    """Catalog id or nickname, or the path to a config.json."""
    gpu: str
    """GPU model, for example H100."""
    gpus: int = 1
    """How many of them."""
    precision: str | None = None
    """Of the weights; the model's own if not given."""
    tensor_parallel: int | None = None
    """By default as the study served such models."""
    expert_parallel: int | None = None
    """GPUs that whole experts are divided over."""
    data_parallel: int | None = None
    """Attention replicas."""
    max_num_seqs: int | None = None
    """The engine's batch ceiling."""
    engine: str | None = None
    """What serves the model, for example vllm; with --engine-version it decides how tokens are sampled."""
    engine_version: str | None = None
    """For example 0.25.1; as in the study (vLLM 0.11.1) if not given."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Work:
    """What is asked of it."""

    task: str | None = None
    """One of the study's tasks: it sets lengths and modality."""
    input_tokens: str | None = None
    """Mean prompt length."""
    output_tokens: str | None = None
    """Mean reply length, or a file: JSON with edges and counts, or one length a line."""
    batch: float | None = None
    """Requests that run together."""
    concurrency: int | None = None
    """Requests that the clients keep in flight."""
    rate: float | None = None
    """Requests per second that arrive."""
    steps: int | None = None
    """Denoising steps."""
    width: int | None = None
    """Of a picture, in pixels."""
    height: int | None = None
    """Likewise."""
    frames: int | None = None
    """Of a video."""


def predict_configuration(
    *,
    system: System,
    work: Work | None = None,
    given: Annotated[list[str] | None, Parameter(name="--given", negative="")] = None,
    sweep: str | None = None,
    sampler: Literal["sorted", "plain"] | None = None,
    calibration: Path | None = None,
    common: Common | None = None,
) -> None:
    """Predict energy, power, latency and throughput of a configuration that nobody has measured.

    Args:
        system: Model, GPUs, precision, parallelism.
        work: Task or lengths, and batch, concurrency or rate; for diffusion steps and size.
        given: Correct the prediction by measured runs of the store that this selector names, such as
            model=Qwen/Qwen3-32B,gpu=H100; may be given again.
        sweep: Predict a curve, for example batch=8..512 (doubling) or gpus=1,2,4.
        sampler: Whether tokens are sampled from sorted logits (top-p or top-k, as in the study) or plainly; as in
            the study if a task of its is named and no newer engine (vLLM from 0.17.0 on does not sort), else plain.
        calibration: Coefficients from joulemap calibrate; the shipped ones if not given.
        common: Store and output.
    """
    options, asked = common or Common(), work or Work()
    runs = _given(given or [], options) if given else None
    points = [(system, asked)] if sweep is None else _swept(system, asked, sweep)
    estimates = [_estimate(s, w, runs, calibration, sampler) for s, w in points]
    if options.json:
        print_json([e.to_json() for e in estimates] if sweep else estimates[0].to_json())
    elif sweep:
        _print_curve(estimates)
    else:
        _print(estimates[0])
    for text in dict.fromkeys(w for e in estimates for w in e.warnings):
        note(f"warning: {text}")


def _estimate(
    system: System,
    work: Work,
    runs: pl.DataFrame | None,
    calibration: Path | None,
    sampler: Literal["sorted", "plain"] | None,
) -> Estimate:
    from joulemap.predict.calibration import Calibration
    from joulemap.predict.single import predict

    deployment, models = deployment_of(system)
    check_demand(work)
    return predict(
        workload_of(work),
        deployment,
        batch_size=work.batch,
        calibration=None if calibration is None else Calibration.load(calibration),
        given=runs,
        models=models,
        sampler=sampler,
    )


def deployment_of(system: System) -> tuple[Deployment, dict[str, ModelArchitecture | DiffusionArchitecture]]:
    """Return what serves, and the architecture that a config.json or a pipeline's folder describes.

    Raises:
        InputError: The config.json cannot be read.
    """
    models: dict[str, ModelArchitecture | DiffusionArchitecture] = {}
    name = system.model
    if name.endswith(".json") or Path(name).is_dir():
        from joulemap.catalog.user_model import read_user_model

        model = read_user_model(Path(name))
        name = model.id
        models = {name: model}
    deployment = Deployment(
        model_id=name,
        gpu_model=system.gpu,
        num_gpus=system.gpus,
        weight_precision=system.precision,
        tensor_parallel=system.tensor_parallel,
        expert_parallel=system.expert_parallel,
        data_parallel=system.data_parallel,
        max_num_seqs=system.max_num_seqs,
        engine=_engine(system),
        engine_version=system.engine_version,
    )
    return deployment, models


def _engine(system: System) -> str | None:
    """Return the catalog's name of what serves.

    Raises:
        UnknownNameError: The catalog has no such engine.
        UsageError: The version does not begin with a number.
    """
    from joulemap.catalog import load_catalog

    version = system.engine_version
    if version is not None and not version.lstrip("v")[:1].isdigit():
        msg = f"--engine-version {version!r} does not begin with a number"
        raise UsageError(msg, fix="give it as the engine tells it, for example --engine-version 0.25.1")
    # Only vLLM's versions are told apart, so that a version alone means it.
    name = system.engine or (None if version is None else "vllm")
    return None if name is None else load_catalog().engine(name).id


def check_demand(work: Work) -> None:
    """Refuse a batch, rate or concurrency that is not positive, or more than one of them.

    Raises:
        UsageError: One is not positive, or two set the same thing.
    """
    demands = {"--batch": work.batch, "--rate": work.rate, "--concurrency": work.concurrency}
    given = {option: value for option, value in demands.items() if value is not None}
    for option, value in given.items():
        if not value > 0:
            msg = f"{option} must be positive, not {value:g}"
            raise UsageError(msg, fix=f"give {option} a value above 0")
    if len(given) > 1:
        msg = f"{' and '.join(given)} each set how many requests run together"
        raise UsageError(msg, fix="give one of --batch, --concurrency and --rate")


def workload_of(work: Work) -> Workload:
    """Return what is asked of a system.

    Raises:
        UsageError: A length is no number.
        InputError: A file of lengths cannot be read.
    """
    workload = Workload(
        mean_input_tokens=None if work.input_tokens is None else _tokens(work.input_tokens, "--input-tokens"),
        max_concurrency=work.concurrency,
        request_rate_per_s=work.rate,
        inference_steps=work.steps,
        height_px=work.height,
        width_px=work.width,
        num_frames=work.frames,
    )
    if work.task is not None:
        from joulemap.predict.asked import for_task

        workload = for_task(workload, work.task)
    if work.output_tokens is None:
        return workload
    path = Path(work.output_tokens)
    if path.is_file():
        return replace(workload, output_lengths=_distribution(path), mean_output_tokens=None)
    return replace(workload, mean_output_tokens=_tokens(work.output_tokens, "--output-tokens"))


def _tokens(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        msg = f"{option} {text!r} is neither a number nor a file"
        raise UsageError(msg, fix=f"{option} 512") from error
    if not value > 0:
        msg = f"{option} must be positive, not {text}"
        raise UsageError(msg, fix=f"{option} 512")
    return value


def _distribution(path: Path) -> LengthDistribution:
    """Read a distribution of lengths: JSON with edges and counts, or one length a line."""
    text = path.read_text(encoding="utf-8")
    try:
        if text.lstrip().startswith("{"):
            data = json.loads(text)
            return LengthDistribution(edges=tuple(data["edges"]), counts=tuple(data["counts"]))
        lengths = sorted({float(line) for line in text.split()})
        counts = [sum(float(line) == x for line in text.split()) for x in lengths]
        # Each length in a bin of its own: edges half-way to its neighbours, so that the middles are near it.
        edges = [max(lengths[0] - 0.5, 0.0), *((a + b) / 2 for a, b in pairwise(lengths))]
        return LengthDistribution(edges=(*edges, lengths[-1] + 0.5), counts=tuple(counts))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        msg = f"{path} is no distribution of lengths: {error}"
        raise InputError(msg, fix='give JSON {"edges": […], "counts": […]} or one length a line') from error


def _given(selectors: list[str], options: Common) -> pl.DataFrame:
    import polars as pl

    from joulemap.store.selector import select

    frame = options.open().non_empty_frame()
    return pl.concat([select(frame, s) for s in selectors]).unique("run_id", maintain_order=True)


def _swept(system: System, work: Work, sweep: str) -> list[tuple[System, Work]]:
    key, found, values = sweep.partition("=")
    key = key.strip().replace("_", "-")
    if not found or key not in SWEPT:
        msg = f"--sweep {sweep!r} is not KEY=VALUES with one of {', '.join(SWEPT)}"
        raise UsageError(msg, fix="--sweep batch=8..512")
    points = _sweep_values(sweep, values)
    if key == "gpus":
        return [(replace(system, gpus=int(v)), work) for v in points]
    if key == "batch":
        return [(system, replace(work, batch=v)) for v in points]
    return [(system, replace(work, **{SWEPT[key]: f"{v:g}"})) for v in points]  # type: ignore[arg-type]


def _sweep_values(sweep: str, text: str) -> list[float]:
    try:
        if ".." in text:
            low, high = (float(part) for part in text.split("..", 1))
            values = [low]
            while low > 0 and values[-1] * 2 <= high and len(values) < SWEEP_LIMIT:
                values.append(values[-1] * 2)
        else:
            values = [float(part) for part in text.split(",")]
    except ValueError as error:
        msg = f"--sweep {sweep!r} holds something that is not a number"
        raise UsageError(msg, fix="--sweep batch=8..512, or --sweep batch=8,64,512") from error
    if not values or min(values) <= 0 or len(values) > SWEEP_LIMIT:
        msg = f"--sweep {sweep!r} needs positive values, at most {SWEEP_LIMIT} of them"
        raise UsageError(msg, fix="--sweep batch=8..512")
    return values


def _print(estimate: Estimate) -> None:
    d = estimate.deployment
    title = f"{d.model_id} in {d.weight_precision} on {d.num_gpus} x {d.gpu_model}"
    rows = [[name, *quantity_cells(q)] for name, q in (*estimate.quantities.items(), *estimate.latents.items())]
    print_table(title, ["quantity", "value", "unit", "90 % interval", "basis"], rows)
    total = sum(estimate.energy_parts_j.values())
    parts = [
        [name, figure(value), f"{100 * value / total:.0f} %"]
        for name, value in estimate.energy_parts_j.items()
        if value > 0
    ]
    unit = estimate.quantities["energy_per_output_j"].unit
    print_table("Energy per output by part (modelled)", ["part", unit, "share"], parts)
    if estimate.assumptions:
        note("assumed: " + ", ".join(f"{k} = {v}" for k, v in estimate.assumptions.items()))


def _print_curve(estimates: list[Estimate]) -> None:
    names = list(estimates[0].quantities)
    rows = []
    for e in estimates:
        cells = [f"{figure(q.value)} ({figure(q.low)}–{figure(q.high)})" for q in e.quantities.values()]
        beyond = "*" if e.latents["batch_size"].value > e.latents["batch_ceiling"].value else ""
        rows.append([str(e.deployment.num_gpus), figure(e.latents["batch_size"].value) + beyond, *cells])
    print_table("Predictions with 90 % intervals (* beyond the batch ceiling)", ["GPUs", "batch", *names], rows)
