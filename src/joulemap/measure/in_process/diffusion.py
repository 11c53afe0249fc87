"""Running a diffusion pipeline in this process: the same batch of pictures or videos, again and again."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from joulemap.errors import InfeasibleError, InputError, MeasurementError
from joulemap.measure.in_process.libraries import device_of, load
from joulemap.measure.in_process.metering import narrowed
from joulemap.measure.in_process.thread_work import WorkThread, first_line
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.opening import MeterRequest
from joulemap.measure.session.progress_log import ProgressLog
from joulemap.measure.session.session import Level
from joulemap.measure.session.work import Progress, Series, WorkDone
from joulemap.records import Deployment, OutputUnit, Workload
from joulemap.units import PARAMS_PER_BILLION

EXTRA = "diffusers"
NEEDED_FOR = "--diffusers"
PROMPT = "a wide valley under a clear sky, a river, two bridges, a small town in the evening light"
BATCH_ARGUMENTS = ("num_images_per_prompt", "num_videos_per_prompt", "batch_size")
"""How pipelines call the size of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionPlan:
    """What to draw."""

    name: str
    """A folder or an id of a hub."""
    batches: tuple[int, ...]
    steps: int
    height_px: int | None = None
    width_px: int | None = None
    frames: int | None = None
    device: str | None = None
    precision: str = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPipeline:
    """A pipeline in memory."""

    torch: Any
    pipeline: Any
    device: Any
    params: float
    """Parameters of all its models."""

    @property
    def takes(self) -> frozenset[str]:
        """The names of the arguments that it takes."""
        return frozenset(inspect.signature(type(self.pipeline).__call__).parameters)


def load_pipeline(plan: DiffusionPlan) -> LoadedPipeline:
    """Load a pipeline onto its device.

    Raises:
        MissingExtraError: PyTorch or diffusers is not installed.
        InputError: It cannot be loaded.
        InfeasibleError: It does not fit into memory.
    """
    torch = load("torch", extra=EXTRA, needed_for=NEEDED_FOR)
    diffusers = load("diffusers", extra=EXTRA, needed_for=NEEDED_FOR)
    device = device_of(torch, plan.device)
    diffusers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Newer versions call the argument dtype, older ones know only this name.
            warnings.simplefilter("ignore", FutureWarning)
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                plan.name, torch_dtype=getattr(torch, plan.precision)
            )
        pipeline = pipeline.to(device)
    except torch.OutOfMemoryError as error:
        msg = f"{plan.name} does not fit into the memory of {device}: {first_line(error)}"
        raise InfeasibleError(msg) from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        msg = f"the pipeline {plan.name!r} cannot be loaded: {first_line(error)}"
        raise InputError(msg, fix="give a folder that holds model_index.json") from error
    pipeline.set_progress_bar_config(disable=True)
    models = [m for m in pipeline.components.values() if isinstance(m, torch.nn.Module)]
    params = float(sum(p.numel() for m in models for p in m.parameters()))
    return LoadedPipeline(torch=torch, pipeline=pipeline, device=device, params=params)


class DiffusionWork:
    """Draws one batch after the other; a :class:`~joulemap.measure.session.work.Work`.

    Args:
        loaded: The pipeline.
        plan: What to draw.
        batch: Pictures or videos at a time.
    """

    mixes = False

    def __init__(self, loaded: LoadedPipeline, plan: DiffusionPlan, batch: int) -> None:
        self._loaded = loaded
        self._batch = batch
        self._arguments = arguments_of(loaded, plan, batch)
        self._log = ProgressLog()
        self._made = 0
        self._ends: list[float] = []
        self._thread = WorkThread(self._step, "the pipeline")
        self.target_in_flight: float | None = float(batch)

    def start(self) -> None:
        """Begin."""
        self._log.add(time.monotonic(), self._batch, 0, 0)
        self._thread.start()

    def _step(self) -> None:
        torch, device = self._loaded.torch, self._loaded.device
        generator = torch.Generator("cpu").manual_seed(self._made)
        try:
            with torch.inference_mode():
                self._loaded.pipeline(**self._arguments, generator=generator)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
        except torch.OutOfMemoryError as error:
            msg = f"a batch of {self._batch} does not fit into memory: {first_line(error)}"
            raise MeasurementError(msg, fix="choose a smaller batch or picture") from error
        self._made += self._batch
        end_s = time.monotonic()
        self._log.add(end_s, self._batch, self._made, self._made)
        self._ends.append(end_s)

    def progress(self) -> Progress:
        """Return everything that is known so far."""
        return self._log.read()

    def boundaries_s(self) -> Series | None:
        """Return when each batch was complete: a part of one is no output."""
        return np.array(self._ends)

    def failure(self) -> MeasurementError | None:
        """Return why the loop has ended by itself."""
        return self._thread.failure

    def stop(self) -> None:
        """End after the batch that is under way."""
        self._thread.stop()
        if self._loaded.device.type == "cuda":
            self._loaded.torch.cuda.empty_cache()

    def outputs_between(self, begin_s: float, end_s: float) -> float:
        """Return the outputs of a window of whole batches."""
        return self._log.outputs_between(begin_s, end_s)

    def done(self, begin_s: float, end_s: float) -> WorkDone:
        """Return the batches of a window."""
        ends = np.array(self._ends)
        durations = np.diff(ends[(ends >= begin_s) & (ends <= end_s)])
        outputs = self.outputs_between(begin_s, end_s)
        measured = {"completed_requests": outputs, "request_throughput_per_s": outputs / (end_s - begin_s)}
        if durations.size:
            measured["latency_mean_s"] = float(durations.mean())
            measured["latency_median_s"] = float(np.median(durations))
            measured["latency_p99_s"] = float(np.percentile(durations, 99))
        return WorkDone(outputs=outputs, measured=measured)

    def timeline(self) -> Mapping[str, object]:
        """Return when each batch was complete."""
        return {"batches": pl.DataFrame({"t_mono_s": self._ends, "batch": [self._batch] * len(self._ends)})}


