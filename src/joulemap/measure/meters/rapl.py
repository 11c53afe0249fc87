"""CPU packages and main memory, by the energy counters that Linux's powercap framework exposes (RAPL).

Source: the kernel's documentation, "Power Capping Framework" (``energy_uj``, ``max_energy_range_uj``); that the
counters are readable by root alone since 2020: CVE-2020-8694. AMD processors appear under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from joulemap.clock import Clock, SystemClock
from joulemap.errors import EnvironmentLacksError, MeterError
from joulemap.measure.meters.meter import (
    DeviceKind,
    DeviceReading,
    MeterDescription,
    MeterDevice,
    MeterReading,
    Stopwatch,
)
from joulemap.records import Basis
from joulemap.units import J_PER_UJ

POWERCAP = Path("/sys/class/powercap")
COUNTER_PERIOD_S = 0.001
"""RAPL counters are brought up to date about every millisecond (Intel SDM volume 3B, 15.10)."""
FIX = "sudo chmod -R a+r /sys/class/powercap/intel-rapl*   (until the next boot)"


@dataclass(slots=True)
class _Zone:
    """One counter, unwrapped."""

    device: str
    kind: DeviceKind
    file: Path
    range_uj: int
    last_uj: int
    total_uj: int = 0
    last_s: float = 0.0


class RaplMeter:
    """Reads every CPU package and its DRAM; parts of a package (cores, uncore) and ``psys`` are left out.

    The counter wraps at ``max_energy_range_uj``, which takes minutes at full power; a wrap between two reads is
    made good, more than one cannot be seen.

    Args:
        root: The powercap folder; a test gives its own.
        clock: Time for the stamps.

    Raises:
        EnvironmentLacksError: No RAPL on this machine, or this user may not read it.
    """

    def __init__(self, root: Path = POWERCAP, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._zones = _find_zones(root)

    def describe(self) -> MeterDescription:
        """Return packages and memories."""
        devices = tuple(
            MeterDevice(device=z.device, kind=z.kind, name=z.device, index=i) for i, z in enumerate(self._zones)
        )
        return MeterDescription(
            meter="rapl",
            devices=devices,
            basis=Basis.MEASURED,
            counter_resolution_j=J_PER_UJ,
            counter_period_s=COUNTER_PERIOD_S,
        )

    def read(self) -> MeterReading:
        """Read every counter once; power is the mean since the read before.

        Raises:
            MeterError: A counter can no longer be read.
        """
        watch = Stopwatch(self._clock)
        return watch.stamp(tuple(self._read_zone(zone) for zone in self._zones))

    def close(self) -> None:
        """Nothing is held open."""

    def _read_zone(self, zone: _Zone) -> DeviceReading:
        try:
            now_uj = _number(zone.file)
        except (OSError, ValueError) as error:
            msg = f"the energy counter of {zone.device} cannot be read any more: {error}"
            raise MeterError(msg, fix=FIX) from error
        now_s = self._clock.monotonic_s()
        step_uj = now_uj - zone.last_uj
        if step_uj < 0:
            step_uj += zone.range_uj
        zone.total_uj += step_uj
        power_w, missing = None, {"power_w": "power is the mean since the read before; this is the first"}
        if zone.last_s and now_s > zone.last_s:
            power_w, missing = step_uj * J_PER_UJ / (now_s - zone.last_s), {}
        zone.last_uj, zone.last_s = now_uj, now_s
        return DeviceReading(
            device=zone.device, energy_j=zone.total_uj * J_PER_UJ, power_w=power_w, missing=missing
        )


def _find_zones(root: Path) -> tuple[_Zone, ...]:
    # intel-rapl-mmio repeats the packages of intel-rapl: taking both would count them twice.
    folders = sorted(p for p in root.glob("intel-rapl:*") if (p / "energy_uj").exists())
    zones = []
    for folder in folders:
        name = (folder / "name").read_text().strip()
        package = folder.name.split(":")[1]
        if name.startswith("package"):
            device, kind = name, DeviceKind.CPU
        elif name == "dram":
            device, kind = f"dram-{package}", DeviceKind.DRAM
        else:
            continue
        file = folder / "energy_uj"
        try:
            zones.append(
                _Zone(
                    device=device,
                    kind=kind,
                    file=file,
                    range_uj=_number(folder / "max_energy_range_uj"),
                    last_uj=_number(file),
                )
            )
        except PermissionError as error:
            msg = f"{file} may be read by root alone"
            raise EnvironmentLacksError(msg, fix=FIX) from error
        except (OSError, ValueError) as error:
            msg = f"{file} cannot be read: {error}"
            raise EnvironmentLacksError(msg, fix=f"cat {file}") from error
    if not zones:
        msg = f"no RAPL counters in {root}: a virtual machine, or a processor or system without them"
        raise EnvironmentLacksError(msg, fix="measure on the host, or use the assumed meter: --meter assumed")
    return tuple(zones)


def _number(file: Path) -> int:
    return int(file.read_text())
