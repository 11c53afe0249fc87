"""Opening what watches a session: this machine's meters, and its GPUs' activity counters where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from joulemap.clock import Clock
from joulemap.measure.activity.activity import ACTIVITY_RATE_HZ, DeviceActivity
from joulemap.measure.activity.choice import choose_activity
from joulemap.measure.meters.choice import MeterChoice, MeterOptions, choose_meters, meter_openers
from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.session.instruments import ACTIVITY, METER_RATE_HZ, Instruments, Watched

CPU_METERS = frozenset({"rapl", "assumed"})
"""Meters of what the CPUs do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRequest:
    """Which meters a session wants."""

    names: tuple[str, ...] = ()
    """By name; none means those that the machine has."""
    options: MeterOptions = field(default_factory=MeterOptions)
    work_kind: DeviceKind | None = None
    """What does the work; ``None`` means the GPUs if there are any."""
    dcgm_url: str | None = None
    """A dcgm-exporter to read GPU activity from, in place of GPM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How often sources are read, and how long readings are kept."""

    meter_rate_hz: float = METER_RATE_HZ
    activity_rate_hz: float = ACTIVITY_RATE_HZ
    keep_s: float | None = None
    """``None`` keeps all."""


def choose(request: MeterRequest) -> MeterChoice:
    """Open the meters; work on the CPU is not measured on GPUs that stand beside it.

    Raises:
        JoulemapError: A meter cannot be opened.
    """
    if request.names or request.work_kind is not DeviceKind.CPU:
        return choose_meters(request.names, request.options)
    known = {name: opener for name, opener in meter_openers().items() if name in CPU_METERS}
    return choose_meters(options=request.options, openers=known)


@contextmanager
def instruments(
    request: MeterRequest, *, clock: Clock | None = None, sampling: Sampling | None = None
) -> Iterator[tuple[Instruments, tuple[str, ...]]]:
    """Open, start, stop and close everything that watches; gives the instruments and a line about each source.

    Raises:
        JoulemapError: A meter cannot be opened or read.
    """
    choice = choose(request)
    lines = list(choice.explanation)
    pace = sampling or Sampling()
    activity = None
    try:
        own = Instruments(
            choice.meters,
            work_kind=request.work_kind,
            rate_hz=pace.meter_rate_hz,
            clock=clock,
            keep_s=pace.keep_s,
        )
        if own.work_kind is DeviceKind.GPU:
            activity, why = choose_activity(gpus=_measured_gpus(choice, request), dcgm_url=request.dcgm_url)
            lines.append(f"activity {why}")
        with own:
            if activity is not None:
                own.watch(
                    Watched(name=ACTIVITY, source=activity, row_type=DeviceActivity, rate_hz=pace.activity_rate_hz)
                )
            yield own, tuple(lines)
    finally:
        if activity is not None:
            activity.close()
        choice.close()


def _measured_gpus(choice: MeterChoice, request: MeterRequest) -> tuple[str, ...] | None:
    """Return the UUIDs of the GPUs that NVIDIA's meter reads, so that activity is that of the same ones."""
    for meter in choice.meters:
        description = meter.describe()
        if description.meter == "nvidia":
            return description.device_names
    return request.options.gpus
