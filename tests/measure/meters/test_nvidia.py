from __future__ import annotations

from itertools import pairwise
from typing import Any

import pynvml
import pytest

from joulemap.errors import EnvironmentLacksError, MeterError, UnknownNameError, UsageError
from joulemap.measure.meters.fake_nvml import FakeGpu, FakeNvml
from joulemap.measure.meters.meter import DeviceReading
from joulemap.measure.meters.nvidia import ENERGY_FIELD, NOT_DUE, NvidiaMeter, throttle_names
from joulemap.measure.meters.sampler import Sampler
from joulemap.measure.meters.visible_devices import GpuIdentity, select_gpus
from tests.measure.hand_clock import HandClock

EIGHT = [GpuIdentity(index=i, uuid=f"GPU-{i:08x}-aaaa", name="NVIDIA H100") for i in range(8)]
MIXED = [GpuIdentity(index=0, uuid="GPU-0a", name="T4"), GpuIdentity(index=1, uuid="GPU-0b", name="H100")]


def chosen(visible: str | None, gpus: list[GpuIdentity] = EIGHT, **environment: str) -> list[int]:
    env = dict(environment) if visible is None else {"CUDA_VISIBLE_DEVICES": visible, **environment}
    return [g.index for g in select_gpus(gpus, wanted=None, environment=env)]


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, list(range(8))),
        ("", []),
        ("-1", []),
        ("3", [3]),
        ("5,2", [5, 2]),
        (" 1 , 0 ", [1, 0]),
        ("0,1,99,2", [0, 1]),
        ("0,-1,2", [0]),
        ("GPU-00000003", [3]),
        ("gpu-00000003-AAAA,GPU-00000001", [3, 1]),
        ("GPU-ffff", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_means_what_cuda_makes_of_it(visible: str | None, indices: list[int]) -> None:
    assert chosen(visible) == indices


def test_ordinals_on_differing_gpus_are_refused_unless_the_order_is_by_bus() -> None:
    with pytest.raises(MeterError, match="fastest first") as error:
        chosen("0", MIXED)
    assert error.value.fix is not None
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in error.value.fix
    assert chosen("0", MIXED, CUDA_DEVICE_ORDER="PCI_BUS_ID") == [0]
    assert chosen("GPU-0b", MIXED) == [1]
    assert chosen(None, MIXED) == [0, 1]


def test_ambiguous_repeated_and_mig_names_are_refused() -> None:
    with pytest.raises(UsageError, match="beginning of 8 UUIDs"):
        chosen("GPU-0")
    with pytest.raises(UsageError, match="named twice"):
        chosen("2,GPU-00000002")
    with pytest.raises(MeterError, match="MIG slice") as error:
        chosen("MIG-12345678-aaaa")
    assert "mig 0" in str(error.value.fix)


def test_gpus_named_by_the_user_win_and_must_exist() -> None:
    env = {"CUDA_VISIBLE_DEVICES": "0"}
    assert [g.index for g in select_gpus(EIGHT, wanted=["7", "GPU-00000001"], environment=env)] == [7, 1]
    with pytest.raises(UnknownNameError, match="'9'"):
        select_gpus(EIGHT, wanted=["9"], environment={})


def test_only_visible_gpus_are_read_by_uuid() -> None:
    fake = FakeNvml(8, power=lambda gpu, _t: 100.0 * (gpu + 1), clock=HandClock())
    meter = NvidiaMeter(fake, environment={"CUDA_VISIBLE_DEVICES": f"{fake.gpus[6].uuid},{fake.gpus[2].uuid}"})
    assert [(r.device, r.power_w) for r in meter.read().rows] == [
        (fake.gpus[6].uuid, 700.0),
        (fake.gpus[2].uuid, 300.0),
    ]
    assert [d.index for d in meter.describe().devices] == [6, 2]


def test_a_reading_has_everything_in_our_units() -> None:
    clock = HandClock()
    fake = FakeNvml(1, power=lambda _g, _t: 650.0, clock=clock)
    fake.gpus[0].throttle_mask = 0x4 | 0x40
    meter = NvidiaMeter(fake, environment={}, clock=clock)
    clock.sleep(10.0)
    (row,) = meter.read().rows
    assert row.energy_j == pytest.approx(6500.0)
    assert (row.power_w, row.power_average_w, row.memory_power_w) == (650.0, 650.0, 130.0)
    assert (row.sm_clock_hz, row.memory_clock_hz) == (1.98e9, 2.619e9)
    assert (row.temperature_c, row.memory_temperature_c) == (45.0, 55.0)
    assert (row.utilization, row.memory_utilization) == (0.97, 0.54)
    assert row.throttle == "power_cap+hardware_thermal"
    assert row.module_power_w is None
    assert row.missing == {"module_power_w": "Invalid Argument"}
    assert meter.describe().devices[0].power_limit_w == 700.0


def test_a_driver_that_refuses_a_whole_call_for_one_scope_loses_only_that() -> None:
    fake = FakeNvml(1, clock=HandClock())
    fake.gpus[0].strict_fields = True
    (row,) = NvidiaMeter(fake, environment={}).read().rows
    assert (row.power_w, row.power_average_w, row.memory_power_w) == (300.0, 300.0, 60.0)
    assert row.missing == {"module_power_w": "Invalid Argument"}


def test_a_throttle_reason_that_is_not_known_is_named_by_its_bit() -> None:
    assert throttle_names(0) == ""
    assert throttle_names(0x4000 | 0x1) == "idle+reason_0x4000"


def test_older_gpus_fall_back_and_say_so() -> None:
    fake = FakeNvml(1, clock=HandClock())
    fake.gpus[0].unsupported |= {
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetCurrentClocksEventReasons",
    }
    fake.gpus[0].throttle_mask = 0x4
    meter = NvidiaMeter(fake, environment={})
    (row,) = meter.read().rows
    assert row.power_w == 300.0
    assert row.energy_j is not None
    assert row.temperature_c == 45.0
    assert row.throttle == "power_cap"
    assert row.power_average_w is None
    assert row.missing["power_average_w"] == "Not Supported"
    assert any("no instant power" in note for note in meter.describe().notes)


def test_a_fault_that_passes_leaves_a_hole_with_its_reason() -> None:
    clock = HandClock()
    fake = FakeNvml(1, clock=clock)
    meter = NvidiaMeter(fake, environment={}, clock=clock)
    fake.gpus[0].failing = {
        "nvmlDeviceGetFieldValues": pynvml.NVML_ERROR_TIMEOUT,
        "nvmlDeviceGetUtilizationRates": pynvml.NVML_ERROR_UNKNOWN,
    }
    (row,) = meter.read().rows
    assert (row.energy_j, row.power_w, row.utilization) == (None, None, None)
    assert row.missing["energy_j"] == "Timeout"
    assert row.missing["power_w"] == "Timeout"
    assert row.missing["memory_utilization"] == "Unknown Error"
    assert row.temperature_c == 45.0
    fake.gpus[0].failing = {}
    clock.sleep(0.1)
    (row,) = meter.read().rows
    assert (row.power_w, row.utilization, row.energy_j) == (300.0, 0.97, None)
    assert row.missing == {"module_power_w": "Invalid Argument", "energy_j": NOT_DUE}
    clock.sleep(1.0)
    (row,) = meter.read().rows
    assert row.energy_j is not None
    assert set(row.missing) == {"module_power_w"}


class CountingNvml(FakeNvml):
    """Notes when the energy counter of each GPU is read, by whichever call."""

    def __init__(self, gpus: int, clock: HandClock) -> None:
        super().__init__(gpus, power=lambda _g, t: 100.0 + t, clock=clock)
        self.counter_reads: list[tuple[int, float]] = []

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        self.counter_reads.append((gpu.index, self.clock.monotonic_s()))
        return super().nvmlDeviceGetTotalEnergyConsumption(gpu)

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, ids: list[tuple[int, int]]) -> Any:
        if ENERGY_FIELD in ids and "nvmlDeviceGetFieldValues" not in gpu.unsupported:
            self.counter_reads.append((gpu.index, self.clock.monotonic_s()))
        return super().nvmlDeviceGetFieldValues(gpu, ids)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("rate_hz", [1.0, 10.0, 100.0])
