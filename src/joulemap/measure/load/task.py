"""A task by its name: what is asked of a model, with the lengths and pictures that the catalog knows."""

from __future__ import annotations

import math

from joulemap.catalog import load_catalog
from joulemap.errors import UnknownNameError, UsageError
from joulemap.measure.load.lengths import LogNormalLength
from joulemap.measure.load.pictures import Pictures
from joulemap.records import Modality, Workload

SYNTHETIC_TASK = "synthetic"


def task_workload(name: str | None) -> Workload:
    """Return a task's workload, with the catalog's lengths where it has the task."""
    if name is None:
        return Workload(task=SYNTHETIC_TASK)
    try:
        task = load_catalog().task(name)
    except UnknownNameError:
        return Workload(task=name)
    return Workload(
        task=task.id,
        input_modality=Modality(task.input_modality),
        mean_input_tokens=None if task.input_lengths is None else task.input_lengths.mean_tokens,
        mean_output_tokens=None if task.output_lengths is None else task.output_lengths.mean_tokens,
    )


def task_pictures(workload: Workload) -> Pictures | None:
    """Return the pictures that a task's requests hold, ``None`` for those of text.

    Raises:
        UsageError: The task's requests hold videos, whose length is not known.
    """
    if workload.input_modality is Modality.VIDEO:
        msg = f"the requests of {workload.task} hold videos, whose lengths the catalog does not have"
        raise UsageError(msg, fix="state it with --video-frames, or give the requests with --dataset FILE")
    if workload.input_modality is Modality.TEXT or workload.task is None:
        return None
    return Pictures(images=max(1, load_catalog().task(workload.task).images_per_request))


def reply_lengths(workload: Workload, mean_tokens: float) -> LogNormalLength:
    """Return log-normal replies of a mean, as uneven as those of the workload's task are known to be.

    The ratio of mean to median sets the spread; no reply is longer than the task's 99th percentile, since one that
    holds its place for minutes would decide how long a measurement has to be.
    """
    try:
        known = None if workload.task is None else load_catalog().task(workload.task).output_lengths
    except UnknownNameError:
        known = None
    if known is None or known.median_tokens is None or known.p99_tokens is None:
        return LogNormalLength(mean_tokens=mean_tokens)
    variation = math.sqrt(max((known.mean_tokens / known.median_tokens) ** 2 - 1.0, 0.0))
    longest = known.p99_tokens * mean_tokens / known.mean_tokens
    return LogNormalLength(mean_tokens=mean_tokens, variation=variation, max_tokens=round(longest))
