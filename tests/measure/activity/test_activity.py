from __future__ import annotations

import time

import pynvml
import pytest

from joulemap.errors import EnvironmentLacksError, MeterError, ServerError
from joulemap.measure.activity.activity import QUANTITIES, RATES, SHARES, DeviceActivity, activity_between
from joulemap.measure.activity.choice import choose_activity
from joulemap.measure.activity.dcgm import DcgmActivity
from joulemap.measure.activity.gpm import METRICS, GpmActivity
from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.sampler import Sampler
from tests.measure.hand_clock import BEGIN_MONO_S, HandClock

MIB = 1048576.0


def test_metric_numbers_are_those_of_the_nvml_reference() -> None:
    assert {name: number for name, number, _ in METRICS} == {
        "sm_utilization": 2,
        "sm_occupancy": 3,
        "compute_utilization": 5,
        "memory_bandwidth_utilization": 10,
        "pcie_tx_bytes_per_s": 20,
        "pcie_rx_bytes_per_s": 21,
        "nvlink_rx_bytes_per_s": 60,
        "nvlink_tx_bytes_per_s": 61,
    }


def test_gpm_gives_shares_and_bytes_after_an_interval() -> None:
    clock = HandClock()
    source = GpmActivity(FakeNvml(2, clock=clock), environment={}, clock=clock)
    clock.sleep(0.25)
    first, second = source.read().rows
    assert first.interval_s == pytest.approx(0.25)
    assert [getattr(first, name) for name in SHARES] == [0.9, 0.25, 0.125, 0.625]
    assert [getattr(second, name) for name in RATES] == [2048 * MIB, 4096 * MIB, 1024 * MIB, 512 * MIB]
    assert first.missing == {}


def test_gpm_waits_for_the_shortest_sound_interval_and_loses_no_time() -> None:
    clock = HandClock()
    source = GpmActivity(FakeNvml(1, clock=clock), environment={}, clock=clock)
    clock.sleep(0.06)
    (row,) = source.read().rows
    assert row.sm_utilization is None
    assert row.missing["sm_utilization"].startswith("60 ms since")
    clock.sleep(0.06)
    (row,) = source.read().rows
    assert row.interval_s == pytest.approx(0.12)
    assert row.sm_utilization == 0.9


def test_gpm_leaves_out_what_a_gpu_lacks_and_what_makes_no_sense() -> None:
    clock = HandClock()
    fake = FakeNvml(1, clock=clock)
    gpm = fake.gpus[0].gpm
    del gpm[pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC]
    gpm[pynvml.NVML_GPM_METRIC_SM_OCCUPANCY] = float("nan")
    gpm[pynvml.NVML_GPM_METRIC_SM_UTIL] = 100.4
    source = GpmActivity(fake, environment={}, clock=clock)
    clock.sleep(0.2)
    (row,) = source.read().rows
    assert row.sm_utilization == 1.0
    assert row.missing == {
        "sm_occupancy": "the driver tells nan",
        "nvlink_rx_bytes_per_s": "this GPU does not have it",
    }


@pytest.mark.parametrize(
    ("unsupported", "failing", "message", "fix"),
    [
        ({"gpm"}, {}, "needs a Hopper GPU", "--dcgm"),
        ({"nvmlGpmQueryDeviceSupport"}, {}, "needs a Hopper GPU", "--dcgm"),
        (set(), {"nvmlGpmQueryDeviceSupport": pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}, "too old", "driver"),
        (set(), {"nvmlGpmSampleGet": pynvml.NVML_ERROR_NO_PERMISSION}, "may not read", "NVreg_Restrict"),
        (set(), {"nvmlGpmSampleGet": pynvml.NVML_ERROR_IN_USE}, "another profiler", "dcgmi profile --pause"),
    ],
)
def test_gpm_that_is_refused_is_explained_and_leaves_nothing_open(
    unsupported: set[str | int | tuple[int, int]], failing: dict[str, int], message: str, fix: str
) -> None:
    fake = FakeNvml(2)
    fake.gpus[1].unsupported, fake.gpus[1].failing = unsupported, failing
    with pytest.raises(EnvironmentLacksError, match=f"GPU 1 .*{message}") as error:
        GpmActivity(fake, environment={})
    assert fix in str(error.value.fix)
    assert (fake.live_gpm_samples, fake.initialised) == (0, 0)
    source, why = choose_activity(nvml=fake, environment={})
    assert source is None
    assert message in why


