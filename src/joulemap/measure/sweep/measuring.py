"""Measuring one configuration in this process: its engine is started, loaded, and stopped again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from joulemap.errors import MeasurementError
from joulemap.measure.engines.engine import Serving
from joulemap.measure.engines.launched import Container, free_port
from joulemap.measure.engines.registry import EMBEDDED, engine_named
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.plan import ClosedLoop
from joulemap.measure.load.prompts import SyntheticPrompts, prompts_for
from joulemap.measure.load.target import Target
from joulemap.measure.load.task import task_pictures, task_workload
from joulemap.measure.meters.choice import MeterOptions
from joulemap.measure.session.campaign import Campaign, Orders, conduct
from joulemap.measure.session.embedded import EmbeddedCampaign, EmbeddedPlan
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.journal import Journal
from joulemap.measure.session.launched import LaunchedCampaign, LaunchedPlan
from joulemap.measure.session.opening import MeterRequest
from joulemap.measure.session.server import ServerPlan
from joulemap.measure.session.session import Observer
from joulemap.measure.sweep.job import Job
from joulemap.measure.sweep.spec import Configuration
from joulemap.records import Run
from joulemap.store.run_store import RunStore

ROOM_TOKENS = 64
"""Context of the embedded engine beyond prompt and reply, for what a chat template adds."""
EMBEDDED_INPUT_TOKENS = 100
EMBEDDED_OUTPUT_TOKENS = 64
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Where executors and schedulers state which GPUs a job owns."""


def measure_job(
    job: Job, store: RunStore, make_observer: Callable[[Instruments], Observer], tell: Callable[[str], None]
) -> Run:
    """Measure a configuration, store its run, and return it.

    Args:
        job: The configuration.
        store: Where run and timelines go.
        make_observer: Makes the live view.
        tell: Takes lines about what is done.

    Raises:
        JoulemapError: The configuration gave no run.
        KeyboardInterrupt: The process was asked to end.
    """
    orders = Orders(
        store=store,
        pace=job.pace,
        meters=MeterRequest(
            names=job.meters.names, options=MeterOptions(tdp_w=job.meters.tdp_w), dcgm_url=job.meters.dcgm_url
        ),
        journal=Journal(store.sessions_folder),
        window_stated=job.window_stated,
    )
    try:
        result = conduct(campaign_of(job), orders, make_observer, tell)
    finally:
        orders.journal.close()
    if result.interrupted:
        raise KeyboardInterrupt
    if result.error is not None:
        raise result.error
    if not result.runs:
        why = "; ".join(result.without_run.values()) or "nothing was measured"
        raise MeasurementError(why)
    (run,) = result.runs
    _check_gpu(job.configuration, run)
    return run


def _check_gpu(asked: Configuration, run: Run) -> None:
    """Refuse a run that was measured on GPUs other than those that were asked for."""
    found = run.deployment.gpu_model
    if asked.gpu is not None and found is not None and found != asked.gpu:
        msg = f"the node's GPUs are {found}, not {asked.gpu}: it offers a GPU type that it does not have"
        raise MeasurementError(msg, fix="start the node with --resources that name its own GPU model")


def campaign_of(job: Job) -> Campaign:
    """Return what a job measures.

    Raises:
        JoulemapError: The engine or the task is unknown here.
    """
    asked = job.configuration
    return _embedded(asked) if asked.engine == EMBEDDED else _launched(job)


def _embedded(asked: Configuration) -> Campaign:
    input_tokens = asked.input_tokens or EMBEDDED_INPUT_TOKENS
    output_tokens = asked.output_tokens or EMBEDDED_OUTPUT_TOKENS
    return EmbeddedCampaign(
        EmbeddedPlan(
            workload=replace(task_workload(asked.task), mean_input_tokens=None, mean_output_tokens=None),
            arrivals=(ClosedLoop(concurrency=asked.batch),),
            prompts=SyntheticPrompts(
                input_tokens=FixedLength(input_tokens), output_tokens=FixedLength(output_tokens)
            ),
            context_tokens=input_tokens + output_tokens + ROOM_TOKENS,
        )
    )


def _launched(job: Job) -> Campaign:
    asked, launch = job.configuration, job.launch
    port = free_port()
    engine = engine_named(asked.engine, launch.command)
    inside = launch.how == "container"
    command = engine.command(
        Serving(
            model=asked.served,
            port=port,
            # A container's loopback interface is its own; the port is published on ours.
            host="0.0.0.0" if inside else "127.0.0.1",
            tensor_parallel=asked.count,
            expert_parallel=asked.expert_parallel,
            max_num_seqs=asked.batch,
            precision=asked.precision,
            max_model_len=launch.max_model_len,
            arguments=asked.arguments,
        )
    )
    workload = task_workload(asked.task)
    prompts = prompts_for(workload, pictures=task_pictures(workload))
    if asked.input_tokens is not None:
        prompts = replace(prompts, input_tokens=FixedLength(asked.input_tokens))
    if asked.output_tokens is not None:
        prompts = replace(prompts, output_tokens=FixedLength(asked.output_tokens))
    passed = {name: os.environ[name] for name in launch.pass_environment if name in os.environ}
    return LaunchedCampaign(
        LaunchedPlan(
            command=tuple(command),
            port=port,
            ready_within_s=launch.ready_within_s,
            environment={**passed, **asked.environment},
            container=_container(job) if inside else None,
            server=ServerPlan(
                target=Target(url=f"http://127.0.0.1:{port}", model=""),
                workload=workload,
                arrivals=(ClosedLoop(concurrency=asked.batch),),
                prompts=prompts,
                deployment=_stated(asked, uses_gpus=engine.uses_gpus),
            ),
        )
    )


def _container(job: Job) -> Container:
    gpus = tuple(g for g in os.environ.get(VISIBLE, "").split(",") if g)
    launch = job.launch
    return Container(image=job.configuration.image or "", runtime=launch.runtime, mounts=launch.mounts, gpus=gpus)


def _stated(asked: Configuration, *, uses_gpus: bool) -> dict[str, object]:
    """Return what the sweep knows of the deployment; the GPU model is read from the GPUs themselves."""
    stated: dict[str, object] = {
        "model_id": asked.served,
        "weight_precision": asked.precision,
        "max_num_seqs": asked.batch,
    }
    if uses_gpus:
        stated |= {
            "num_gpus": asked.count,
            "tensor_parallel": asked.count,
            "expert_parallel": asked.count if asked.expert_parallel else None,
        }
    return stated
