"""What the options of ``joulemap measure`` mean for a server and for the embedded engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from joulemap.cli.measure_options import LoadOptions, MeasureRequest, numbers_of, whole_numbers
from joulemap.errors import UnknownNameError, UsageError
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.pictures import Pictures
from joulemap.measure.load.plan import Arrivals, ClosedLoop, OpenLoop
from joulemap.measure.load.prompts import DatasetPrompts, ImagePrompts, Prompts, SyntheticPrompts, prompts_for
from joulemap.measure.load.target import Endpoint, Target
from joulemap.measure.load.task import SYNTHETIC_TASK, task_pictures, task_workload
from joulemap.measure.load.trace import RequestTrace, read_trace
from joulemap.measure.session.embedded import EmbeddedCampaign, EmbeddedPlan
from joulemap.measure.session.server import ServerCampaign, ServerPlan, image_workload
from joulemap.records import Modality, Workload

ENDPOINTS = {"chat": Endpoint.CHAT, "completions": Endpoint.COMPLETIONS, "images": Endpoint.IMAGES}
CONCURRENCY = "8,16,32"
EMBEDDED_CONCURRENCY = "1,4,8"
EMBEDDED_INPUT_TOKENS = 100
EMBEDDED_OUTPUT_TOKENS = 64
ROOM_TOKENS = 64
"""Context beyond prompt and reply, for what a chat template adds."""


def server_campaign(request: MeasureRequest) -> ServerCampaign:
    """Return what a request asks of a server.

    Raises:
        UsageError: The options contradict each other.
    """
    load, server = request.load, request.server
    if load.endpoint not in ENDPOINTS:
        raise UnknownNameError(kind="endpoint", name=load.endpoint, known=ENDPOINTS)
    target = Target(
        url=request.url or "",
        model=server.model or "",
        endpoint=ENDPOINTS[load.endpoint],
        api_key_env=server.api_key_env,
    )
    trace = None if load.trace is None else read_trace(Path(load.trace))
    workload, prompts = asked(
        load, target.endpoint, trace, size_px=(request.in_process.width, request.in_process.height)
    )
    return ServerCampaign(
        ServerPlan(
            target=target,
            workload=workload,
            arrivals=arrivals(load, trace, CONCURRENCY),
            prompts=prompts,
            workers=load.workers,
            metrics_url=server.metrics_url,
            deployment=server.stated(),
        )
    )


def embedded_campaign(request: MeasureRequest) -> EmbeddedCampaign:
    """Return what a request asks of the embedded engine."""
    load = request.load
    if load.endpoint != "chat" or load.dataset is not None or load.trace is not None or load.rate is not None:
        msg = "the embedded engine answers synthetic chats at fixed concurrencies only"
        raise UsageError(msg, fix="give the URL of a server")
    input_tokens = load.input_tokens or EMBEDDED_INPUT_TOKENS
    output_tokens = load.output_tokens or EMBEDDED_OUTPUT_TOKENS
    return EmbeddedCampaign(
        EmbeddedPlan(
            workload=Workload(task=load.task or SYNTHETIC_TASK),
            arrivals=arrivals(load, None, EMBEDDED_CONCURRENCY),
            prompts=SyntheticPrompts(
                input_tokens=FixedLength(input_tokens), output_tokens=FixedLength(output_tokens)
            ),
            context_tokens=input_tokens + output_tokens + ROOM_TOKENS,
            gguf=None if request.server.gguf is None else Path(request.server.gguf),
        )
    )


def arrivals(load: LoadOptions, trace: RequestTrace | None, default: str) -> tuple[Arrivals, ...]:
    """Return the levels: concurrencies, rates, or the trace.

    Raises:
        UsageError: More than one of them was given.
    """
    given = [name for name in ("concurrency", "rate", "trace") if getattr(load, name) is not None]
    if len(given) > 1:
        msg = f"--{given[0]} and --{given[1]} state two different loads"
        raise UsageError(msg, fix="give one of --concurrency, --rate and --trace")
    if trace is not None:
        return (trace.replay(),)
    if load.rate is not None:
        rates = numbers_of(load.rate, "--rate")
        return tuple(OpenLoop(rate_per_s=rate, variation=load.rate_variation) for rate in rates)
    numbers = whole_numbers(load.concurrency or default, "--concurrency")
    return tuple(ClosedLoop(concurrency=n) for n in numbers)


def asked(
    load: LoadOptions,
    endpoint: Endpoint,
    trace: RequestTrace | None,
    *,
    size_px: tuple[int | None, int | None] = (None, None),
) -> tuple[Workload, Prompts]:
    """Return the workload and its prompts: a trace's, a dataset's, a task's, or of the stated lengths."""
    if endpoint is Endpoint.IMAGES:
        if load.video_frames is not None:
            msg = "--endpoint images takes no --video-frames"
            raise UsageError(msg, fix="leave one of them out")
        images = ImagePrompts(images_per_request=load.images or 1)
        images = replace(images, width_px=size_px[0] or images.width_px, height_px=size_px[1] or images.height_px)
        return image_workload(images), images
    if load.dataset is not None:
        return Workload(task=load.task or Path(load.dataset).stem), DatasetPrompts(path=Path(load.dataset))
    if trace is not None:
        return Workload(task=load.task or "trace"), trace.prompts()
    workload = task_workload(load.task)
    if load.images is not None or load.video_frames is not None:
        pictures: Pictures | None = Pictures(images=load.images or 0, video_frames=load.video_frames or 0)
        workload = replace(workload, input_modality=Modality.VIDEO if load.video_frames else Modality.IMAGE)
    else:
        pictures = task_pictures(workload)
    if pictures is not None:
        pictures = replace(
            pictures, width_px=size_px[0] or pictures.width_px, height_px=size_px[1] or pictures.height_px
        )
    prompts = prompts_for(workload, pictures=pictures)
    if load.input_tokens is not None:
        prompts = replace(prompts, input_tokens=FixedLength(load.input_tokens))
    if load.output_tokens is not None:
        prompts = replace(prompts, output_tokens=FixedLength(load.output_tokens))
    return workload, prompts