def test_gpm_contention_passes_and_a_lost_gpu_does_not() -> None:
    clock = HandClock()
    fake = FakeNvml(1, clock=clock)
    source = GpmActivity(fake, environment={}, clock=clock)
    clock.sleep(0.2)
    fake.gpus[0].failing = {"nvmlGpmSampleGet": pynvml.NVML_ERROR_IN_USE}
    (row,) = source.read().rows
    assert "another profiler" in row.missing["sm_utilization"]
    fake.gpus[0].failing = {}
    clock.sleep(0.2)
    (row,) = source.read().rows
    assert row.sm_utilization == 0.9
    fake.gpus[0].lost = True
    clock.sleep(0.2)
    with pytest.raises(MeterError, match="GPU is lost"):
        source.read()
    source.close()
    source.close()
    assert (fake.live_gpm_samples, fake.initialised) == (0, 0)


def test_mig_is_refused_for_activity_too() -> None:
    fake = FakeNvml(1)
    fake.gpus[0].mig = True
    with pytest.raises(MeterError, match="MIG"):
        choose_activity(nvml=fake, environment={})


def test_a_windows_mean_weighs_intervals_and_gpus() -> None:
    clock = HandClock()
    fake = FakeNvml(2, clock=clock)
    source = GpmActivity(fake, environment={}, clock=clock)
    sampler = Sampler(source, DeviceActivity, clock=clock)
    for i in range(20):
        clock.sleep(0.5 if i < 10 else 0.25)
        for gpu in fake.gpus:
            gpu.gpm[pynvml.NVML_GPM_METRIC_SM_UTIL] = (40.0 if i < 10 else 80.0) + 10.0 * gpu.index
        sampler.read_once()
    devices = source.describe().devices
    window = activity_between(sampler.frame(), BEGIN_MONO_S + 4.0, BEGIN_MONO_S + 7.0, devices, {})
    assert window["sm_utilization"] == pytest.approx((1.0 * 0.45 + 2.0 * 0.85) / 3.0)
    assert window.by_device[devices[1]]["sm_utilization"] == pytest.approx((1.0 * 0.5 + 2.0 * 0.9) / 3.0)
    assert window["nvlink_bytes_per_s"] == pytest.approx(6144 * MIB)
    assert window["pcie_bytes_per_s"] == pytest.approx(1536 * MIB)
    late = activity_between(sampler.frame(), BEGIN_MONO_S + 7.0, BEGIN_MONO_S + 20.0, devices, {})
    assert late["sm_utilization"] is None
    assert "less than half of the window" in late.missing["sm_utilization"]
    assert "less than half" in late.missing["nvlink_bytes_per_s"]


def test_a_missing_quantity_has_the_sources_reason_in_the_window() -> None:
    clock = HandClock()
    fake = FakeNvml(1, clock=clock)
    del fake.gpus[0].gpm[pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC]
    source = GpmActivity(fake, environment={}, clock=clock)
    sampler = Sampler(source, DeviceActivity, clock=clock)
    for _ in range(10):
        clock.sleep(0.2)
        sampler.read_once()
    (device,) = source.describe().devices
    reasons = sampler.status().missing[device]
    window = activity_between(sampler.frame(), BEGIN_MONO_S, BEGIN_MONO_S + 2.0, (device,), reasons)
    assert window.missing == {
        "nvlink_rx_bytes_per_s": "this GPU does not have it",
        "nvlink_bytes_per_s": "this GPU does not have it",
    }


def exporter(uuid: str = "GPU-a", /, **values: object) -> str:
    told = {
        "DCGM_FI_DEV_POWER_USAGE": 300,
        "DCGM_FI_PROF_SM_ACTIVE": 0.913,
        "DCGM_FI_PROF_SM_OCCUPANCY": 0.3,
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0.12,
        "DCGM_FI_PROF_DRAM_ACTIVE": 0.7,
        "DCGM_FI_PROF_PCIE_TX_BYTES": 4791810,
        "DCGM_FI_PROF_PCIE_RX_BYTES": 1000,
        "DCGM_FI_PROF_NVLINK_TX_BYTES": 5e9,
        "DCGM_FI_PROF_NVLINK_RX_BYTES": 6e9,
        **values,
    }
    labels = f'gpu="0",UUID="{uuid}",modelName="NVIDIA A100"'
    return "".join(f"# TYPE {n} gauge\n{n}{{{labels}}} {v}\n" for n, v in told.items() if v is not None)


class Exporter:
    def __init__(self, text: str) -> None:
        self.text = text
        self.error: ServerError | None = None

    def __call__(self) -> str:
        if self.error is not None:
            raise self.error
        return self.text


