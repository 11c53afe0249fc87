"""Fakes of hardware interfaces other than NVML, for the meters' tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from joulemap.measure.meters.assumed import CpuTimes
from tests.measure.hand_clock import HandClock


def powercap_tree(root: Path) -> Path:
    """Two packages with DRAM, a core zone, psys, and the mmio double of the first package."""
    zones = {
        "intel-rapl:0": ("package-0", 100_000_000),
        "intel-rapl:0:0": ("core", 50_000_000),
        "intel-rapl:0:1": ("dram", 7_000_000),
        "intel-rapl:1": ("package-1", 200_000_000),
        "intel-rapl:2": ("psys", 900_000_000),
        "intel-rapl-mmio:0": ("package-0", 100_000_000),
    }
    for folder, (name, energy_uj) in zones.items():
        (root / folder).mkdir()
        (root / folder / "name").write_text(name + "\n")
        (root / folder / "energy_uj").write_text(f"{energy_uj}\n")
        (root / folder / "max_energy_range_uj").write_text("262143328850\n")
    return root


def advance_powercap(root: Path, seconds_s: float, watts: float = 100.0) -> None:
    """Let every zone draw power for some seconds."""
    for file in root.glob("intel-rapl*/energy_uj"):
        file.write_text(f"{(int(file.read_text()) + round(watts * seconds_s * 1e6)) % 262143328850}\n")


class FakeCpuTimes:
    """CPUs that are half busy, by a hand clock."""

    def __init__(self, clock: HandClock, share: float = 0.5, cpus: int = 4) -> None:
        self.clock, self.share, self.cpus = clock, share, cpus

    def __call__(self) -> CpuTimes:
        total_s = self.clock.monotonic_s() * self.cpus
        return CpuTimes(busy_s=total_s * self.share, total_s=total_s)


class AmdSmiException(Exception):  # noqa: N818 - AMD's name
    def __init__(self, err_info: str) -> None:
        super().__init__(err_info)
        self.err_info = err_info


@dataclass
class FakeAmdGpu:
    name: str = "AMD Instinct MI300X"
    uuid: str = "a1ff74a1-0000-1000-80cc-5d7a4c3b2e10"
    partition: str = "SPX"
    watts: float = 500.0
    gone: bool = False
    not_available: set[str] = field(default_factory=set)


class FakeAmdSmi:
    """The part of AMD's bindings that the meter uses."""

    AmdSmiException = AmdSmiException

    class AmdSmiClkType(IntEnum):
        GFX = 1
        MEM = 4

    class AmdSmiTemperatureType(IntEnum):
        HOTSPOT = 1
        VRAM = 2

    class AmdSmiTemperatureMetric(IntEnum):
        CURRENT = 0

    def __init__(self, clock: HandClock, gpus: list[FakeAmdGpu] | None = None) -> None:
        self.clock, self.started = clock, 0
        self.gpus = [FakeAmdGpu()] if gpus is None else gpus

    def amdsmi_init(self) -> None:
        self.started += 1

    def amdsmi_shut_down(self) -> None:
        self.started -= 1

    def amdsmi_get_processor_handles(self) -> list[FakeAmdGpu]:
        return self.gpus

    def amdsmi_get_gpu_asic_info(self, gpu: FakeAmdGpu) -> dict[str, Any]:
        return {"market_name": gpu.name}

    def amdsmi_get_gpu_device_uuid(self, gpu: FakeAmdGpu) -> str:
        return gpu.uuid

    def amdsmi_get_gpu_compute_partition(self, gpu: FakeAmdGpu) -> str:
        return gpu.partition

    def amdsmi_get_energy_count(self, gpu: FakeAmdGpu) -> dict[str, Any]:
        self._check(gpu)
        steps = round(gpu.watts * self.clock.monotonic_s() * 1e6 / 15.259)
        return {"energy_accumulator": steps, "counter_resolution": 15.259, "timestamp": 0}

    def amdsmi_get_power_info(self, gpu: FakeAmdGpu) -> dict[str, Any]:
        self._check(gpu)
        return {"socket_power": "N/A", "current_socket_power": gpu.watts, "average_socket_power": "N/A"}

    def amdsmi_get_clock_info(self, gpu: FakeAmdGpu, kind: int) -> dict[str, Any]:
        self._check(gpu)
        return {"clk": "N/A" if "clocks" in gpu.not_available else {1: 2100, 4: 1300}[kind]}

    def amdsmi_get_temp_metric(self, gpu: FakeAmdGpu, sensor: int, _metric: int) -> int:
        self._check(gpu)
        return {1: 61, 2: 48}[sensor]

    def amdsmi_get_gpu_activity(self, gpu: FakeAmdGpu) -> dict[str, Any]:
        self._check(gpu)
        return {"gfx_activity": 99, "umc_activity": 40}

    def _check(self, gpu: FakeAmdGpu) -> None:
        if gpu.gone:
            reason = "AMDSMI_STATUS_NOT_FOUND - Device Not found"
            raise AmdSmiException(reason)


@dataclass
class AppleMetrics:
    cpu_total_mj: int | None
    gpu_mj: int | None
    gpu_sram_mj: int | None
    ane_mj: int | None
    dram_mj: int | None


class FakeAppleMonitor:
    """20 W of CPU, 40 W of GPU, 2 W of its SRAM, 5 W of DRAM; no Neural Engine channel."""

    def __init__(self, clock: HandClock) -> None:
        self.clock, self.broken = clock, False

    def get_cumulative_energy(self) -> AppleMetrics:
        if self.broken:
            reason = "IOReport subscription lost"
            raise RuntimeError(reason)
        s = self.clock.monotonic_s()
        return AppleMetrics(
            cpu_total_mj=round(20_000 * s),
            gpu_mj=round(40_000 * s),
            gpu_sram_mj=round(2_000 * s),
            ane_mj=None,
            dram_mj=round(5_000 * s),
        )