def arguments_of(loaded: LoadedPipeline, plan: DiffusionPlan, batch: int) -> dict[str, Any]:
    """Return a pipeline's arguments: only those that it takes, by the names that it has for them.

    Raises:
        InputError: The pipeline takes no batch, or needs what is not known here.
    """
    takes = loaded.takes
    arguments: dict[str, Any] = {"num_inference_steps": plan.steps, "output_type": "np"}
    if "prompt" in takes:
        arguments["prompt"] = PROMPT
    if "class_labels" in takes:
        arguments["class_labels"] = [0] * batch
    else:
        sized = next((name for name in BATCH_ARGUMENTS if name in takes), None)
        if sized is None and batch > 1:
            msg = f"{type(loaded.pipeline).__name__} draws one at a time"
            raise InputError(msg, fix="--batch 1")
        if sized is not None:
            arguments[sized] = batch
    arguments |= {"height": plan.height_px, "width": plan.width_px, "num_frames": plan.frames}
    return {name: value for name, value in arguments.items() if name in takes and value is not None}


class DiffusionCampaign:
    """A diffusion pipeline in this process; a :class:`~joulemap.measure.session.campaign.Campaign`."""

    starts_engine = True

    def __init__(self, plan: DiffusionPlan) -> None:
        self._plan = plan
        self._loaded: LoadedPipeline | None = None

    def meter_request(self, request: MeterRequest) -> MeterRequest:
        """Return the request for the one GPU that the pipeline will be on, or for the CPU."""
        torch = load("torch", extra=EXTRA, needed_for=NEEDED_FOR)
        return narrowed(torch, self._plan.device, request)

    def start(self, instruments: Instruments, tell: Callable[[str], None]) -> None:
        """Load the pipeline."""
        del instruments
        tell(f"loading {self._plan.name} …")
        self._loaded = load_pipeline(self._plan)
        tell(f"{type(self._loaded.pipeline).__name__}: {self._loaded.params / PARAMS_PER_BILLION:.3g} B parameters")

    def levels(self, instruments: Instruments) -> Sequence[Level]:
        """Return one level a batch size."""
        loaded, plan = self._loaded, self._plan
        if loaded is None:
            return []
        video = "num_frames" in loaded.takes
        workload = Workload(
            task="text-to-video" if video else "text-to-image",
            output_unit=OutputUnit.VIDEO if video else OutputUnit.IMAGE,
            inference_steps=plan.steps,
            height_px=plan.height_px,
            width_px=plan.width_px,
            num_frames=plan.frames,
        )
        return [
            Level(
                name=f"batch {batch}",
                make_work=_maker(loaded, plan, batch),
                workload=replace(workload, max_concurrency=batch),
                deployment=_deployment(loaded, plan, instruments.gpu_model()),
            )
            for batch in plan.batches
        ]

    def close(self) -> None:
        """Let go of the pipeline."""
        self._loaded = None


def _maker(loaded: LoadedPipeline, plan: DiffusionPlan, batch: int) -> Callable[[], DiffusionWork]:
    return lambda: DiffusionWork(loaded, plan, batch)


def _deployment(loaded: LoadedPipeline, plan: DiffusionPlan, gpu_model: str | None) -> Deployment:
    import diffusers

    return Deployment(
        model_id=Path(plan.name).name if Path(plan.name).exists() else plan.name,
        gpu_model=gpu_model,
        num_gpus=None if gpu_model is None else 1,
        weight_precision=plan.precision,
        total_params_billions=loaded.params / PARAMS_PER_BILLION,
        torch_compile=False,
        engine="diffusers",
        engine_version=str(diffusers.__version__),
    )
