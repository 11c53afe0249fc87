from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.clock import Clock
from joulemap.errors import MeterError
from joulemap.measure.meters.energy import EnergySource, WindowEnergy, energy_between, integrate
from joulemap.measure.meters.fake_nvml import FakeNvml, PowerProfile
from joulemap.measure.meters.meter import DeviceKind, DeviceReading, MeterDescription
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.meters.sampler import Sampler
from joulemap.records import Basis, Quantity
from tests.measure.hand_clock import BEGIN_MONO_S, HandClock

Recording = tuple[pl.DataFrame, MeterDescription]


class Rehearsal:
    """Fake GPUs under a power profile, sampled by a hand clock."""

    def __init__(self, gpus: int = 2, power: PowerProfile | None = None, counter_period_s: float = 0.02) -> None:
        self.clock = HandClock()
        clock: Clock = self.clock
        self.fake = FakeNvml(gpus, clock=clock, power=power, counter_period_s=counter_period_s)
        self.meter = NvidiaMeter(self.fake, environment={}, clock=clock)
        self.sampler = Sampler(self.meter, DeviceReading, clock=clock)

    def run(self, seconds_s: float, rate_hz: float = 10.0) -> None:
        for _ in range(round(seconds_s * rate_hz)):
            self.sampler.read_once()
            self.clock.sleep(1.0 / rate_hz)

    def between(self, begin_s: float, end_s: float) -> WindowEnergy:
        return energy_between(
            self.sampler.frame(), BEGIN_MONO_S + begin_s, BEGIN_MONO_S + end_s, self.meter.describe()
        )


def total(window: WindowEnergy, kind: DeviceKind = DeviceKind.GPU) -> Quantity:
    found = window.total(kind)
    assert isinstance(found, Quantity), found
    return found


def test_constant_power_over_a_window_between_readings() -> None:
    rehearsal = Rehearsal(gpus=2)
    rehearsal.run(13.0)
    window = rehearsal.between(1.03, 11.04)
    found = total(window)
    assert found.value == pytest.approx(2 * 300.0 * 10.01, rel=1e-6)
    assert found.basis is Basis.MEASURED
    assert found.low is not None
    assert found.high is not None
    # Each end may be off by the counter's period of 0.1 s: 2 × 0.1 s × 300 W a GPU.
    assert found.high - found.value == pytest.approx(2 * 2 * 0.1 * 300.0, rel=1e-3)
    assert [d.source for d in window.devices] == [EnergySource.COUNTER] * 2
    assert window.devices[0].disagreement == pytest.approx(0.0, abs=1e-6)
    assert window.warnings() == ()


def test_a_slow_counter_and_varying_power_stay_inside_the_interval() -> None:
    def power(_gpu: int, t: float) -> float:
        return 400.0 + 250.0 * math.sin(t * 2.1)

    rehearsal = Rehearsal(gpus=1, power=power, counter_period_s=0.1)
    rehearsal.run(20.0, rate_hz=37.0)
    for begin_s, end_s in ((1.0, 6.0), (2.345, 8.0), (3.0, 18.9)):
        grid = np.linspace(BEGIN_MONO_S + begin_s, BEGIN_MONO_S + end_s, 20001)
        truth_j = float(np.trapezoid([power(0, float(t)) for t in grid], grid))
        found = total(rehearsal.between(begin_s, end_s))
        assert found.low is not None
        assert found.high is not None
        assert found.low <= truth_j <= found.high
        assert found.value == pytest.approx(truth_j, rel=0.03)


def test_a_window_that_is_not_bracketed_is_refused() -> None:
    rehearsal = Rehearsal(gpus=1)
    rehearsal.run(5.0)
    for begin_s, end_s, where in (
        (-1.0, 3.0, "first reading is 1.00 s into"),
        (1.0, 9.0, "before the window's end"),
    ):
        window = rehearsal.between(begin_s, end_s)
        reason = window.total(DeviceKind.GPU)
        assert isinstance(reason, str)
        assert where in reason
        assert window.devices[0].energy_j is None


def test_a_gap_over_three_seconds_is_refused_and_a_shorter_one_is_not() -> None:
    rehearsal = Rehearsal(gpus=1)
    rehearsal.run(2.0)
    rehearsal.clock.sleep(2.5)
    rehearsal.run(2.0)
    rehearsal.clock.sleep(3.5)
    rehearsal.run(2.0)
    assert total(rehearsal.between(0.5, 6.0)).value == pytest.approx(300.0 * 5.5)
    reason = rehearsal.between(5.0, 11.0).total(DeviceKind.GPU)
    assert isinstance(reason, str)
    assert "gap of 3.6 s" in reason


