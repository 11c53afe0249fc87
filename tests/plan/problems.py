"""Small planning problems for tests, at random or by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import strategies as st

from joulemap.plan.problem import Floats, Problem, best_serving, value_of, violations


def problem(**changed: Any) -> Problem:
    """Return a problem with one site, one pool, one demand and two kinds of replica; arguments replace parts."""
    values: dict[str, Any] = {
        "power_w": np.array([1000.0, 2200.0]),
        "num_gpus": np.array([1.0, 2.0]),
        "rate_per_s": np.array([2.0, 6.0]),
        "site_of": np.array([0, 0]),
        "pool_of": np.array([0, 0]),
        "stream_of": np.array([0, 0]),
        "stream_demand": np.array([0]),
        "stream_weight": np.array([1.0]),
        "demand_priority": np.array([1]),
        "asked_per_s": np.array([[9.0]]),
        "cap_w": np.array([[5000.0]]),
        "pool_gpus": np.array([4.0]),
        "pool_price_usd": np.array([np.nan]),
        "cost_weight": np.array([[1.0], [2.2]]),
        "length_s": np.array([3600.0]),
    }
    return Problem(**(values | changed))


@st.composite
def problems(draw: st.DrawFn, *, periods: int = 1, fixed: bool = False, buys: bool = False) -> Problem:
    """Draw a problem small enough to try every plan."""
    count = draw(st.integers(1, 4))
    sites, pools, streams, demands = (draw(st.integers(1, 2)) for _ in range(4))
    streams = max(streams, demands)

    def numbers(low: float, high: float, *shape: int) -> Floats:
        size = int(np.prod(shape))
        values = draw(st.lists(st.floats(low, high), min_size=size, max_size=size))
        return np.array(values).reshape(shape)

    def indices(below: int, size: int) -> Any:
        return np.array(draw(st.lists(st.integers(0, below - 1), min_size=size, max_size=size)), dtype=np.intp)

    gpus = np.array(draw(st.lists(st.integers(0, 4), min_size=pools, max_size=pools)), dtype=float)
    pool_site = indices(sites, pools)
    pool_of = indices(pools, count)
    return Problem(
        power_w=numbers(500.0, 3000.0, count),
        num_gpus=np.array(draw(st.lists(st.integers(1, 2), min_size=count, max_size=count)), dtype=float),
        rate_per_s=numbers(0.5, 5.0, count),
        site_of=pool_site[pool_of],
        pool_of=pool_of,
        stream_of=indices(streams, count),
        stream_demand=np.concatenate([np.arange(demands), indices(demands, streams - demands)]).astype(np.intp),
        stream_weight=numbers(0.1, 3.0, streams),
        demand_priority=np.ones(demands, dtype=np.intp),
        asked_per_s=numbers(0.0, 12.0, demands, periods),
        cap_w=numbers(0.0, 9000.0, sites, periods),
        pool_gpus=np.full(pools, np.inf) if buys else gpus,
        pool_price_usd=numbers(1.0, 5.0, pools) if buys else np.full(pools, np.nan),
        cost_weight=numbers(0.1, 3.0, count, periods),
        length_s=np.full(periods, 3600.0),
        money_usd=draw(st.floats(1.0, 15.0)) if buys else float("inf"),
        fixed_replicas=fixed,
    )


def every_plan(problem: Problem) -> list[Floats]:
    """Return every plan that holds the limits, of shape (placements, periods)."""
    most = []
    for p in range(problem.placements):
        by_power = np.floor(problem.cap_w[problem.site_of[p]].max() / problem.power_w[p])
        pool = problem.pool_gpus[problem.pool_of[p]]
        most.append(int(min(by_power, pool / problem.num_gpus[p], 12)))
    columns = 1 if problem.fixed_replicas else problem.periods
    found = []
    for counts in itertools.product(*(range(m + 1) for m in most for _ in range(columns))):
        plan = np.array(counts, dtype=float).reshape(problem.placements, columns)
        plan = np.repeat(plan, problem.periods, axis=1) if problem.fixed_replicas else plan
        if not violations(problem, plan):
            found.append(plan)
    return found


def best_value(problem: Problem) -> float:
    """Return the greatest value of any plan, by trying every one."""
    return max(value_of(problem, best_serving(problem, plan)) for plan in every_plan(problem))


def least_cost(problem: Problem) -> float | None:
    """Return the least cost of any plan that serves everything; ``None`` if none does."""
    costs = [
        float((plan * problem.cost_weight).sum())
        for plan in every_plan(problem)
        if _all_served(problem, best_serving(problem, plan))
    ]
    return min(costs, default=None)


def _all_served(problem: Problem, served: Floats) -> bool:
    sums = np.zeros_like(problem.asked_per_s)
    np.add.at(sums, problem.stream_demand, served)
    return bool((sums >= problem.asked_per_s - 1e-7).all())
