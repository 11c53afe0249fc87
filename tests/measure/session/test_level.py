"""One level, from its start to its verdict, with time moved by hand."""

from __future__ import annotations

import math

import pytest

from joulemap.measure.session.level import Pace
from joulemap.measure.session.windows import estimate
from tests.measure.session.scripted import Bench, ScriptedWork


def test_steady_work_is_measured_and_valid() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock)
    outcome = bench.run(work)
    told = estimate(outcome.windows)
    assert told is not None
    assert told.energy_per_output_j is not None
    assert told.energy_per_output_j.value == pytest.approx(3.0, rel=1e-3)
    assert told.power_w.value == pytest.approx(300.0, rel=1e-3)
    assert len(outcome.windows) == 3  # nothing varies, so that three windows are enough
    assert all(w.duration_s >= 5.0 - 1e-9 for w in outcome.windows)
    verdict = bench.verdict(work, outcome)
    assert verdict.valid, verdict.reasons


def test_windows_begin_when_batch_is_full_and_ramp_is_over() -> None:
    bench = Bench(power=lambda t: min(300.0, 100.0 + 10.0 * t))
    work = ScriptedWork(bench.clock, rate=lambda t: min(100.0, 5.0 * t), filling=lambda t: min(8.0, t))
    outcome = bench.run(work)
    assert outcome.settled
    assert outcome.begin_s - work.begin_s >= 18.0
    assert bench.verdict(work, outcome).valid


def test_a_batch_that_never_fills_is_invalid() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock, filling=lambda _t: 5.0)
    outcome = bench.run(work, Pace(max_warm_up_s=10.0, max_duration_s=60.0))
    verdict = bench.verdict(work, outcome)
    assert not verdict.valid
    assert any("batch not full" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("quantity", ["throughput", "power"])
def test_a_drift_makes_a_run_invalid(quantity: str) -> None:
    def drift(t: float) -> float:
        return 1.0 + 0.01 * t

    bench = Bench(power=(lambda t: 300.0 * drift(t)) if quantity == "power" else (lambda _t: 300.0))
    work = ScriptedWork(
        bench.clock, rate=(lambda t: 100.0 * drift(t)) if quantity == "throughput" else (lambda _t: 100.0)
    )
    pace = Pace(max_warm_up_s=10.0, min_windows=6)
    verdict = bench.verdict(work, bench.run(work, pace), pace)
    assert not verdict.valid
    assert any(reason.startswith(f"not steady: {quantity}") for reason in verdict.reasons)


def test_work_that_dies_keeps_its_complete_windows() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock, dies_at_s=17.0)
    outcome = bench.run(work, Pace(min_windows=10))
    assert outcome.error is not None
    assert 1 <= len(outcome.windows) < 3
    verdict = bench.verdict(work, outcome)
    assert not verdict.valid
    assert any("ended early: the engine died" in reason for reason in verdict.reasons)


def test_ctrl_c_keeps_the_complete_windows() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock, interrupted_at_s=28.0)
    outcome = bench.run(work, Pace(min_windows=10))
    assert outcome.interrupted
    assert len(outcome.windows) >= 3
    verdict = bench.verdict(work, outcome)
    assert verdict.valid
    assert any("interrupted" in reason for reason in verdict.reasons)


def test_a_meter_that_stops_ends_the_level_with_what_it_had() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock)

    def lose() -> None:
        bench.gpu.lost = bench.clock.monotonic_s() - work.begin_s > 20.0

    bench.clock.on_step.append(lose)
    outcome = bench.run(work, Pace(min_windows=10))
    assert outcome.error is not None
    assert "stopped answering" in outcome.error.message
    assert outcome.windows
    assert not bench.verdict(work, outcome).valid


def test_a_meter_that_stands_still_gives_no_false_energy() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock)

    def stick() -> None:
        if bench.clock.monotonic_s() - work.begin_s > 12.0 and bench.gpu.stuck_energy_j is None:
            bench.gpu.stuck_energy_j = bench.instruments.frames()["power"]["energy_j"][-1]

    bench.clock.on_step.append(stick)
    outcome = bench.run(work)
    told = estimate(outcome.windows)
    assert told is not None
    # Integrated power stands in for the counter; it is right here.
    assert told.power_w.value == pytest.approx(300.0, rel=0.02)


def test_a_counter_that_leaps_is_not_believed() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock)

    def leap() -> None:
        if bench.clock.monotonic_s() - work.begin_s > 12.0:
            bench.gpu.energy_offset_j = 1e6

    bench.clock.on_step.append(leap)
    verdict = bench.verdict(work, bench.run(work))
    assert not verdict.valid
    assert any("contradicts itself" in reason for reason in verdict.reasons)


def test_a_counter_that_is_reset_loses_nothing_and_is_told() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock)

    def reset() -> None:
        if 13.95 < bench.clock.monotonic_s() - work.begin_s < 14.05:
            bench.gpu.energy_offset_j = -(300.0 * (bench.clock.monotonic_s() - work.begin_s))

    bench.clock.on_step.append(reset)
    outcome = bench.run(work)
    told = estimate(outcome.windows)
    assert told is not None
    assert told.power_w.value == pytest.approx(300.0, rel=0.02)
    assert any("counter was reset" in reason for reason in bench.verdict(work, outcome).reasons)


def test_a_stepped_wall_clock_is_told() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock)

    def step() -> None:
        if bench.clock.monotonic_s() - work.begin_s > 14.0:
            bench.clock.wall_offset_s = 3600.0

    bench.clock.on_step.append(step)
    outcome = bench.run(work)
    told = estimate(outcome.windows)
    assert told is not None
    assert told.power_w.value == pytest.approx(300.0, rel=1e-3)  # durations stand on the monotonic clock
    verdict = bench.verdict(work, outcome)
    assert not verdict.valid
    assert any("clock step" in reason for reason in verdict.reasons)


def test_a_warming_gpu_is_told() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock)

    def warm() -> None:
        bench.gpu.temperature_c = round(40 + bench.clock.monotonic_s() - work.begin_s)

    bench.clock.on_step.append(warm)
    outcome = bench.run(work)
    assert any("thermal drift" in reason for reason in bench.verdict(work, outcome).reasons)


def test_windows_hold_whole_units_of_work() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock, unit_s=3.7)
    outcome = bench.run(work)
    for window in outcome.windows:
        units = window.duration_s / 3.7
        assert units == pytest.approx(round(units), abs=1e-6)
        assert window.duration_s >= 5.0


def test_uneven_work_is_measured_until_its_interval_is_narrow() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock, rate=lambda t: 100.0 + 30.0 * math.sin(2.1 * t))
    wide = len(bench.run(work, Pace(confidence_width_fraction=0.2, max_duration_s=300.0)).windows)
    other = Bench()
    work = ScriptedWork(other.clock, rate=lambda t: 100.0 + 30.0 * math.sin(2.1 * t))
    narrow = len(other.run(work, Pace(confidence_width_fraction=0.01, max_duration_s=300.0)).windows)
    assert wide < narrow <= 12


def test_the_works_own_faults_count() -> None:
    bench = Bench()
    work = ScriptedWork(bench.clock, faults=("the load client lagged",))
    assert "the load client lagged" in bench.verdict(work, bench.run(work)).reasons
