"""What a meter is: it describes its devices, and each read gives one stamped value set per device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from joulemap.clock import Clock
from joulemap.records import Basis


class DeviceKind(StrEnum):
    """What a device of a meter is; energies of different kinds are never summed silently."""

    GPU = "gpu"
    """A whole GPU board, its memory included."""
    CPU = "cpu"
    """A CPU package."""
    NPU = "npu"
    """A neural engine beside CPU and GPU."""
    DRAM = "dram"
    """Main memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterDevice:
    """One device that a meter reads."""

    device: str
    """Name of the device in readings and frames, unique in its meter: a GPU's UUID, ``"package-0"`` …"""
    kind: DeviceKind
    name: str
    """The maker's name, for example ``"NVIDIA H200"``."""
    index: int
    """Position in the meter's own order; for NVIDIA that of NVML, which is by PCI bus."""
    power_limit_w: float | None = None
    """The enforced power cap, where the device tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterDescription:
    """What a meter measures, how finely, and on what basis."""

    meter: str
    """The meter's name, for example ``"nvidia"``."""
    devices: tuple[MeterDevice, ...]
    basis: Basis
    """``measured``, or ``assumed`` for a meter that computes power from a datasheet figure."""
    counter_resolution_j: float | None = None
    """The smallest step of the energy counter; ``None`` where there is no counter."""
    counter_period_s: float = 0.0
    """How often the energy counter is brought up to date; a read in between repeats."""
    power_delay_s: float = 0.0
    """How long the device may take until ``power_w`` shows a change."""
    relative_interval: tuple[float, float] | None = None
    """Factors that turn any energy or power of this meter into its 90 % interval, where the meter knows them."""
    notes: tuple[str, ...] = ()
    """What a careful reader must know: fallbacks taken, fields that this device lacks."""

    @property
    def device_names(self) -> tuple[str, ...]:
        """The devices' names, in order."""
        return tuple(d.device for d in self.devices)

    @property
    def summary(self) -> str:
        """The devices by their makers' names, for people: ``"8 × NVIDIA H200"``."""
        names = [d.name for d in self.devices]
        return ", ".join(f"{names.count(n)} × {n}" if names.count(n) > 1 else n for n in dict.fromkeys(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """What a meter read off one device; what it could not read is ``None``, with a reason in ``missing``."""

    device: str
    energy_j: float | None = None
    """The energy counter; its zero means nothing, only differences do. It is in few readings if it is slow."""
    power_w: float | None = None
    """The most instantaneous power that the device tells."""
    power_average_w: float | None = None
    """Power averaged by the device itself, over about a second."""
    module_power_w: float | None = None
    memory_power_w: float | None = None
    sm_clock_hz: float | None = None
    """Clock of the GPU's multiprocessors; of a CPU, of its cores."""
    memory_clock_hz: float | None = None
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    utilization: float | None = None
    """Share of time in which anything at all ran: 1 does not mean that the device was used well."""
    memory_utilization: float | None = None
    """Share of time in which device memory was read or written."""
    throttle: str = ""
    """What holds the clocks down, joined with ``+``; empty for nothing."""
    missing: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Why a field is ``None``, by its name."""


RowT_co = TypeVar("RowT_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Generic[RowT_co]):
    """One read of a source: the stamps, and a row per device."""

    wall: datetime
    """UTC-aware stamp, for alignment with other logs."""
    mono_s: float
    """Monotonic stamp, for durations; it does not jump when the wall clock is set."""
    rows: tuple[RowT_co, ...]


MeterReading = Reading[DeviceReading]


class Source(Protocol[RowT_co]):
    """Anything that a sampler can read again and again: a meter, GPU activity, engine telemetry."""

    def read(self) -> Reading[RowT_co]:
        """Read all devices once.

        Raises:
            MeasurementError: The source has stopped for good.
        """
        ...

    def close(self) -> None:
        """Give back what the source holds; a second call does nothing."""
        ...


class Meter(Source[DeviceReading], Protocol):
    """A power or energy meter."""

    def describe(self) -> MeterDescription:
        """Return what this meter measures."""
        ...


class Stopwatch:
    """Stamps a read at the middle of the time that it took."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall = clock.now()
        self._mono_s = clock.monotonic_s()

    def stamp(self, rows: tuple[RowT_co, ...]) -> Reading[RowT_co]:
        """Return the rows with the stamps of the read that began when this stopwatch was made."""
        half_s = 0.5 * (self._clock.monotonic_s() - self._mono_s)
        return Reading(wall=self._wall + timedelta(seconds=half_s), mono_s=self._mono_s + half_s, rows=rows)
