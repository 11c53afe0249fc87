from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from joulemap.errors import (
    EnvironmentLacksError,
    ImportFileError,
    MeterError,
    MissingExtraError,
    UnknownNameError,
    UsageError,
)
from joulemap.measure.meters import amd as amd_module
from joulemap.measure.meters.amd import AmdMeter
from joulemap.measure.meters.apple import AppleMeter
from joulemap.measure.meters.assumed import AssumedMeter, assumed_tdp, machine_times
from joulemap.measure.meters.choice import OPENERS, MeterOptions, choose_meters, meter_openers
from joulemap.measure.meters.energy import energy_between
from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.meter import DeviceKind, DeviceReading, Meter
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.meters.rapl import RaplMeter
from joulemap.measure.meters.replay import ReplayMeter, write_recording
from joulemap.measure.meters.sampler import Sampler
from joulemap.records import Basis, Quantity
from tests.measure.hand_clock import HandClock
from tests.measure.meters.fakes import (
    FakeAmdGpu,
    FakeAmdSmi,
    FakeAppleMonitor,
    FakeCpuTimes,
    advance_powercap,
    powercap_tree,
)


def test_rapl_reads_packages_and_dram_once_each(tmp_path: Path) -> None:
    meter = RaplMeter(powercap_tree(tmp_path))
    assert [(d.device, d.kind) for d in meter.describe().devices] == [
        ("package-0", DeviceKind.CPU),
        ("dram-0", DeviceKind.DRAM),
        ("package-1", DeviceKind.CPU),
    ]


def test_rapl_makes_a_wrapped_counter_good(tmp_path: Path) -> None:
    clock = HandClock()
    root = powercap_tree(tmp_path)
    (root / "intel-rapl:0" / "energy_uj").write_text("262143000000\n")
    meter = RaplMeter(root, clock=clock)
    first = meter.read().rows[0]
    clock.sleep(1.0)
    advance_powercap(root, 1.0)
    second = meter.read().rows[0]
    assert int((root / "intel-rapl:0" / "energy_uj").read_text()) < 262143000000
    assert second.energy_j is not None
    assert first.energy_j is not None
    assert second.energy_j - first.energy_j == pytest.approx(100.0)
    assert second.power_w == pytest.approx(100.0)


def test_rapl_without_permission_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = powercap_tree(tmp_path)
    if os.geteuid() == 0:
        read = Path.read_text

        def refuse(file: Path, *args: str, **kwargs: str) -> str:
            if file.name == "energy_uj":
                raise PermissionError(13, "Permission denied", str(file))
            return read(file, *args, **kwargs)

        monkeypatch.setattr(Path, "read_text", refuse)  # root reads everything, whatever the mode says
    else:
        (root / "intel-rapl:0" / "energy_uj").chmod(0)
    with pytest.raises(EnvironmentLacksError, match="root alone") as error:
        RaplMeter(root)
    assert "sudo chmod -R a+r" in str(error.value.fix)


def test_rapl_that_vanishes_is_named(tmp_path: Path) -> None:
    root = powercap_tree(tmp_path)
    meter = RaplMeter(root)
    (root / "intel-rapl:1" / "energy_uj").unlink()
    with pytest.raises(MeterError, match="package-1 cannot be read any more"):
        meter.read()


def test_assumed_is_utilisation_times_tdp_with_the_tdps_interval() -> None:
    clock = HandClock()
    meter = AssumedMeter(80.0, clock=clock, times=FakeCpuTimes(clock, share=0.25))
    sampler = Sampler(meter, DeviceReading, clock=clock)
    for _ in range(60):
        clock.sleep(0.1)
        sampler.read_once()
    times = sampler.frame()["t_mono_s"]
    window = energy_between(sampler.frame(), times[2], times[52], meter.describe())
    energy = window.total(DeviceKind.CPU)
    assert isinstance(energy, Quantity)
    assert energy.value == pytest.approx(0.25 * 80.0 * 5.0)
    assert energy.basis is Basis.ASSUMED
    assert energy.low == pytest.approx(0.5 * energy.value, rel=0.05)
    assert "assumed, not measured" in meter.describe().notes[0]


