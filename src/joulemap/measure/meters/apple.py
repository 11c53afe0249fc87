"""Apple silicon, by ``zeus-apple-silicon``: CPU, GPU, Neural Engine and DRAM energies of the IOReport framework.

Apple derives these energies from a model of utilisation, frequency and voltage; ``powermetrics`` says that they
"may be inaccurate". Their basis is therefore ``modelled``, not ``measured``.
"""

from __future__ import annotations

import platform
from typing import Any

from joulemap.clock import Clock, SystemClock
from joulemap.errors import EnvironmentLacksError, MeterError, MissingExtraError
from joulemap.measure.meters.meter import (
    DeviceKind,
    DeviceReading,
    MeterDescription,
    MeterDevice,
    MeterReading,
    Stopwatch,
)
from joulemap.records import Basis
from joulemap.units import J_PER_MJ

PARTS: tuple[tuple[str, DeviceKind, tuple[str, ...], str], ...] = (
    ("gpu", DeviceKind.GPU, ("gpu_mj", "gpu_sram_mj"), "on-chip GPU"),
    ("cpu", DeviceKind.CPU, ("cpu_total_mj",), "all CPU cores"),
    ("neural-engine", DeviceKind.NPU, ("ane_mj",), "Apple Neural Engine"),
    ("dram", DeviceKind.DRAM, ("dram_mj",), "memory"),
)
"""Device, kind, the counters that make it up, name."""
COUNTER_PERIOD_S = 0.01


class AppleMeter:
    """Reads the energies of an Apple chip's parts; power is the mean since the read before.

    Args:
        monitor: The library's monitor; a test gives a fake.
        clock: Time for the stamps.

    Raises:
        EnvironmentLacksError: Not a Mac with Apple silicon.
        MissingExtraError: The library is not installed.
    """

    def __init__(self, monitor: Any = None, *, clock: Clock | None = None) -> None:
        self._monitor = monitor if monitor is not None else load_monitor()
        self._clock = clock or SystemClock()
        told = self._told()
        self._parts = tuple(p for p in PARTS if _energy_j(told, p[2]) is not None)
        if not self._parts:
            msg = "this Mac tells no energies"
            raise EnvironmentLacksError(msg, fix="sudo powermetrics --samplers cpu_power,gpu_power -n 1")
        self._last: dict[str, tuple[float, float]] = {}

    def describe(self) -> MeterDescription:
        """Return the chip's parts."""
        devices = tuple(
            MeterDevice(device=name, kind=kind, name=title, index=i)
            for i, (name, kind, _, title) in enumerate(self._parts)
        )
        return MeterDescription(
            meter="apple",
            devices=devices,
            basis=Basis.MODELLED,
            counter_resolution_j=J_PER_MJ,
            counter_period_s=COUNTER_PERIOD_S,
            notes=("Apple's energies come from a model of the chip, not from a sensor",),
        )

    def read(self) -> MeterReading:
        """Read every part once.

        Raises:
            MeterError: The framework does not answer any more.
        """
        watch = Stopwatch(self._clock)
        told, now_s = self._told(), self._clock.monotonic_s()
        return watch.stamp(tuple(self._read_part(told, name, fields, now_s) for name, _, fields, _ in self._parts))

    def close(self) -> None:
        """Nothing is held open."""

    def _told(self) -> Any:
        try:
            return self._monitor.get_cumulative_energy()
        except RuntimeError as error:
            msg = f"Apple's IOReport framework does not answer: {error}"
            raise MeterError(msg) from error

    def _read_part(self, told: Any, name: str, fields: tuple[str, ...], now_s: float) -> DeviceReading:
        energy_j = _energy_j(told, fields)
        if energy_j is None:
            return DeviceReading(device=name, missing={"energy_j": "the chip left it out", "power_w": "no energy"})
        power_w, missing = None, {"power_w": "power is the mean since the read before; this is the first"}
        if name in self._last and now_s > self._last[name][1]:
            before_j, before_s = self._last[name]
            power_w, missing = max(0.0, energy_j - before_j) / (now_s - before_s), {}
        self._last[name] = (energy_j, now_s)
        return DeviceReading(device=name, energy_j=energy_j, power_w=power_w, missing=missing)


def _energy_j(told: Any, fields: tuple[str, ...]) -> float | None:
    known = [value for f in fields if (value := getattr(told, f, None)) is not None]
    return sum(known) * J_PER_MJ if known else None


def load_monitor() -> Any:
    """Open the library's monitor.

    Raises:
        EnvironmentLacksError: Not a Mac with Apple silicon.
        MissingExtraError: The library is not installed.
    """
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        msg = f"the Apple meter needs a Mac with Apple silicon; this is {platform.system()} on {platform.machine()}"
        raise EnvironmentLacksError(msg)
    try:
        from zeus_apple_silicon import AppleEnergyMonitor
    except ImportError as error:
        raise MissingExtraError(extra="apple", needed_for="the Apple meter", module="zeus_apple_silicon") from error
    return AppleEnergyMonitor()
