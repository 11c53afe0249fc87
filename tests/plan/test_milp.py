"""The solver finds what trying every plan finds, and never breaks a limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from joulemap.errors import InfeasibleError
from joulemap.plan.milp import duals, solve
from joulemap.plan.problem import Problem, best_serving, site_power_w, value_of, violations
from tests.plan.problems import best_value, every_plan, least_cost, problem, problems

NEARLY = 1e-5


@settings(max_examples=80)
@given(problems())
def test_value_is_that_of_trying_every_plan(small: Problem) -> None:
    found = solve(small, gap=0.0)
    assert found.value == pytest.approx(best_value(small), rel=NEARLY, abs=1e-3)
    assert found.bound >= found.value * (1 - NEARLY)
    assert violations(small, found.replicas) == []
    assert (site_power_w(small, found.replicas) <= small.cap_w).all()
    assert value_of(small, best_serving(small, found.replicas)) == pytest.approx(found.value)


@settings(max_examples=40)
@given(problems())
def test_least_cost_at_full_service_is_that_of_trying_every_plan(small: Problem) -> None:
    wanted = least_cost(small)
    if wanted is None:
        with pytest.raises(InfeasibleError):
            solve(small, serve_all=True, gap=0.0)
        return
    assert solve(small, serve_all=True, gap=0.0).value == pytest.approx(wanted, rel=NEARLY, abs=1e-6)


@settings(max_examples=25)
@given(problems(buys=True))
def test_purchases_are_those_of_trying_every_plan(small: Problem) -> None:
    found = solve(small, gap=0.0)
    assert violations(small, found.replicas) == []
    assert found.value == pytest.approx(best_value(small), rel=NEARLY, abs=1e-3)


@settings(max_examples=20)
@given(problems(periods=2, fixed=True))
def test_replicas_that_stay_are_those_of_trying_every_plan(small: Problem) -> None:
    found = solve(small, gap=0.0)
    assert (found.replicas[:, 0] == found.replicas[:, 1]).all()
    assert found.value == pytest.approx(best_value(small), rel=NEARLY, abs=1e-3)


@settings(max_examples=20)
@given(problems(periods=3))
def test_hours_by_themselves_hold_every_limit(small: Problem) -> None:
    found = solve(small, gap=0.0)
    assert violations(small, found.replicas) == []


def test_a_plan_by_hand() -> None:
    # 5 kW and 4 GPUs: two large replicas serve 12/s at 4.4 kW, more than the 9/s that are asked.
    found = solve(problem(), gap=0.0)
    assert found.value == pytest.approx(9.0 * 3600)
    # Of the plans that serve 9/s, one large and two small ones (10/s) draw less: 4.2 kW.
    assert found.replicas[:, 0].tolist() == [2.0, 1.0]


def test_higher_priority_is_served_first_though_worth_less() -> None:
    two = problem(
        stream_of=np.array([0, 1]),
        stream_demand=np.array([0, 1]),
        stream_weight=np.array([0.1, 10.0]),
        demand_priority=np.array([2, 1]),
        asked_per_s=np.array([[6.0], [6.0]]),
        cap_w=np.array([[3000.0]]),
    )
    found = solve(two, gap=0.0)
    assert found.replicas[:, 0].tolist() == [3.0, 0.0]


def test_duals_of_a_capped_problem() -> None:
    # The better replica gives 6/s for 2.2 kW: one more kW is worth 6 / 2.2 x 3600.
    capped = problem(asked_per_s=np.array([[1000.0]]), pool_gpus=np.array([1000.0]))
    found = duals(capped)
    assert found.value_per_w[0, 0] == pytest.approx(6.0 / 2.2 * 3600 / 1000, rel=1e-6)
    assert found.value_per_gpu[0, 0] == 0.0


def test_violations_are_seen() -> None:
    over = np.array([[6.0], [0.0]])
    assert len(violations(problem(), over)) == 2  # power and GPUs


def test_every_plan_is_counted() -> None:
    # n1 + 2 n2 <= 4 GPUs and n1 + 2.2 n2 <= 5 kW: (0..4,0), (0..2,1), (0,2).
    assert len(every_plan(problem())) == 9
