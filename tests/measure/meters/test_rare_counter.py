"""A counter that is read more rarely than power: planted powers, whose energy is known by arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from joulemap.measure.meters.energy import DeviceEnergy, EnergySource, energy_between
from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.meter import DeviceKind, DeviceReading, MeterDescription, MeterDevice
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.meters.replay import ReplayMeter, write_recording
from joulemap.measure.meters.sampler import Sampler
from joulemap.measure.session.instruments import Instruments
from joulemap.records import Basis, Quantity
from tests.measure.hand_clock import BEGIN_MONO_S, HandClock
from tests.measure.session.scripted import DrivenClock

Series = NDArray[np.float64]
GPU = "GPU-0"
METER = MeterDescription(
    meter="planted",
    devices=(MeterDevice(device=GPU, kind=DeviceKind.GPU, name="planted", index=0),),
    basis=Basis.MEASURED,
    counter_resolution_j=0.001,
)
DELAYED = MeterDescription(
    meter=METER.meter,
    devices=METER.devices,
    basis=METER.basis,
    counter_resolution_j=METER.counter_resolution_j,
    counter_period_s=0.1,
    power_delay_s=0.1,
)
SECONDS_S = 10


def counted(power: Series, every: int = 10, scale: float = 1.0) -> pl.DataFrame:
    """Return readings at 10 Hz of a power that goes straight from sample to sample, some with the counter.

    ``every`` is how many readings apart those are; ``scale`` is what the sensor shows of what is drawn.
    """
    times = np.arange(len(power)) * 0.1
    energy = np.concatenate(([0.0], np.cumsum(0.05 * (power[1:] + power[:-1])))) + 5000.0
    told: list[float | None] = [float(e) if i % every == 0 else None for i, e in enumerate(energy)]
    return pl.DataFrame({"device": GPU, "t_mono_s": times, "energy_j": told, "power_w": power * scale})


def steps(*levels: tuple[int, float]) -> Series:
    """Return powers: so many samples at each level."""
    return np.concatenate([np.full(samples, level) for samples, level in levels])


def between(
    frame: pl.DataFrame, begin_s: float, end_s: float, description: MeterDescription = METER
) -> DeviceEnergy:
    (device,) = energy_between(frame, begin_s, end_s, description).devices
    return device


def truth_j(power: Series, begin_s: float, end_s: float) -> float:
    grid = np.unique(np.concatenate((np.arange(len(power)) * 0.1, [begin_s, end_s])))
    grid = grid[(grid >= begin_s) & (grid <= end_s)]
    return float(np.trapezoid(np.interp(grid, np.arange(len(power)) * 0.1, power), grid))


def test_a_step_of_power_between_two_readings_of_the_counter_is_put_where_it_was() -> None:
    power = steps((35, 100.0), (30, 700.0), (36, 100.0))
    frame = counted(power)
    for begin_s, end_s in ((1.0, 3.4), (3.4, 6.4), (3.0, 6.65), (2.25, 3.75), (1.0, 9.0), (3.6, 3.9)):
        found = between(frame, begin_s, end_s)
        assert found.source is EnergySource.COUNTER
        assert found.energy_j == pytest.approx(truth_j(power, begin_s, end_s), rel=1e-9)
    # An even spread would have put half of the second's 365 J into its first 0.4 s; the counter reads 3 s and 4 s.
    assert between(frame, 3.0, 3.4).energy_j == pytest.approx(40.0)


def test_power_is_scaled_to_what_the_counter_says() -> None:
    power = steps((35, 100.0), (30, 700.0), (36, 100.0))
    frame = counted(power, scale=0.8)
    found = between(frame, 2.25, 6.75)
    assert found.energy_j == pytest.approx(truth_j(power, 2.25, 6.75), rel=1e-9)
    assert found.integrated_j == pytest.approx(0.8 * truth_j(power, 2.25, 6.75), rel=1e-9)
    assert found.disagreement == pytest.approx(-0.2)


@given(
    st.lists(st.floats(0.0, 1000.0), min_size=41, max_size=41),
    st.lists(st.floats(0.0, 4.0), min_size=3, max_size=6, unique=True),
    st.floats(0.5, 1.5),
    st.booleans(),
)
def test_windows_that_meet_sum_to_the_whole(
    levels: list[float], moments: list[float], scale: float, blind: bool
) -> None:
    power = np.array(levels)
    frame = counted(power, scale=scale)
    if blind:
        frame = frame.with_columns(power_w=pl.lit(None, dtype=pl.Float64))
    edges = [0.0, *(m for m in sorted(moments) if 0.001 < m < 3.999), 4.0]
    edges = [edges[0], *(b for a, b in pairwise(edges) if b - a > 1e-6)]
    parts = [between(frame, a, b).counter_j for a, b in pairwise(edges)]
    if any(part is None for part in parts):
        return  # power that falls to nothing while the counter stands still: nothing is counted, nothing is claimed
    counter = frame["energy_j"].drop_nulls()
    assert sum(part or 0.0 for part in parts) == pytest.approx(counter[-1] - counter[0], rel=1e-9, abs=1e-6)


def test_without_power_the_counter_is_spread_evenly_and_the_interval_says_so() -> None:
    power = steps((35, 100.0), (30, 700.0), (36, 100.0))
    frame = counted(power).with_columns(power_w=pl.lit(None, dtype=pl.Float64))
    found = between(frame, 3.4, 6.0)
    # From 3 s to 4 s: 0.4 × 100 W, a tenth of a second from 100 to 700 W, and 0.5 s at 700 W.
    second_j = 40.0 + 40.0 + 350.0
    assert found.energy_j == pytest.approx(0.6 * second_j + 2 * 700.0)
    assert found.low_j is not None
    assert found.high_j is not None
    assert found.high_j - found.low_j == pytest.approx(2 * (0.4 * second_j + 0.002))
    assert found.low_j <= truth_j(power, 3.4, 6.0) <= found.high_j
    exact = between(frame, 3.0, 6.0)
    assert exact.high_j == pytest.approx(exact.energy_j, abs=0.01)


def test_the_interval_is_narrow_while_power_is_steady_and_opens_where_it_jumps_at_an_edge() -> None:
    steady = between(counted(np.full(101, 300.0)), 2.35, 7.65, DELAYED)
    assert steady.high_j is not None
    assert steady.energy_j is not None
    # What the counter's period leaves open at both ends, and its resolution: as if it were read each time.
    assert steady.high_j - steady.energy_j == pytest.approx(2 * 0.1 * 300.0 + 0.002)
    jumping = between(counted(steps((75, 300.0), (26, 600.0))), 2.35, 7.65, DELAYED)
    assert jumping.high_j is not None
    assert jumping.energy_j is not None
    mean_w = jumping.energy_j / 5.3
    # The jump of 300 W lies somewhere in 0.1 s (half of it is open), and may be shown 0.1 s late.
    assert jumping.high_j - jumping.energy_j == pytest.approx(2 * 0.1 * mean_w + 0.002 + 300.0 * 0.15)


@given(st.integers(0, 2**31), st.floats(0.55, 3.0), st.floats(3.2, 8.9), st.floats(0.0, 0.1))
def test_what_was_drawn_lies_in_the_interval_whatever_power_did(
    seed: int, begin_s: float, end_s: float, delay_s: float
) -> None:
    rng = np.random.default_rng(seed)
    fine = 1000
    changes = np.sort(rng.uniform(0.0, SECONDS_S, 12))
    levels = rng.uniform(60.0, 700.0, 13)

    def power_at(times: Series) -> Series:
        return levels[np.searchsorted(changes, times)]

    grid = np.arange(SECONDS_S * fine + 1) / fine
    total = np.concatenate(([0.0], np.cumsum(power_at(grid[:-1] + 0.5 / fine)) / fine))
    times = np.arange(SECONDS_S * 10 + 1) * 0.1
    frame = pl.DataFrame(
        {
            "device": GPU,
            "t_mono_s": times,
            "energy_j": [float(np.interp(t, grid, total)) if i % 10 == 0 else None for i, t in enumerate(times)],
            "power_w": power_at(np.maximum(0.0, times - delay_s)),
        }
    )
    found = between(frame, begin_s, end_s, DELAYED)
    drawn_j = float(np.interp(end_s, grid, total) - np.interp(begin_s, grid, total))
    assert found.low_j is not None
    assert found.high_j is not None
    assert found.low_j <= drawn_j <= found.high_j


def test_a_counter_that_falls_between_rare_readings_is_seen_and_filled_from_power() -> None:
    power = steps((45, 200.0), (56, 500.0))
    frame = counted(power)
    fallen = pl.when(pl.col("t_mono_s") > 4.95).then(pl.col("energy_j") - 5500.0).otherwise(pl.col("energy_j"))
    frame = frame.with_columns(energy_j=fallen)
    for begin_s, end_s in ((2.0, 8.0), (4.3, 8.0), (2.0, 4.7)):
        found = between(frame, begin_s, end_s)
        assert found.source is EnergySource.COUNTER
        assert found.energy_j == pytest.approx(truth_j(power, begin_s, end_s), rel=1e-9)
        assert any("reset" in note for note in found.notes)
    blind = between(frame.with_columns(power_w=pl.lit(None, dtype=pl.Float64)), 2.0, 8.0)
    assert blind.energy_j is None
    assert "no power reading to fill" in blind.missing["energy_j"]


def test_a_counter_that_stands_still_is_found_though_it_is_read_rarely() -> None:
    frame = counted(np.full(101, 300.0))
    still = pl.when(pl.col("energy_j").is_not_null()).then(pl.min_horizontal("energy_j", pl.lit(5900.0)))
    frame = frame.with_columns(energy_j=still)
    found = between(frame, 1.0, 6.0)
    assert found.source is EnergySource.INTEGRATED
    assert "stood still for 3.0 s" in found.missing["counter_j"]
    assert found.energy_j == pytest.approx(1500.0)
    # One repetition is enough, and the absence of readings in between is not standing still.
    assert between(frame, 1.0, 3.5).source is EnergySource.INTEGRATED
    assert between(frame, 0.5, 2.9).source is EnergySource.COUNTER


def sampled(power: Callable[[int, float], float], seconds_s: float, clock: HandClock) -> Sampler[DeviceReading]:
    fake = FakeNvml(1, power=power, clock=clock)
    meter = NvidiaMeter(fake, environment={}, clock=clock)
    sampler = Sampler(meter, DeviceReading, clock=clock, counter="energy_j")
    for _ in range(round(seconds_s * 10)):
        sampler.read_once()
        clock.sleep(0.1)
    return sampler


def test_a_samplers_frame_reaches_back_to_the_counter_that_brackets_a_window() -> None:
    sampler = sampled(lambda _g, _t: 300.0, 12.0, HandClock())
    whole = sampler.frame()
    for since_s in (0.35, 3.95, 7.0, 9.99):
        part = sampler.frame(BEGIN_MONO_S + since_s)
        before = part.filter(pl.col("t_mono_s") <= BEGIN_MONO_S + since_s)
        assert before["energy_j"][0] is not None
        assert before.height <= 11
        assert part.equals(whole.tail(part.height))
    counted_s = sampler.counted_s()
    assert counted_s == whole.drop_nulls("energy_j")["t_mono_s"][-1]


def test_windows_of_a_session_wait_for_the_counter_and_rest_on_it() -> None:
    clock = DrivenClock()
    fake = FakeNvml(2, power=lambda _g, t: 200.0 if t < BEGIN_MONO_S + 5.25 else 600.0, clock=clock)
    meter = NvidiaMeter(fake, environment={}, clock=clock)
    with_counter = Instruments([meter], clock=clock)
    clock.on_step.append(with_counter.read_once)
    clock.sleep(2.0)
    end_s = BEGIN_MONO_S + 7.35
    reads = 0
    while with_counter.read_until_s() < end_s:
        clock.sleep(0.1)
        reads += 1
        assert reads < 70
    found = with_counter.energy(BEGIN_MONO_S + 3.35, end_s)
    assert isinstance(found, Quantity)
    assert found.value == pytest.approx(2 * (1.9 * 200.0 + 2.1 * 600.0), rel=0.02)
    (energies,) = with_counter.energies(BEGIN_MONO_S + 3.35, end_s)
    assert [d.source for d in energies.devices] == [EnergySource.COUNTER] * 2
    # A counter that answers no more is not waited for for ever.
    for gpu in fake.gpus:
        gpu.unsupported |= {83, "nvmlDeviceGetTotalEnergyConsumption"}
    clock.sleep(4.5)
    assert with_counter.read_until_s() == pytest.approx(clock.monotonic_s())


def test_a_recording_with_a_rare_counter_is_replayed_at_any_rate_with_its_energy(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    clock = HandClock()
    recorded = sampled(lambda _g, t: 300.0 if t % 4.0 < 2.0 else 500.0, 30.0, clock)
    file = tmp_path_factory.mktemp("recording") / "power.parquet"
    meter = NvidiaMeter(FakeNvml(1, clock=clock), environment={}, clock=clock)
    write_recording(recorded.frame(), meter.describe(), file)
    for rate_hz in (1.0, 3.0, 10.0):
        clock = HandClock()
        replay = ReplayMeter(file, clock=clock)
        assert replay.describe().power_delay_s == meter.describe().power_delay_s
        sampler = Sampler(replay, DeviceReading, clock=clock, counter="energy_j")
        clock.sleep(0.03)
        for _ in range(round(24 * rate_hz)):
            assert sampler.read_once()
            clock.sleep(1.0 / rate_hz)
        frame = sampler.frame()
        times = frame["t_mono_s"]
        assert times.is_sorted()
        begin_s, end_s = float(times[0]) + 2.0, float(times[0]) + 18.0
        (device,) = energy_between(frame, begin_s, end_s, replay.describe()).devices
        assert device.source is EnergySource.COUNTER
        assert device.energy_j == pytest.approx(16.0 * 400.0, rel=0.02)
