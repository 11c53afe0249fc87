"""CPU power guessed from utilisation and a stated TDP. It never poses as measured: its basis is ``assumed``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Protocol

import psutil

from joulemap.clock import Clock, SystemClock
from joulemap.errors import UsageError
from joulemap.measure.meters.meter import (
    DeviceKind,
    DeviceReading,
    MeterDescription,
    MeterDevice,
    MeterReading,
    Stopwatch,
)
from joulemap.records import Basis

DEVICE = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedTdp:
    """A TDP, with the range in which it may lie."""

    tdp_w: float
    low_w: float
    high_w: float
    origin: str
    """Where it comes from, as shown to people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Seconds that all CPUs together have spent since boot."""

    busy_s: float
    total_s: float


class CpuTimesReader(Protocol):
    """Reads the CPUs' times; a test gives its own."""

    def __call__(self) -> CpuTimes:
        """Return the times since boot."""
        ...


class AssumedMeter:
    """Power = utilisation × TDP, energy its sum; an assumption, with the range of the TDP as its interval.

    Utilisation counts every process of the machine, the load client's too. Idle power, memory and whatever else
    the machine draws are not in it.

    Args:
        tdp_w: The CPUs' TDP, where the user states one; by default what server and desktop processors have per
            hardware thread, times the threads here.
        clock: Time for the stamps.
        times: The reader of the CPUs' times.

    Raises:
        UsageError: The TDP is not positive.
    """

    def __init__(
        self, tdp_w: float | None = None, *, clock: Clock | None = None, times: CpuTimesReader | None = None
    ) -> None:
        if tdp_w is not None and not 0 < tdp_w < float("inf"):
            msg = f"a TDP must be a positive number of watts, not {tdp_w!r}"
            raise UsageError(msg)
        threads = psutil.cpu_count(logical=True) or 1
        if tdp_w is None:
            self.tdp = assumed_tdp(threads)
        else:
            self.tdp = AssumedTdp(
                tdp_w=tdp_w, low_w=0.5 * tdp_w, high_w=tdp_w, origin=f"a stated TDP of {tdp_w:g} W"
            )
        self._threads = threads
        self._clock = clock or SystemClock()
        self._times = times or machine_times
        self._last = self._times()
        self._energy_j = 0.0
        self._last_s = self._clock.monotonic_s()

    def describe(self) -> MeterDescription:
        """Return the one device, all CPUs together, and what was assumed."""
        tdp = self.tdp
        return MeterDescription(
            meter="assumed",
            devices=(MeterDevice(device=DEVICE, kind=DeviceKind.CPU, name=f"{self._threads} CPUs", index=0),),
            basis=Basis.ASSUMED,
            counter_resolution_j=0.01 * tdp.tdp_w / self._threads,
            counter_period_s=0.01,
            relative_interval=(tdp.low_w / tdp.tdp_w, tdp.high_w / tdp.tdp_w),
            notes=(f"assumed, not measured: CPU utilisation × {tdp.origin}",),
        )

    def read(self) -> MeterReading:
        """Return power and energy since the meter was made, both assumed."""
        watch = Stopwatch(self._clock)
        times, now_s = self._times(), self._clock.monotonic_s()
        total_s = times.total_s - self._last.total_s
        busy_s = times.busy_s - self._last.busy_s
        if total_s <= 0 or now_s <= self._last_s:
            reason = "no CPU time has passed since the read before"
            missing = {"power_w": reason, "utilization": reason}
            return watch.stamp((DeviceReading(device=DEVICE, energy_j=self._energy_j, missing=missing),))
        share = min(1.0, max(0.0, busy_s / total_s))
        power_w = share * self.tdp.tdp_w
        self._energy_j += power_w * (now_s - self._last_s)
        self._last, self._last_s = times, now_s
        return watch.stamp(
            (DeviceReading(device=DEVICE, energy_j=self._energy_j, power_w=power_w, utilization=share),)
        )

    def close(self) -> None:
        """Nothing is held open."""


def machine_times() -> CpuTimes:
    """Return the machine's CPU times; time that a hypervisor took away or that waited for disks is not busy."""
    told = psutil.cpu_times()
    idle_s = told.idle + getattr(told, "iowait", 0.0) + getattr(told, "steal", 0.0)
    # Guest time is part of user time on Linux, so it is not added again.
    fields = ("user", "nice", "system", "irq", "softirq")
    busy_s = sum(getattr(told, name, 0.0) for name in fields)
    return CpuTimes(busy_s=busy_s, total_s=busy_s + idle_s)


def assumed_tdp(threads: int) -> AssumedTdp:
    """Return the TDP to assume for a machine with so many hardware threads: median and range of the catalog's."""
    shares = sorted(w / t for w, t in _catalog_cpus().values())
    low, middle, high = (n * threads for n in (shares[0], shares[len(shares) // 2], shares[-1]))
    origin = f"{middle:.1f} W, the median of {len(shares)} processors' TDP per hardware thread × {threads} threads"
    return AssumedTdp(tdp_w=middle, low_w=low, high_w=high, origin=origin)


@cache
def _catalog_cpus() -> dict[str, tuple[float, int]]:
    """Return TDP and hardware threads of the catalog's processors."""
    file = resources.files("joulemap.catalog") / "data" / "cpus.toml"
    told = tomllib.loads(file.read_text(encoding="utf-8"))
    return {name: (float(cpu["tdp_w"]), int(cpu["threads"])) for name, cpu in told["cpus"].items()}
