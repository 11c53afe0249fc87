"""The options of ``joulemap measure``, in groups, and what they mean to the session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from cyclopts import Parameter

from joulemap.errors import UsageError
from joulemap.measure.meters.choice import MeterOptions
from joulemap.measure.session.level import Pace
from joulemap.measure.session.opening import MeterRequest

SWITCH = Parameter(negative="")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What is asked of the model."""

    task: str | None = None
    """Name of the workload, for example a task of the study; "joulemap runs" lists it."""
    concurrency: str | None = None
    """Requests kept in flight, one level each, for example 8,16,32."""
    rate: str | None = None
    """Requests per second, one level each, in place of a concurrency."""
    rate_variation: float = 1.0
    """Standard deviation ÷ mean of the gaps between arrivals at a rate: 1 is Poisson, more is burstier."""
    input_tokens: int | None = None
    """Prompt length in tokens."""
    output_tokens: int | None = None
    """Reply length in tokens."""
    dataset: str | None = None
    """File of prompts to ask."""
    trace: str | None = None
    """Request trace (CSV: TIMESTAMP, ContextTokens, GeneratedTokens) to replay."""
    endpoint: str = "chat"
    """chat, completions or images."""
    images: int | None = None
    """Images in each chat request (by default as the task has), or asked for in each of the images endpoint (1)."""
    video_frames: int | None = None
    """Frames of one video in each chat request."""
    workers: int | None = None
    """Processes of the load client."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StatedDeployment:
    """How a model is served, as far as neither the server nor the meters tell."""

    gpu: str | None = None
    """GPU model, if no meter here tells it."""
    gpu_count: int | None = None
    """Number of GPUs that serve the model."""
    precision: str | None = None
    """Precision of the weights."""
    tensor_parallel: int | None = None
    """GPUs over which each layer is split."""
    expert_parallel: int | None = None
    """GPUs over which experts are spread."""
    data_parallel: int | None = None
    """Replicas of the attention layers."""
    max_num_seqs: int | None = None
    """The engine's batch ceiling."""

    def stated(self) -> dict[str, Any]:
        """Return what is stated, by field name of a deployment; ``None`` for what is not."""
        return {
            "gpu_model": self.gpu,
            "num_gpus": self.gpu_count,
            "weight_precision": self.precision,
            "tensor_parallel": self.tensor_parallel,
            "expert_parallel": self.expert_parallel,
            "data_parallel": self.data_parallel,
            "max_num_seqs": self.max_num_seqs,
        }


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServerOptions(StatedDeployment):
    """The server, as far as it cannot be asked."""

    model: str | None = None
    """The model's name at the server; by default the first that it serves."""
    metrics_url: str | None = None
    """Where the engine tells its metrics; by default /metrics of the server."""
    api_key_env: str = "JOULEMAP_API_KEY"
    """Environment variable that holds the server's API key."""
    gguf: str | None = None
    """Model file for the embedded engine, in place of one with random weights."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InProcessOptions:
    """Models that run in this process, without a server."""

    transformers: str | None = None
    """Run a language model here: a folder, an id, a config.json or a model of the catalog."""
    diffusers: str | None = None
    """Run a diffusion pipeline here: a folder or an id."""
    random_weights: Annotated[bool, SWITCH] = False
    """Fill the weights with noise, so that nothing need be downloaded."""
    static_batch: Annotated[bool, SWITCH] = False
    """Repeat one decoding step at a fixed batch and context, in place of serving requests."""
    batch: str = "1,2,4"
    """Batch sizes, one level each."""
    device: str | None = None
    """Device of PyTorch, for example cuda:1 or cpu."""
    layers: int | None = None
    """Build so many layers only."""
    cuda_graph: bool = True
    """Capture the decoding step as a CUDA graph."""
    steps: int = 20
    """Denoising steps of a diffusion pipeline."""
    height: int | None = None
    """Height of the pictures in pixels."""
    width: int | None = None
    """Width of the pictures in pixels."""
    frames: int | None = None
    """Frames of a video."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PaceOptions:
    """How long to measure."""

    duration: float | None = None
    """Longest time for one level in seconds; by default 300."""
    window: float | None = None
    """Length of a window in seconds: 5 for GPUs, whose counters need it, else 1."""
    windows: int = 12
    """Most windows of one level."""
    confidence_width: str = "2%"
    """Half-width of the 90 % interval at which a level is done."""
    warm_up: float | None = None
    """Longest warm-up in seconds; by default 60, and never more than half the duration."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MeterOptionsGroup:
    """What measures."""

    meter: tuple[str, ...] = ()
    """Meters by name (nvidia, amd, apple, rapl, replay:FILE, assumed); by default those of this machine."""
    gpus: str | None = None
    """GPUs to measure, by index or UUID, joined by commas."""
    tdp: float | None = None
    """The CPUs' TDP in watts, for the assumed meter."""
    dcgm: str | None = None
    """A dcgm-exporter's address, to read GPU activity from in place of GPM."""