def test_assumed_tdp_spans_the_catalogs_processors() -> None:
    tdp = assumed_tdp(2)
    assert 2.0 < tdp.low_w < tdp.tdp_w < tdp.high_w < 20.0
    assert tdp.tdp_w == pytest.approx(assumed_tdp(64).tdp_w / 32)


def test_assumed_follows_this_machines_load() -> None:
    before = machine_times()
    end_s = time.process_time() + 0.3
    while time.process_time() < end_s:
        pass
    after = machine_times()
    assert after.busy_s - before.busy_s >= 0.25
    assert after.total_s - before.total_s >= after.busy_s - before.busy_s - 0.01


@pytest.mark.parametrize("tdp_w", [0.0, -5.0, float("inf"), float("nan")])
def test_assumed_refuses_a_tdp_that_means_nothing(tdp_w: float) -> None:
    with pytest.raises(UsageError, match="positive number of watts"):
        AssumedMeter(tdp_w)


def recorded(folder: Path, seconds_s: float = 5.0) -> Path:
    clock = HandClock()
    meter = NvidiaMeter(FakeNvml(1, clock=clock), environment={}, clock=clock)
    sampler = Sampler(meter, DeviceReading, clock=clock)
    for _ in range(round(seconds_s * 10) + 1):
        sampler.read_once()
        clock.sleep(0.1)
    write_recording(sampler.frame(), meter.describe(), folder / "r.parquet")
    return folder / "r.parquet"


def test_replay_ends_by_name_and_keeps_basis(tmp_path: Path) -> None:
    clock = HandClock()
    meter = ReplayMeter(recorded(tmp_path), clock=clock)
    assert meter.describe().basis is Basis.MEASURED
    meter.read()
    clock.sleep(4.9)
    meter.read()
    clock.sleep(0.2)
    with pytest.raises(MeterError, match=r"r\.parquet has ended after 5\.0 s"):
        meter.read()


def test_replay_of_an_assumed_recording_stays_assumed(tmp_path: Path) -> None:
    clock = HandClock()
    meter = AssumedMeter(80.0, clock=clock, times=FakeCpuTimes(clock))
    sampler = Sampler(meter, DeviceReading, clock=clock)
    clock.sleep(0.1)
    sampler.read_once()
    write_recording(sampler.frame(), meter.describe(), tmp_path / "a.parquet")
    description = ReplayMeter(tmp_path / "a.parquet").describe()
    assert description.basis is Basis.ASSUMED
    assert description.relative_interval == (0.5, 1.0)


def test_files_that_are_no_recordings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    for name, reason in (
        ("text", "not a readable Parquet"),
        ("other", "not a recording"),
        ("absent", "not a readable"),
    ):
        with pytest.raises(ImportFileError, match=reason):
            ReplayMeter(tmp_path / f"{name}.parquet")


def test_amd_reads_in_our_units_and_says_what_is_not_available() -> None:
    clock = HandClock()
    meter = AmdMeter(FakeAmdSmi(clock, [FakeAmdGpu(not_available={"clocks"})]), environment={}, clock=clock)
    (row,) = meter.read().rows
    assert row.energy_j == pytest.approx(500.0 * 1000.0, rel=1e-6)
    assert (row.power_w, row.temperature_c, row.utilization) == (500.0, 61.0, 0.99)
    assert row.sm_clock_hz is None
    assert row.missing["sm_clock_hz"] == "the GPU answers N/A"


def test_amd_refuses_partitions_and_orders_it_cannot_know() -> None:
    clock = HandClock()
    smi = FakeAmdSmi(clock, [FakeAmdGpu(partition="CPX")])
    with pytest.raises(MeterError, match="partitioned"):
        AmdMeter(smi, environment={})
    assert smi.started == 0
    two = [FakeAmdGpu(uuid="a"), FakeAmdGpu(uuid="b")]
    with pytest.raises(MeterError, match="HIP_VISIBLE_DEVICES=1"):
        AmdMeter(FakeAmdSmi(clock, two), environment={"HIP_VISIBLE_DEVICES": "1"})
    meter = AmdMeter(FakeAmdSmi(clock, two), gpus=["1"], environment={"HIP_VISIBLE_DEVICES": "1"})
    assert meter.describe().device_names == ("GPU-b",)