def dcgm(fake: Exporter, clock: HandClock, gpus: tuple[str, ...] | None = None) -> DcgmActivity:
    return DcgmActivity("http://localhost:9400/metrics", gpus=gpus, clock=clock, fetch=fake)


def test_dcgm_is_read_in_our_units() -> None:
    clock = HandClock()
    source = dcgm(Exporter(exporter()), clock)
    source.read()
    clock.sleep(1.0)
    (row,) = source.read().rows
    assert row.interval_s == pytest.approx(1.0)
    assert [getattr(row, n) for n in QUANTITIES] == [0.913, 0.3, 0.12, 0.7, 6e9, 5e9, 1000.0, 4791810.0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (9223372036854775794, "another profiler"),
        (9223372036854775792, "another profiler"),
        (140737488355328.0, "no value for it"),
        (140737488355330.0, "does not have it"),
        (140737488355331.0, "SYS_ADMIN"),
        (None, "DCGM_FI_PROF fields"),
        (-1, "tells -1.0"),
    ],
)
def test_dcgm_blanks_are_none_with_a_reason(value: float | None, reason: str) -> None:
    text = exporter(DCGM_FI_PROF_SM_ACTIVE=value, DCGM_FI_PROF_NVLINK_TX_BYTES=value)
    (row,) = dcgm(Exporter(text), HandClock()).read().rows
    assert (row.sm_utilization, row.nvlink_tx_bytes_per_s) == (None, None)
    assert reason in row.missing["sm_utilization"]
    assert row.sm_occupancy == 0.3


def test_dcgm_values_that_never_change_are_stale_and_zeros_are_idle() -> None:
    clock = HandClock()
    fake = Exporter(exporter())
    source = dcgm(fake, clock)
    for _ in range(6):
        (row,) = source.read().rows
        clock.sleep(1.0)
    assert "has not looked for 5 s: start it with -c 1000" in row.missing["sm_utilization"]
    fake.text = exporter(DCGM_FI_PROF_SM_ACTIVE=0.5)
    (row,) = source.read().rows
    assert row.sm_utilization == 0.5
    zeros = {n: 0 for n in fake.text.split() if n.startswith("DCGM_FI_PROF") and "{" not in n}
    fake.text = exporter(**zeros)
    for _ in range(6):
        (row,) = source.read().rows
        clock.sleep(1.0)
    assert row.sm_utilization == 0.0


def test_dcgm_failures_leave_holes() -> None:
    clock = HandClock()
    fake = Exporter(exporter())
    source = dcgm(fake, clock)
    fake.error = ServerError("localhost:9400 did not answer within 2 s")
    (row,) = source.read().rows
    assert row.missing["sm_utilization"] == "localhost:9400 did not answer within 2 s"
    fake.error = None
    fake.text = exporter("GPU-b")
    (row,) = source.read().rows
    assert "nothing of this GPU" in row.missing["sm_utilization"]


def test_dcgm_reads_the_gpus_asked_for_and_no_slices() -> None:
    clock = HandClock()
    text = exporter("GPU-a") + exporter("GPU-b", DCGM_FI_PROF_SM_ACTIVE=0.2)
    (row,) = dcgm(Exporter(text), clock, ("GPU-b",)).read().rows
    assert (row.device, row.sm_utilization) == ("GPU-b", 0.2)
    with pytest.raises(EnvironmentLacksError, match="nothing of GPU-c"):
        dcgm(Exporter(text), clock, ("GPU-c",))
    slices = text.replace('gpu="0"', 'gpu="0",GPU_I_ID="3"')
    with pytest.raises(EnvironmentLacksError, match="any whole GPU"):
        dcgm(Exporter(slices), clock)
    with pytest.raises(EnvironmentLacksError, match="any whole GPU"):
        dcgm(Exporter("<html>"), clock)


def test_an_exporter_that_is_named_is_used_or_fails() -> None:
    with pytest.raises(EnvironmentLacksError, match="ConnectionRefusedError"):
        choose_activity(dcgm_url="http://127.0.0.1:9/metrics")


def test_real_gpm_where_this_machine_has_it() -> None:
    source, why = choose_activity()
    if source is None:
        pytest.skip(why)
    sampler = Sampler(source, DeviceActivity, rate_hz=5.0)
    begin_s = time.monotonic()
    with sampler:
        time.sleep(2.0)
    status = sampler.status()
    assert status.error is None
    window = activity_between(
        sampler.frame(),
        begin_s,
        begin_s + 1.8,
        source.describe().devices,
        status.missing.get(source.describe().devices[0], {}),
    )
    for name in SHARES:
        value = window[name]
        assert value is not None, window.missing[name]
        assert 0.0 <= value <= 1.0
    source.close()