def test_the_energy_counter_is_read_about_once_a_second_and_all_else_each_time(rate_hz: float, old: bool) -> None:
    clock = HandClock()
    fake = CountingNvml(2, clock)
    for gpu in fake.gpus if old else ():
        gpu.unsupported.add("nvmlDeviceGetFieldValues")
    meter = NvidiaMeter(fake, environment={}, clock=clock)
    fake.calls.clear()
    fake.counter_reads.clear()
    rows = []
    reads = round(20 * rate_hz)
    for _ in range(reads):
        rows.append(meter.read().rows[0])
        fake.gpus[0].temperature_c += 1
        clock.sleep(1.0 / rate_hz)
    for gpu in fake.gpus:
        times = [time_s for index, time_s in fake.counter_reads if index == gpu.index]
        assert 20 <= len(times) <= 22
        assert all(0.94 < after - before < 1.06 for before, after in pairwise(times))
    queries = {name: fake.calls[name] for name in ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetUtilizationRates")}
    assert queries == dict.fromkeys(queries, 2 * reads)
    assert len({row.power_w for row in rows}) == reads
    assert [row.temperature_c for row in rows] == [45.0 + i for i in range(reads)]
    # What was not read is absent, with its reason: never the value of before.
    assert sum(row.energy_j is not None for row in rows) == len(fake.counter_reads) / 2
    assert all(row.energy_j is not None or row.missing["energy_j"] == NOT_DUE for row in rows)


def test_a_sampler_of_once_a_second_that_wakes_a_little_early_still_has_the_counter() -> None:
    clock = HandClock()
    meter = NvidiaMeter(CountingNvml(1, clock), environment={}, clock=clock)
    sampler = Sampler(meter, DeviceReading, clock=clock)
    for i in range(30):
        sampler.read_once()
        clock.sleep(0.97 if i % 2 else 1.03)
    assert sampler.frame()["energy_j"].null_count() == 0


def test_a_lost_gpu_ends_the_meter_by_name() -> None:
    fake = FakeNvml(4, clock=HandClock())
    meter = NvidiaMeter(fake, environment={})
    fake.gpus[2].lost = True
    with pytest.raises(MeterError, match=r"GPU 2 \(GPU-00000002-.*stopped answering: GPU is lost"):
        meter.read()


def test_mig_is_refused_only_on_a_gpu_that_is_measured() -> None:
    fake = FakeNvml([FakeGpu(index=0), FakeGpu(index=1, mig=True)], clock=HandClock())
    with pytest.raises(MeterError, match=r"GPU 1 .* has MIG on") as error:
        NvidiaMeter(fake, environment={})
    assert error.value.fix is not None
    assert "nvidia-smi -i 1 -mig 0" in error.value.fix
    assert fake.initialised == 0
    NvidiaMeter(fake, gpus=["0"], environment={}).close()
    assert fake.initialised == 0


@pytest.mark.parametrize(
    ("code", "message", "fix"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver", "--gpus all"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "not loaded", "modprobe"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "different versions", "reboot"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "may not talk", "usermod"),
        (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error", "nvidia-smi"),
    ],
)
def test_a_driver_that_does_not_start_is_explained(code: int, message: str, fix: str) -> None:
    fake = FakeNvml(1)
    fake.absent_code = code
    with pytest.raises(EnvironmentLacksError, match=message) as error:
        NvidiaMeter(fake, environment={})
    assert fix in str(error.value.fix)


def test_no_gpu_and_hidden_gpus_are_told_apart() -> None:
    with pytest.raises(EnvironmentLacksError, match="sees no GPU"):
        NvidiaMeter(FakeNvml(0), environment={})
    with pytest.raises(EnvironmentLacksError, match="hides all 4 GPUs"):
        NvidiaMeter(FakeNvml(4), environment={"CUDA_VISIBLE_DEVICES": ""})