def test_amd_gpu_that_is_gone_ends_the_meter() -> None:
    clock = HandClock()
    gpu = FakeAmdGpu()
    meter = AmdMeter(FakeAmdSmi(clock, [gpu]), environment={})
    gpu.gone = True
    with pytest.raises(MeterError, match="Device Not found"):
        meter.read()


def test_amd_without_rocm_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "amdsmi.py").write_text("{}['libamd_smi.so']\n")  # what the real bindings do without ROCm
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EnvironmentLacksError, match=r"libamd_smi\.so is not"):
        amd_module.load_amdsmi()
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with pytest.raises(MissingExtraError, match="amdsmi"):
        amd_module.load_amdsmi()


def test_apple_sums_gpu_and_sram_is_modelled_and_names_a_break() -> None:
    clock = HandClock()
    monitor = FakeAppleMonitor(clock)
    meter = AppleMeter(monitor, clock=clock)
    assert meter.describe().device_names == ("gpu", "cpu", "dram")
    assert meter.describe().basis is Basis.MODELLED
    meter.read()
    clock.sleep(2.0)
    assert [row.power_w for row in meter.read().rows] == pytest.approx([42.0, 20.0, 5.0])
    monitor.broken = True
    with pytest.raises(MeterError, match="IOReport"):
        meter.read()


@pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac")
def test_apple_meter_elsewhere_says_what_this_is() -> None:
    with pytest.raises(EnvironmentLacksError, match="needs a Mac with Apple silicon"):
        AppleMeter()


def absent(_options: MeterOptions) -> Meter:
    message = "no such hardware"
    raise EnvironmentLacksError(message)


def refusing(_options: MeterOptions) -> Meter:
    message = "MIG is on"
    raise MeterError(message)


def test_without_hardware_the_assumed_meter_is_chosen_and_says_why(tmp_path: Path) -> None:
    openers = {**OPENERS, "nvidia": absent, "amd": absent, "apple": absent}
    choice = choose_meters(options=MeterOptions(powercap=tmp_path), openers=openers)
    assert [m.describe().meter for m in choice.meters] == ["assumed"]
    assert choice.explanation[0] == "nvidia: not used, no such hardware"
    assert choice.explanation[-1].endswith("assumed, for want of a real meter")
    choice.close()


def test_all_real_meters_are_chosen_together(tmp_path: Path) -> None:
    fake = FakeNvml(4)
    openers = {
        **OPENERS,
        "nvidia": lambda o: NvidiaMeter(fake, gpus=o.gpus, environment=o.environment),
        "amd": absent,
        "apple": absent,
    }
    options = MeterOptions(powercap=powercap_tree(tmp_path), environment={"CUDA_VISIBLE_DEVICES": "1,2"})
    choice = choose_meters(options=options, openers=openers)
    assert [m.describe().meter for m in choice.meters] == ["nvidia", "rapl"]
    assert choice.explanation[0] == "nvidia: 2 × NVIDIA H100 80GB HBM3, measured"
    choice.close()
    assert fake.initialised == 0


def test_hardware_that_would_be_measured_wrongly_is_never_replaced_by_an_assumption() -> None:
    with pytest.raises(MeterError, match="MIG is on"):
        choose_meters(openers={**OPENERS, "nvidia": refusing})


def test_named_meters_are_opened_or_fail(tmp_path: Path) -> None:
    choice = choose_meters(["assumed", f"replay:{recorded(tmp_path)}"], MeterOptions(tdp_w=65.0))
    assert [m.describe().meter for m in choice.meters] == ["assumed", "replay"]
    with pytest.raises(UnknownNameError, match="'nvida'"):
        choose_meters(["nvida"])
    with pytest.raises(UsageError, match="needs a recording"):
        choose_meters(["replay"])
    with pytest.raises(EnvironmentLacksError):
        choose_meters(["assumed", "absent"], openers={**OPENERS, "absent": absent})


def test_third_parties_register_meters_by_entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "wall_meter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wall-meter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[joulemap.meters]\nwall = wall_meter_plugin:open_meter\nassumed = wall_meter_plugin:open_meter\n"
    )
    module = ModuleType("wall_meter_plugin")
    module.open_meter = lambda options: AssumedMeter(123.0)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wall_meter_plugin", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    (meter,) = choose_meters(["wall"]).meters
    assert "123 W" in meter.describe().notes[0]
    assert meter_openers()["assumed"] is OPENERS["assumed"]
