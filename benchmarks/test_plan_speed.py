"""Planning and simulating, against the limits set for 2 cores.

Run with ``pytest benchmarks/test_plan_speed.py --benchmark-enable -s``.
"""

from __future__ import annotations

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.test_study_speed import report
from joulemap.plan.milp import solve
from joulemap.plan.problem import Problem, violations
from joulemap.plan.simulate.queue import simulate_queue
from joulemap.plan.simulate.replica import BatchCurve, Replica

PLAN_LIMIT_S, SIMULATION_LIMIT_S = 20.0, 60.0
CONFIGURATIONS, TASKS, HOURS = 200, 20, 24
REQUESTS, DAY_S = 1_000_000, 86_400.0


def problem(seed: int = 0) -> Problem:
    """Return a problem in which every configuration may serve every task, with power for about half of them."""
    rng = np.random.default_rng(seed)
    count = CONFIGURATIONS * TASKS
    task = np.repeat(np.arange(TASKS), CONFIGURATIONS)
    configuration = np.tile(np.arange(CONFIGURATIONS), TASKS)
    gpus = rng.choice([1.0, 2.0, 4.0, 8.0], CONFIGURATIONS)[configuration]
    power_w = gpus * (600 + 400 * rng.random(count)) * 1.4
    hours = np.arange(HOURS)
    asked = (50 + 400 * rng.random(TASKS))[:, None] * (1 + 0.5 * np.sin(hours * 2 * np.pi / 24))
    asked = asked * (1 + 0.05 * rng.random((TASKS, HOURS)))
    return Problem(
        power_w=power_w,
        num_gpus=gpus,
        rate_per_s=gpus * (1 + 4 * rng.random(count)),
        site_of=np.zeros(count, dtype=np.intp),
        pool_of=rng.integers(0, 3, CONFIGURATIONS)[configuration],
        stream_of=task,
        stream_demand=np.arange(TASKS),
        stream_weight=1 + rng.random(TASKS),
        demand_priority=np.ones(TASKS, dtype=np.intp),
        asked_per_s=asked,
        cap_w=np.full((1, HOURS), asked.sum(axis=0).max() / 3 * 900 * 1.4 * 0.5),
        pool_gpus=np.array([400.0, 400.0, 400.0]),
        pool_price_usd=np.full(3, np.nan),
        cost_weight=np.repeat(power_w[:, None], HOURS, axis=1),
        length_s=np.full(HOURS, 3600.0),
    )


def test_a_day_of_twenty_tasks(benchmark: BenchmarkFixture) -> None:
    asked = problem()
    found = benchmark.pedantic(lambda: solve(asked, gap=0.01), rounds=1)  # type: ignore[no-untyped-call]
    assert violations(asked, found.replicas) == []
    assert found.gap <= 0.01
    report(f"plan of {CONFIGURATIONS} x {TASKS} x {HOURS}", benchmark, PLAN_LIMIT_S)


def test_a_day_of_a_million_requests(benchmark: BenchmarkFixture) -> None:
    rng = np.random.default_rng(0)
    batch = np.arange(257.0)
    curve = BatchCurve(
        rate_per_s=np.where(batch > 0, 0.08 / (1 + batch / 128), 0.0),
        power_w=300 + 2 * batch,
        itl_median_s=np.full(257, 0.03),
        ttft_s=np.zeros(257),
    )
    fleet = [Replica(curve=curve, site=0, facility_power_w=curve.power_w, on_s=((0.0, np.inf),)) for _ in range(8)]
    arrival = np.sort(rng.uniform(0.0, DAY_S, REQUESTS))
    work = rng.exponential(1.0, REQUESTS)
    run = benchmark.pedantic(lambda: simulate_queue(arrival, work, fleet), rounds=1)  # type: ignore[no-untyped-call]
    assert np.isfinite(run.finish_s).all()
    report("simulation of a million requests", benchmark, SIMULATION_LIMIT_S)
