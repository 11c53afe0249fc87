"""The contract that every meter keeps: real ones where this machine has them, replay, assumed, and fakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from joulemap.clock import Clock, SystemClock
from joulemap.errors import EnvironmentLacksError
from joulemap.measure.meters.amd import AmdMeter
from joulemap.measure.meters.apple import AppleMeter
from joulemap.measure.meters.assumed import AssumedMeter
from joulemap.measure.meters.choice import DETECTED, MeterOptions, meter_openers
from joulemap.measure.meters.energy import energy_between
from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.meter import DeviceReading, Meter
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.meters.rapl import RaplMeter
from joulemap.measure.meters.replay import ReplayMeter, write_recording
from joulemap.measure.meters.sampler import Sampler
from joulemap.records import Basis
from tests.measure.hand_clock import HandClock
from tests.measure.meters.fakes import (
    FakeAmdSmi,
    FakeAppleMonitor,
    FakeCpuTimes,
    advance_powercap,
    powercap_tree,
)


@dataclass
class Rig:
    """A meter with the means to let time pass for it."""

    meter: Meter
    clock: Clock
    pass_time: Callable[[float], None]
    watts: float | None
    """Power of each device, where the rig knows it."""
    basis: Basis


def nvidia(_folder: Path) -> Rig:
    clock = HandClock()
    meter = NvidiaMeter(FakeNvml(8, clock=clock), environment={}, clock=clock)
    return Rig(meter, clock, clock.sleep, 300.0, Basis.MEASURED)


def amd(_folder: Path) -> Rig:
    clock = HandClock()
    meter = AmdMeter(FakeAmdSmi(clock), environment={}, clock=clock)
    return Rig(meter, clock, clock.sleep, 500.0, Basis.MEASURED)


def apple(_folder: Path) -> Rig:
    clock = HandClock()
    return Rig(AppleMeter(FakeAppleMonitor(clock), clock=clock), clock, clock.sleep, None, Basis.MODELLED)


def rapl(folder: Path) -> Rig:
    clock = HandClock()
    root = powercap_tree(folder)

    def pass_time(seconds_s: float) -> None:
        clock.sleep(seconds_s)
        advance_powercap(root, seconds_s)

    return Rig(RaplMeter(root, clock=clock), clock, pass_time, 100.0, Basis.MEASURED)


def assumed(_folder: Path) -> Rig:
    clock = HandClock()
    meter = AssumedMeter(40.0, clock=clock, times=FakeCpuTimes(clock))
    return Rig(meter, clock, clock.sleep, 20.0, Basis.ASSUMED)


def replay(folder: Path) -> Rig:
    clock = HandClock()
    recorded = NvidiaMeter(FakeNvml(2, clock=clock), environment={}, clock=clock)
    sampler = Sampler(recorded, DeviceReading, clock=clock)
    for _ in range(200):
        sampler.read_once()
        clock.sleep(0.1)
    write_recording(sampler.frame(), recorded.describe(), folder / "recording.parquet")
    return Rig(ReplayMeter(folder / "recording.parquet", clock=clock), clock, clock.sleep, 300.0, Basis.MEASURED)


def assumed_of_this_machine(_folder: Path) -> Rig:
    clock = SystemClock()
    return Rig(AssumedMeter(clock=clock), clock, clock.sleep, None, Basis.ASSUMED)


def _real(name: str) -> Callable[[Path], Rig]:
    def open_real(_folder: Path) -> Rig:
        try:
            meter = meter_openers()[name](MeterOptions())
        except EnvironmentLacksError as error:
            pytest.skip(f"no real {name} meter here: {error.message}")
        clock = SystemClock()
        return Rig(meter, clock, clock.sleep, None, meter.describe().basis)

    return open_real


RIGS: dict[str, Callable[[Path], Rig]] = {
    "fake nvidia": nvidia,
    "fake amd": amd,
    "fake apple": apple,
    "fake rapl": rapl,
    "assumed": assumed,
    "assumed of this machine": assumed_of_this_machine,
    "replay": replay,
    **{f"real {name}": _real(name) for name in DETECTED},
}


@pytest.fixture(params=RIGS, ids=list(RIGS))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = RIGS[request.param](tmp_path)
    yield made
    made.meter.close()


def test_describes_itself_the_same_way_twice_with_unique_devices(rig: Rig) -> None:
    description = rig.meter.describe()
    assert description == rig.meter.describe()
    assert description.meter
    assert description.basis is rig.basis
    assert len(set(description.device_names)) == len(description.devices) > 0


def test_every_read_has_the_described_devices_and_stamps_that_move_forward(rig: Rig) -> None:
    stamps = []
    for _ in range(3):
        before_s = rig.clock.monotonic_s()
        reading = rig.meter.read()
        # A replayed reading bears the time at which it was recorded, one sample earlier at most.
        assert before_s - 0.11 <= reading.mono_s <= rig.clock.monotonic_s()
        assert reading.wall.tzinfo is not None
        assert tuple(row.device for row in reading.rows) == rig.meter.describe().device_names
        stamps.append(reading.mono_s)
        rig.pass_time(0.2)
    assert stamps == sorted(set(stamps))


def test_numbers_are_finite_and_what_is_missing_has_a_reason(rig: Rig) -> None:
    rig.meter.read()
    rig.pass_time(0.2)
    numbers = [f.name for f in fields(DeviceReading) if f.name not in {"device", "throttle", "missing"}]
    for row in rig.meter.read().rows:
        given = {name: getattr(row, name) for name in numbers}
        assert all(math.isfinite(value) for value in given.values() if value is not None)
        assert all(row.missing[name] for name in row.missing)
        assert all(given.get(name) is None for name in row.missing)
        assert row.energy_j is not None or row.missing["energy_j"]
        assert row.power_w is not None or row.missing["power_w"]
        for share in (row.utilization, row.memory_utilization):
            assert share is None or 0.0 <= share <= 1.0


def test_energy_counts_up_and_agrees_with_power(rig: Rig) -> None:
    sampler = Sampler(rig.meter, DeviceReading, clock=rig.clock)
    for _ in range(30):
        assert sampler.read_once()
        rig.pass_time(0.1)
    frame = sampler.frame()
    times = frame["t_mono_s"].unique().sort()
    # An energy counter that is slow to read is not in every reading; a window waits for the next that holds it.
    counted = frame.drop_nulls("energy_j")["t_mono_s"].unique().sort()
    end_s = min(times[-2], counted[-1]) if len(counted) else times[-2]
    window = energy_between(frame, times[2], end_s, rig.meter.describe())
    for device in window.devices:
        assert device.energy_j is not None, device.missing
        assert device.low_j is not None
        assert device.high_j is not None
        assert 0.0 <= device.low_j <= device.energy_j <= device.high_j
        if rig.watts is not None:
            assert device.energy_j == pytest.approx(rig.watts * window.duration_s, rel=0.01)
            assert device.disagreement == pytest.approx(0.0, abs=0.03)


def test_closing_twice_does_nothing(rig: Rig) -> None:
    rig.meter.close()
    rig.meter.close()