@dataclass(frozen=True, kw_only=True)
class MeasureRequest:
    """Everything that was asked; it is kept in the session's journal, and holds no key."""

    url: str | None = None
    load: LoadOptions = field(default_factory=LoadOptions)
    server: ServerOptions = field(default_factory=ServerOptions)
    in_process: InProcessOptions = field(default_factory=InProcessOptions)
    pace: PaceOptions = field(default_factory=PaceOptions)
    meters: MeterOptionsGroup = field(default_factory=MeterOptionsGroup)

    def to_json(self) -> dict[str, Any]:
        """Return the request in JSON's types."""
        return asdict(self)

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> MeasureRequest:
        """Return a request from a journal."""
        meters = {**told["meters"], "meter": tuple(told["meters"]["meter"])}
        return MeasureRequest(
            url=told["url"],
            load=LoadOptions(**told["load"]),
            server=ServerOptions(**told["server"]),
            in_process=InProcessOptions(**told["in_process"]),
            pace=PaceOptions(**told["pace"]),
            meters=MeterOptionsGroup(**meters),
        )


def pace_of(options: PaceOptions, *, quick: bool = False) -> Pace:
    """Return the session's pace; ``quick`` is that of the embedded engine, which is there to try things."""
    base = Pace(min_warm_up_s=1.0, max_warm_up_s=4.0, max_windows=6, max_duration_s=12.0) if quick else Pace()
    window_s = base.window_s if options.window is None else options.window
    duration_s = base.max_duration_s if options.duration is None else options.duration
    warm_up_s = base.max_warm_up_s if options.warm_up is None else options.warm_up
    if window_s <= 0 or duration_s <= window_s:
        msg = f"a level of {duration_s:g} s cannot hold windows of {window_s:g} s"
        raise UsageError(msg, fix="give a longer --duration or a shorter --window")
    if options.windows < 1:
        msg = f"--windows {options.windows} measures nothing"
        raise UsageError(msg, fix="give at least 3 windows, without which no interval can be told")
    return Pace(
        window_s=window_s,
        min_windows=min(base.min_windows, options.windows),
        max_windows=min(base.max_windows, options.windows),
        confidence_width_fraction=share(options.confidence_width, "--confidence-width"),
        max_duration_s=duration_s,
        min_warm_up_s=min(base.min_warm_up_s, warm_up_s),
        max_warm_up_s=warm_up_s,
    )


def meter_request(options: MeterOptionsGroup) -> MeterRequest:
    """Return the request for meters."""
    gpus = None if options.gpus is None else tuple(g.strip() for g in options.gpus.split(",") if g.strip())
    return MeterRequest(
        names=options.meter, options=MeterOptions(gpus=gpus, tdp_w=options.tdp), dcgm_url=options.dcgm
    )


def share(text: str, option: str) -> float:
    """Return a share of one from ``"2%"`` or ``"0.02"``.

    >>> share("2%", "--confidence-width")
    0.02
    """
    try:
        value = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        msg = f"{option} {text!r} is no share"
        raise UsageError(msg, fix=f"write it like {option} 2%")
    return value


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """Return positive whole numbers from ``"8,16,32"``, each once."""
    numbers = numbers_of(text, option)
    if any(n != int(n) for n in numbers):
        msg = f"{option} {text!r}: whole numbers are needed"
        raise UsageError(msg, fix=f"write it like {option} 8,16,32")
    return tuple(int(n) for n in numbers)


def numbers_of(text: str, option: str) -> tuple[float, ...]:
    """Return positive numbers from ``"0.5,1"``, each once."""
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) <= 0:
        msg = f"{option} {text!r} is no list of positive numbers"
        raise UsageError(msg, fix=f"write it like {option} 8,16,32")
    return tuple(dict.fromkeys(numbers))
