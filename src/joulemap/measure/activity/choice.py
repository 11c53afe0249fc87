"""Choosing where GPU activity is read: GPM where the GPUs have it, else a dcgm-exporter that was named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pynvml

from joulemap.clock import Clock
from joulemap.errors import EnvironmentLacksError
from joulemap.measure.activity.activity import ActivitySource
from joulemap.measure.activity.dcgm import DcgmActivity
from joulemap.measure.activity.gpm import GpmActivity


def choose_activity(
    *,
    gpus: Sequence[str] | None = None,
    dcgm_url: str | None = None,
    environment: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    nvml: Any = pynvml,
) -> tuple[ActivitySource | None, str]:
    """Return a source of GPU activity, or ``None``; and why.

    Args:
        gpus: GPUs by NVML index or UUID; by default those that the environment leaves visible.
        dcgm_url: A dcgm-exporter; where it is named, it is used rather than GPM, for the two would contend.
        environment: The process environment, ``os.environ`` by default.
        clock: Time for the stamps.
        nvml: The NVML bindings; a test gives a fake.

    Raises:
        EnvironmentLacksError: The dcgm-exporter that was named is of no use.
        MeterError: The GPUs are such that a neighbour's activity might be read.
    """
    if dcgm_url is not None:
        return DcgmActivity(dcgm_url, gpus=gpus, clock=clock), "dcgm: asked for"
    try:
        return GpmActivity(nvml, gpus=gpus, environment=environment, clock=clock), "gpm: supported"
    except EnvironmentLacksError as error:
        return None, f"gpm: {error.message}"