def test_one_gpu_short_means_no_total() -> None:
    rehearsal = Rehearsal(gpus=3)
    rehearsal.run(5.0)
    frame = rehearsal.sampler.frame().filter(pl.col("device") != rehearsal.fake.gpus[1].uuid)
    window = energy_between(frame, BEGIN_MONO_S + 1, BEGIN_MONO_S + 4, rehearsal.meter.describe())
    reason = window.total(DeviceKind.GPU)
    assert isinstance(reason, str)
    assert rehearsal.fake.gpus[1].uuid in reason
    assert "no reading" in reason


def test_a_counter_reset_is_filled_from_power_and_noted() -> None:
    rehearsal = Rehearsal(gpus=1)
    rehearsal.run(5.0)
    rehearsal.fake.reset_counter(0)
    rehearsal.run(5.0)
    window = rehearsal.between(1.0, 9.0)
    assert total(window).value == pytest.approx(300.0 * 8.0, rel=0.02)
    assert any("reset" in w for w in window.warnings())


def test_a_stuck_counter_is_not_believed() -> None:
    rehearsal = Rehearsal(gpus=1)
    rehearsal.run(3.0)
    rehearsal.fake.gpus[0].stuck_energy_j = 900.0
    rehearsal.run(5.0)
    window = rehearsal.between(1.0, 7.0)
    (device,) = window.devices
    assert device.source is EnergySource.INTEGRATED
    assert "stood still" in device.missing["counter_j"]
    assert device.energy_j == pytest.approx(300.0 * 6.0)


def test_a_counter_that_contradicts_power_is_reported_with_both_numbers() -> None:
    rehearsal = Rehearsal(gpus=1)
    frame = pl.DataFrame(
        {
            "device": [rehearsal.fake.gpus[0].uuid] * 51,
            "t_mono_s": np.arange(51) * 0.1,
            "energy_j": np.arange(51) * 0.1 * 37.4,
            "power_w": np.full(51, 65.4),
        }
    )
    window = energy_between(frame, 0.0, 5.0, rehearsal.meter.describe())
    assert window.devices[0].disagreement == pytest.approx(327 / 187 - 1, rel=1e-3)
    (warning,) = window.warnings()
    assert "187.0 J" in warning
    assert "327.0 J" in warning


def test_without_a_counter_power_is_integrated() -> None:
    rehearsal = Rehearsal(gpus=1)
    rehearsal.fake.gpus[0].unsupported |= {83, "nvmlDeviceGetTotalEnergyConsumption"}
    meter = NvidiaMeter(rehearsal.fake, environment={}, clock=rehearsal.clock)
    assert meter.describe().counter_resolution_j is None
    sampler = Sampler(meter, DeviceReading, clock=rehearsal.clock)
    for _ in range(60):
        sampler.read_once()
        rehearsal.clock.sleep(0.1)
    window = energy_between(sampler.frame(), BEGIN_MONO_S + 0.5, BEGIN_MONO_S + 5.5, meter.describe())
    assert window.devices[0].source is EnergySource.INTEGRATED
    assert total(window).value == pytest.approx(1500.0)


def test_an_empty_recording_and_an_empty_window_are_told_apart() -> None:
    rehearsal = Rehearsal(gpus=1)
    empty = rehearsal.sampler.frame()
    reason = energy_between(empty, 0.0, 1.0, rehearsal.meter.describe()).total(DeviceKind.GPU)
    assert isinstance(reason, str)
    assert "no reading" in reason
    assert rehearsal.between(1.0, 2.0).total(DeviceKind.DRAM) == "the meter has no device of kind dram"
    with pytest.raises(MeterError, match="must end after it begins"):
        rehearsal.between(2.0, 2.0)


@given(
    st.lists(st.floats(0.0, 1000.0), min_size=3, max_size=40),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_windows_that_meet_add_up(powers: list[float], left: float, right: float) -> None:
    times = np.arange(len(powers), dtype=np.float64) * 0.5
    begin_s, end_s = 0.0, float(times[-1])
    cut_s = begin_s + (end_s - begin_s) * (0.01 + 0.98 * min(left, right))
    values = np.array(powers)
    whole = integrate(times, values, begin_s, end_s)
    parts = integrate(times, values, begin_s, cut_s) + integrate(times, values, cut_s, end_s)
    assert parts == pytest.approx(whole, rel=1e-9, abs=1e-9)
    assert 0.0 <= whole <= max(powers) * end_s + 1e-9
