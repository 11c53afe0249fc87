from __future__ import annotations

import threading
import time
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.clock import SystemClock
from joulemap.errors import MeterError, UsageError
from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.meter import DeviceReading, MeterReading, Reading
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.meters.sampler import Sampler, moment, next_tick
from tests.measure.hand_clock import HandClock


class SlowSource:
    """Takes some time over each read, and can be made to fail or hang."""

    def __init__(self, seconds_s: float = 0.0) -> None:
        self.seconds_s = seconds_s
        self.error: Exception | None = None
        self.hang = threading.Event()
        self.clock = SystemClock()
        self.reads = 0

    def read(self) -> MeterReading:
        if self.error is not None:
            raise self.error
        if self.hang.is_set():
            time.sleep(2.0)
        time.sleep(self.seconds_s)
        self.reads += 1
        rows = (DeviceReading(device="d", power_w=float(self.reads), missing={"energy_j": "none"}),)
        return Reading(wall=self.clock.now(), mono_s=self.clock.monotonic_s(), rows=rows)

    def close(self) -> None:
        pass


def test_schedule_does_not_drift() -> None:
    source = SlowSource()
    with Sampler(source, DeviceReading, rate_hz=50.0) as sampler:
        time.sleep(1.0)
    times = sampler.frame()["t_mono_s"].to_numpy()
    late_s = (times[1:-1] - times[0]) % 0.02
    # Each read is late by its own wake-up alone: with drift the lateness would grow to whole periods.
    assert abs(len(times) + sampler.status().skipped - 51) <= 3
    assert sorted(late_s)[len(late_s) // 2] < 0.01


def test_late_reads_are_skipped_not_made_up_for() -> None:
    source = SlowSource(0.05)
    with Sampler(source, DeviceReading, rate_hz=100.0) as sampler:
        time.sleep(0.5)
    status = sampler.status()
    assert status.reads == source.reads
    assert status.skipped >= 20
    assert min(sampler.frame()["t_mono_s"].diff().drop_nulls()) >= 0.045


@given(st.floats(0, 1e6), st.floats(1e-3, 10.0), st.floats(0, 1e4))
def test_next_tick_is_ahead_by_at_most_a_period(begin_s: float, period_s: float, passed_s: float) -> None:
    now_s = begin_s + passed_s
    due_s = begin_s + next_tick(begin_s, period_s, now_s) * period_s
    assert now_s - 1e-6 <= due_s <= now_s + period_s + 1e-6


def test_a_source_that_stops_keeps_what_was_measured_and_names_the_error() -> None:
    source = SlowSource()
    sampler = Sampler(source, DeviceReading, rate_hz=100.0)
    sampler.start()
    time.sleep(0.1)
    source.error = MeterError("the cable is out")
    time.sleep(0.1)
    sampler.stop()
    status = sampler.status()
    assert str(status.error) == "the cable is out"
    assert sampler.frame().height == status.reads == source.reads > 5


def test_a_third_partys_crash_is_named_too() -> None:
    source = SlowSource()
    sampler = Sampler(source, DeviceReading)
    sampler.read_once()
    source.error = ZeroDivisionError("division by zero")
    assert not sampler.read_once()
    error = sampler.status().error
    assert isinstance(error, MeterError)
    assert "ZeroDivisionError: division by zero" in error.message
    assert sampler.frame().height == 1


def test_a_source_that_fails_at_once_fails_the_start() -> None:
    source = SlowSource()
    source.error = MeterError("no answer")
    with pytest.raises(MeterError, match="no answer"):
        Sampler(source, DeviceReading).start()


def test_a_source_that_hangs_is_left_behind() -> None:
    source = SlowSource()
    sampler = Sampler(source, DeviceReading, rate_hz=100.0)
    sampler.start()
    source.hang.set()
    time.sleep(0.05)
    begin_s = time.monotonic()
    sampler.stop(timeout_s=0.2)
    assert time.monotonic() - begin_s < 1.0
    assert "did not answer within 0.2 s" in str(sampler.status().error)
    assert sampler.frame().height >= 1
    time.sleep(2.0)


def test_frame_has_nulls_for_what_is_missing_and_stamps_in_utc() -> None:
    clock = HandClock()
    fake = FakeNvml(2, clock=clock)
    fake.gpus[1].unsupported.add(fake.NVML_FI_DEV_MEMORY_TEMP)
    meter = NvidiaMeter(fake, environment={}, clock=clock)
    sampler = Sampler(meter, DeviceReading, clock=clock)
    for _ in range(3000):
        sampler.read_once()
        clock.sleep(0.1)
    frame = sampler.frame()
    assert frame.height == 6000
    assert frame.schema["t_wall"] == pl.Datetime("us", "UTC")
    per_gpu = frame.group_by("device", maintain_order=True).agg(pl.col("memory_temperature_c").null_count())
    assert per_gpu["memory_temperature_c"].to_list() == [0, 3000]
    assert sampler.status().missing[fake.gpus[1].uuid]["memory_temperature_c"] == "Not Supported"
    assert frame["t_mono_s"][-1] - frame["t_mono_s"][0] == pytest.approx(299.9)
    assert frame["t_wall"][-1] - frame["t_wall"][0] == pytest.approx(
        timedelta(seconds=299.9), abs=timedelta(milliseconds=1)
    )
    assert frame["throttle"].unique().to_list() == [""]


def test_a_stepped_wall_clock_is_noticed_and_durations_stay_right() -> None:
    clock = HandClock()
    sampler = Sampler(
        NvidiaMeter(FakeNvml(1, clock=clock), environment={}, clock=clock), DeviceReading, clock=clock
    )
    for i in range(10):
        if i == 5:
            clock.wall_offset_s = -3600.0
        sampler.read_once()
        clock.sleep(0.1)
    (step,) = sampler.status().clock_steps
    assert step.step_s == pytest.approx(-3600.0)
    frame = sampler.frame()
    assert step.mono_s == pytest.approx(frame["t_mono_s"][5])
    assert frame["t_mono_s"].diff().drop_nulls().to_list() == pytest.approx([0.1] * 9)


def test_a_wall_clock_moment_is_found_in_the_frame() -> None:
    clock = HandClock()
    sampler = Sampler(
        NvidiaMeter(FakeNvml(1, clock=clock), environment={}, clock=clock), DeviceReading, clock=clock
    )
    for _ in range(10):
        sampler.read_once()
        clock.sleep(0.1)
    assert moment(sampler.frame(), clock.now()) == pytest.approx(clock.monotonic_s(), abs=1e-5)
    with pytest.raises(MeterError, match="empty"):
        moment(sampler.frame().clear(), clock.now())


def test_every_reading_is_handed_on() -> None:
    seen: list[MeterReading] = []
    sampler = Sampler(SlowSource(), DeviceReading, on_read=seen.append)
    sampler.read_once()
    assert sampler.latest() is seen[0]


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_means_nothing_is_refused(rate_hz: float) -> None:
    with pytest.raises(UsageError, match="positive"):
        Sampler(SlowSource(), DeviceReading, rate_hz=rate_hz)


def test_a_frame_of_the_newest_readings_still_brackets_its_begin() -> None:
    clock = HandClock()
    sampler = Sampler(
        NvidiaMeter(FakeNvml(2, clock=clock), environment={}, clock=clock), DeviceReading, clock=clock
    )
    for _ in range(10):
        sampler.read_once()
        clock.sleep(1.0)
    whole = sampler.frame()
    for since_s, rows in ((1003.5, 14), (1003.0, 14), (0.0, 20), (9999.0, 2)):
        part = sampler.frame(since_s)
        assert part.equals(whole.tail(rows)), since_s
