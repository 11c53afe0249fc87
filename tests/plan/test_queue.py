"""The event simulation agrees with queueing theory where that is exact, and conserves work, time and energy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulemap.plan.problem import Floats
from joulemap.plan.simulate.arrivals import arrivals_at
from joulemap.plan.simulate.queue import QueueRun, simulate_queue
from joulemap.plan.simulate.replica import BatchCurve, Replica

REQUESTS = 120_000
FOREVER = ((0.0, math.inf),)


def replica(
    rates: list[float], powers: list[float] | None = None, on: tuple[tuple[float, float], ...] = FOREVER
) -> Replica:
    """Return a replica that serves each of b requests at ``rates[b - 1]``."""
    power = np.array(powers or [1.0] * (len(rates) + 1))
    curve = BatchCurve(
        rate_per_s=np.array([0.0, *rates]),
        power_w=power,
        itl_median_s=np.full(power.size, np.nan),
        ttft_s=np.zeros(power.size),
    )
    return Replica(curve=curve, site=0, facility_power_w=power, on_s=on)


def poisson(rate: float, count: int = REQUESTS, seed: int = 1) -> Floats:
    return np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, count))


def exponential(count: int = REQUESTS, seed: int = 2) -> Floats:
    return np.random.default_rng(seed).exponential(1.0, count)


def waits(run: QueueRun) -> Floats:
    return np.asarray(run.start_s - run.arrival_s)


def erlang_c(servers: int, load: float) -> float:
    """Return the probability of waiting in M/M/c."""
    full = load**servers / math.factorial(servers) / (1 - load / servers)
    return full / (sum(load**k / math.factorial(k) for k in range(servers)) + full)


@pytest.mark.parametrize(("servers", "rate"), [(1, 0.7), (2, 1.5), (5, 4.0)])
def test_mmc(servers: int, rate: float) -> None:
    run = simulate_queue(poisson(rate), exponential(), [replica([1.0]) for _ in range(servers)])
    wait = waits(run)
    assert (wait > 1e-9).mean() == pytest.approx(erlang_c(servers, rate), rel=0.03)
    assert wait.mean() == pytest.approx(erlang_c(servers, rate) / (servers - rate), rel=0.06)


def test_progress_is_told_by_requests_that_have_come() -> None:
    told: list[int] = []
    simulate_queue(poisson(0.5, 50_000), exponential(50_000), [replica([1.0])], progress=told.append)
    assert told == [0, 20_000, 40_000]


@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_md1(rate: float) -> None:
    # At this load waits are so correlated that the mean of 400,000 has a relative deviation of about 1.7 %.
    many = 400_000
    run = simulate_queue(poisson(rate, many), np.ones(many), [replica([1.0])])
    assert waits(run).mean() == pytest.approx(rate / (2 * (1 - rate)), rel=0.06)


@pytest.mark.parametrize("work", ["exponential", "constant"])
def test_processor_sharing_does_not_see_the_distribution_of_work(work: str) -> None:
    # M/G/1 processor sharing: the mean stay is 1 / (1 - load) whatever the distribution.
    lengths = exponential() if work == "exponential" else np.ones(REQUESTS)
    run = simulate_queue(poisson(0.7), lengths, [replica([1 / b for b in range(1, 201)])])
    assert (run.finish_s - run.arrival_s).mean() == pytest.approx(1 / 0.3, rel=0.05)


def test_without_limit_nobody_waits() -> None:
    # M/M/inf: the number that run together is Poisson with the load as its mean.
    run = simulate_queue(poisson(20.0), exponential(), [replica([1.0] * 100)])
    occupancy = run.occupancy_s[0] / run.occupancy_s[0].sum()
    batches = np.arange(occupancy.size)
    mean = float(occupancy @ batches)
    assert waits(run).max() == 0.0
    assert mean == pytest.approx(20.0, rel=0.02)
    assert float(occupancy @ (batches - mean) ** 2) == pytest.approx(20.0, rel=0.05)


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 6), st.floats(0.2, 5.0), st.integers(0, 100))
def test_work_time_and_energy_are_conserved(count: int, ceiling: int, rate: float, seed: int) -> None:
    rates = [1.0 / (1 + 0.1 * b) for b in range(ceiling)]
    powers = [10.0 + 3.0 * b for b in range(ceiling + 1)]
    fleet = [replica(rates, powers) for _ in range(count)]
    arrival, work = poisson(rate, 300, seed), exponential(300, seed + 1)
    run = simulate_queue(arrival, work, fleet)
    assert np.isfinite(run.finish_s).all()
    assert (run.start_s >= arrival).all()
    # Nobody is served faster than alone, or slower than at the ceiling.
    stay = run.finish_s - run.start_s
    assert (stay >= work / max(rates) - 1e-9).all()
    assert (stay <= work / min(rates) + 1e-9).all()
    done = sum(float(t @ (np.arange(t.size) * np.array([0.0, *rates]))) for t in run.occupancy_s)
    assert done == pytest.approx(float(work.sum()))
    # Little: requests together x time is the sum of stays.
    together = sum(float(t @ np.arange(t.size)) for t in run.occupancy_s)
    assert together == pytest.approx(float(stay.sum()))
    # The power curve and the occupancy tell of one energy, up to the last event that each replica saw.
    by_occupancy = sum(float(t @ np.array(powers)) for t in run.occupancy_s)
    seen = sum(float(t.sum()) for t in run.occupancy_s)
    level = np.cumsum(run.power_change_w)
    end = float(run.finish_s.max())
    by_curve = float((level * np.diff(np.append(run.power_change_s, end))).sum())
    assert by_curve == pytest.approx(by_occupancy + (count * end - seen) * powers[0])
    # First come first served.
    assert (np.diff(run.start_s[np.argsort(arrival, kind="stable")]) >= -1e-9).all()


def test_a_replica_that_is_switched_off_finishes_what_it_has() -> None:
    fleet = [replica([1.0], on=((0.0, 10.0),)), replica([1.0], on=((10.0, math.inf),))]
    run = simulate_queue(np.array([9.5, 9.6]), np.array([1.0, 1.0]), fleet)
    assert run.finish_s.tolist() == pytest.approx([10.5, 11.0])
    assert run.replica.tolist() == [0, 1]
    assert run.power_change_w.sum() == pytest.approx(1.0)  # the second one stays on, the first is off


def test_requests_that_no_replica_takes() -> None:
    run = simulate_queue(np.array([1.0, 2.0]), np.ones(2), [replica([1.0], on=((0.0, 1.5),))])
    assert np.isfinite(run.finish_s).tolist() == [True, False]
    assert simulate_queue(np.array([1.0]), np.ones(1), []).replica.tolist() == [-1]


@pytest.mark.parametrize("variation", [0.0, 1.0, 3.0])
def test_arrivals_have_the_rate_and_variation_asked_for(variation: float) -> None:
    at = arrivals_at(np.array([5.0] * 20), np.random.default_rng(3), variation=variation, step_s=1000.0)
    gaps = np.diff(at)
    assert at.size == pytest.approx(100_000, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, abs=0.05 * max(variation, 0.1))


def test_arrivals_follow_the_rate_by_step() -> None:
    at = arrivals_at(np.array([1.0, 10.0]), np.random.default_rng(4), step_s=10_000.0)
    assert (at < 10_000).sum() == pytest.approx(10_000, rel=0.05)
    assert (at >= 10_000).sum() == pytest.approx(100_000, rel=0.05)
