"""Solve a planning problem as a mixed-integer linear program with HiGHS, through SciPy.

Variables: replicas ``n[p, t]`` (whole), served rate ``y[s, t]``, and bought GPUs ``g[k]`` (whole). Constraints, for
each period t: Σ power[p] n[p, t] ≤ cap of each site; Σ gpus[p] n[p, t] ≤ GPUs of each pool (or g);
y[s, t] ≤ Σ rate[p] n[p, t] of each stream; Σ y[s, t] ≤ what each demand asks; Σ price[k] g[k] ≤ money.

Reference: Huangfu and Hall 2018, Parallelizing the dual revised simplex method (HiGHS).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array, csr_array

from joulemap.errors import InfeasibleError
from joulemap.plan.problem import (
    CAP_MARGIN,
    Floats,
    Index,
    Problem,
    best_serving,
    placements_of,
    site_power_w,
    undominated,
    value_of,
    violations,
)

GAP = 0.01
"""Relative gap at which a solution counts as good enough."""
TIME_LIMIT_S = 60.0
"""Longest that one program may be worked on."""
_POWER_UNIT_W = 1e3
"""Power enters the program in kilowatts, so that its numbers are of like size."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """The best plan found, and how much better one could at most be."""

    replicas: Floats
    """Whole numbers; shape (placements, periods)."""
    served_per_s: Floats
    """Shape (streams, periods)."""
    value: float
    """The objective: value of what is served, or the cost to be least."""
    bound: float
    """No plan can be better than this."""

    @property
    def gap(self) -> float:
        """How far the bound lies from the value, relative to the value; 0 is proven optimal."""
        if abs(self.value) < 1e-12:
            return 0.0 if abs(self.bound) < 1e-9 else float("inf")
        return abs(self.bound - self.value) / abs(self.value)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """The matrices of a problem.

    Variables in order: replicas by placement, served rate by stream (both by period), bought GPUs by pool.
    """

    upper_matrix: Any
    """Rows: power (sites), GPUs (pools), streams, demands (each by period), money."""
    upper: Floats
    integrality: Index
    highest: Floats
    columns_n: int
    columns_y: int


def solve(
    problem: Problem,
    *,
    serve_all: bool = False,
    gap: float = GAP,
    time_limit_s: float = TIME_LIMIT_S,
    margin: float = 0.0,
) -> Solution:
    """Return the best plan.

    Periods that do not hang together are solved one by one, which is exact. So is leaving out a kind of replica to
    which another of its pool and stream is equal or better in power, GPUs, rate and cost.

    Args:
        problem: The problem.
        serve_all: Serve every demand in full at least cost, instead of the greatest value.
        gap: Relative gap at which to stop.
        time_limit_s: For each program.
        margin: Share of each cap that is kept free.

    Raises:
        InfeasibleError: ``serve_all`` is asked for and cannot be done; or no plan was found in time.
    """
    lowered = replace(problem, cap_w=problem.cap_w * (1.0 - margin))
    if problem.coupled or problem.periods == 1:
        solution = _solve_one(lowered, serve_all=serve_all, gap=gap, time_limit_s=time_limit_s)
    else:
        solution = _solve_periods(lowered, serve_all=serve_all, gap=gap, time_limit_s=time_limit_s)
    broken = violations(problem, solution.replicas)
    if broken and margin == 0.0:  # by less than the solver's tolerance: once more, with room for that
        return solve(problem, serve_all=serve_all, gap=gap, time_limit_s=time_limit_s, margin=CAP_MARGIN)
    if broken:  # a plan over the cap is worse than none
        msg = "the solver's plan breaks a limit, and is not given out: " + "; ".join(broken[:3])
        raise InfeasibleError(msg, fix="lower the cap a little, or report this plan file")
    return solution


def _solve_periods(problem: Problem, *, serve_all: bool, gap: float, time_limit_s: float) -> Solution:
    """Solve each period by itself; periods that are alike are solved once."""
    found: dict[bytes, Solution] = {}
    parts = []
    for t in range(problem.periods):
        one = period_of(problem, t)
        key = b"".join(a.tobytes() for a in (one.asked_per_s, one.cap_w, one.cost_weight, one.length_s))
        if key not in found:
            found[key] = _solve_one(one, serve_all=serve_all, gap=gap, time_limit_s=time_limit_s)
        parts.append(found[key])
    return Solution(
        replicas=np.concatenate([p.replicas for p in parts], axis=1),
        served_per_s=np.concatenate([p.served_per_s for p in parts], axis=1),
        value=sum(p.value for p in parts),
        bound=sum(p.bound for p in parts),
    )


def period_of(problem: Problem, period: int) -> Problem:
    """Return the problem of one period alone."""
    at = slice(period, period + 1)
    return replace(
        problem,
        asked_per_s=problem.asked_per_s[:, at],
        cap_w=problem.cap_w[:, at],
        cost_weight=problem.cost_weight[:, at],
        length_s=problem.length_s[at],
    )


def _solve_one(problem: Problem, *, serve_all: bool, gap: float, time_limit_s: float) -> Solution:
    if problem.placements == 0:
        return _nothing(problem, serve_all=serve_all)
    kept = undominated(problem)
    if not kept.all():
        fewer = _solve_one(placements_of(problem, kept), serve_all=serve_all, gap=gap, time_limit_s=time_limit_s)
        replicas = np.zeros((problem.placements, problem.periods))
        replicas[kept] = fewer.replicas
        return replace(fewer, replicas=replicas)
    program = program_of(problem)
    limits: dict[str, float] = {"mip_rel_gap": gap / 2, "time_limit": time_limit_s}
    if serve_all:
        cost = _over(program, problem.cost_weight.ravel())
        least = _milp(program, cost, limits, demands_equal=_demand_rows(problem))
        return _solution(problem, program, least, value=float(least.fun), bound=float(least.mip_dual_bound))
    worth = _worth(problem)
    extra: list[LinearConstraint] = []
    value = bound = 0.0
    result: Any = None
    # Demands of higher priority first; what they reach is then held while the next are served.
    for priority in np.unique(problem.demand_priority)[::-1]:
        own = problem.demand_priority[problem.stream_demand] == priority
        gain = _over(program, served=np.where(own[:, None], worth, 0.0).ravel())
        result = _milp(program, -gain, limits, extra)
        value -= float(result.fun)
        bound -= float(result.mip_dual_bound)
        extra.append(LinearConstraint(gain, lb=-float(result.fun) * (1.0 - 1e-9) - 1e-9))
    found = _solution(problem, program, result, value=value, bound=bound)
    value = value_of(problem, found.served_per_s)
    found = replace(found, value=value, bound=max(bound, value))
    return _leaner(problem, program, found, limits | {"mip_rel_gap": gap})


def _leaner(problem: Problem, program: Program, found: Solution, limits: dict[str, float]) -> Solution:
    """Return a plan of the same value that draws less power, if one is found."""
    asked = value_of(problem, best_serving(problem, np.full(found.replicas.shape, 1e9)))
    if found.value >= asked * (1.0 - 1e-6):
        # All is served: whatever power is left over need not be drawn. (Where power binds, none is left over.)
        power = _over(program, np.repeat(problem.power_w / _POWER_UNIT_W, problem.periods))
        gain = _over(program, served=_worth(problem).ravel())
        keep = [LinearConstraint(gain, lb=asked * (1.0 - 1e-7))]
        result = _milp(program, power, limits, keep, may_fail=True)
        if result is not None:
            leaner = _solution(problem, program, result, value=found.value, bound=found.bound)
            if site_power_w(problem, leaner.replicas).sum() < site_power_w(problem, found.replicas).sum():
                found = replace(leaner, bound=max(found.bound, leaner.value))
    return trimmed(problem, found)


def trimmed(problem: Problem, found: Solution) -> Solution:
    """Return the plan without the replicas that add nothing to what is served, largest first."""
    replicas = found.replicas.copy()
    periods = [slice(None)] if problem.fixed_replicas else [slice(t, t + 1) for t in range(problem.periods)]
    for t in periods:
        capacity = np.zeros((problem.stream_demand.size, replicas[:, t].shape[1]))
        np.add.at(capacity, problem.stream_of, replicas[:, t] * problem.rate_per_s[:, None])
        spare = (capacity - found.served_per_s[:, t]).min(axis=1)
        for p in np.argsort(-problem.power_w, kind="stable"):
            stream, rate = problem.stream_of[p], problem.rate_per_s[p]
            unneeded = min(float(np.floor(spare[stream] / rate + 1e-12)), float(replicas[p, t].min()))
            if unneeded >= 1.0:
                replicas[p, t] -= unneeded
                spare[stream] -= unneeded * rate
    return replace(found, replicas=replicas)


def _nothing(problem: Problem, *, serve_all: bool) -> Solution:
    if serve_all and problem.asked_per_s.sum() > 0:
        msg = "no configuration can serve what is asked"
        raise InfeasibleError(msg)
    return Solution(
        replicas=np.zeros((0, problem.periods)),
        served_per_s=np.zeros((problem.stream_demand.size, problem.periods)),
        value=0.0,
        bound=0.0,
    )


def _worth(problem: Problem) -> Floats:
    """Return what one request per second of each stream is worth over each period."""
    return np.asarray(problem.stream_weight[:, None] * problem.length_s[None, :])


def _over(program: Program, replicas: Floats | None = None, served: Floats | None = None) -> Floats:
    """Return an objective over all variables from its parts."""
    found = np.zeros(program.integrality.size)
    if replicas is not None:
        found[: program.columns_n] = _folded(replicas, program.columns_n)
    if served is not None:
        found[program.columns_n : program.columns_n + program.columns_y] = served
    return found


def _folded(weights: Floats, columns: int) -> Floats:
    """Sum weights by placement and period over periods where replicas are the same in all."""
    return weights if weights.size == columns else weights.reshape(columns, -1).sum(axis=1)


def _milp(
    program: Program,
    objective: Floats,
    limits: Any,
    extra: list[LinearConstraint] | None = None,
    *,
    demands_equal: slice | None = None,
    may_fail: bool = False,
) -> Any:
    lower = np.full(program.upper.size, -np.inf)
    if demands_equal is not None:
        lower[demands_equal] = program.upper[demands_equal]
    # HiGHS works best with an objective near 1.
    scale = float(np.abs(objective).max()) or 1.0
    with _silenced():
        result = milp(
            objective / scale,
            integrality=program.integrality,
            bounds=Bounds(np.zeros(program.highest.size), program.highest),
            constraints=[LinearConstraint(program.upper_matrix, lower, program.upper), *(extra or [])],
            options=limits,
        )
    if result.x is None:
        if may_fail:
            return None
        if result.status == 1:
            msg = f"no plan was found within {limits['time_limit']:g} s"
            raise InfeasibleError(msg, fix="allow more time (--time-limit), or plan fewer hours or models")
        msg = "no plan serves every demand in full within the power caps and GPUs"
        raise InfeasibleError(msg)
    result.fun *= scale
    result.mip_dual_bound = result.fun if result.mip_dual_bound is None else result.mip_dual_bound * scale
    return result


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep HiGHS, which on some programs prints a line whatever its options say, off standard output."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _solution(problem: Problem, program: Program, result: Any, *, value: float, bound: float) -> Solution:
    replicas = np.rint(result.x[: program.columns_n])
    shape = (problem.placements, problem.periods)
    whole = (
        np.repeat(replicas, problem.periods).reshape(shape) if problem.fixed_replicas else replicas.reshape(shape)
    )
    served = best_serving(problem, whole)
    return Solution(replicas=whole, served_per_s=served, value=value, bound=bound)


def _demand_rows(problem: Problem) -> slice:
    """Return the rows of the demands' constraints."""
    before = problem.cap_w.shape[0] + problem.pool_gpus.size + problem.stream_demand.size
    count = problem.asked_per_s.shape[0]
    return slice(before * problem.periods, (before + count) * problem.periods)


def program_of(problem: Problem) -> Program:
    """Return the matrices of a problem."""
    periods, count = problem.periods, problem.placements
    streams, demands = problem.stream_demand.size, problem.asked_per_s.shape[0]
    sites, pools = problem.cap_w.shape[0], problem.pool_gpus.size
    columns_n = count if problem.fixed_replicas else count * periods
    columns_y = streams * periods
    columns = columns_n + columns_y + (pools if problem.buys else 0)

    place, t = np.divmod(np.arange(count * periods), periods)
    n_column = place if problem.fixed_replicas else np.arange(count * periods)
    stream, y_t = np.divmod(np.arange(columns_y), periods)
    y_column = columns_n + np.arange(columns_y)
    first = np.cumsum([0, sites, pools, streams, demands]) * periods
    blocks = [
        (first[0] + problem.site_of[place] * periods + t, n_column, problem.power_w[place] / _POWER_UNIT_W),
        (first[1] + problem.pool_of[place] * periods + t, n_column, problem.num_gpus[place]),
        (first[2] + problem.stream_of[place] * periods + t, n_column, -problem.rate_per_s[place]),
        (first[2] + stream * periods + y_t, y_column, np.ones(columns_y)),
        (first[3] + problem.stream_demand[stream] * periods + y_t, y_column, np.ones(columns_y)),
    ]
    bought = np.isinf(problem.pool_gpus)
    gpus = np.where(bought, 0.0 if problem.buys else np.inf, problem.pool_gpus)
    limits = [
        problem.cap_w.ravel() / _POWER_UNIT_W,
        np.repeat(gpus, periods),
        np.zeros(columns_y),
        problem.asked_per_s.ravel(),
    ]
    rows = first[4]
    if problem.buys:
        pool, g_t = np.divmod(np.arange(pools * periods), periods)
        g_column = columns_n + columns_y + pool
        blocks.append((first[1] + pool * periods + g_t, g_column, np.where(bought, -1.0, 0.0)[pool]))
        prices = np.where(bought, problem.pool_price_usd, 0.0) / problem.money_usd
        blocks.append((np.full(pools, rows), columns_n + columns_y + np.arange(pools), prices))
        limits.append(np.ones(1))
        rows += 1
    row, column, entry = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    matrix = csr_array(coo_array((entry, (row, column)), shape=(rows, columns)))
    integrality = np.ones(columns, dtype=np.intp)
    integrality[columns_n : columns_n + columns_y] = 0
    return Program(
        upper_matrix=matrix,
        upper=np.concatenate(limits),
        integrality=integrality,
        highest=_most(problem, columns, columns_n),
        columns_n=columns_n,
        columns_y=columns_y,
    )


def _most(problem: Problem, columns: int, columns_n: int) -> Floats:
    """Return the most that each variable can usefully be: enough replicas for the whole demand, and not more."""
    asked = problem.asked_per_s[problem.stream_demand[problem.stream_of]]
    most = np.ceil(asked / problem.rate_per_s[:, None])
    with np.errstate(divide="ignore"):
        most = np.minimum(most, np.floor(problem.pool_gpus[problem.pool_of] / problem.num_gpus)[:, None])
    highest = np.full(columns, np.inf)
    highest[:columns_n] = (most.max(axis=1) if problem.fixed_replicas else most).ravel()
    return highest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Duals:
    """What one more unit would be worth where replicas need not be whole: duals of the linear relaxation."""

    value_per_w: Floats
    """Value per watt of each site's cap; shape (sites, periods)."""
    value_per_gpu: Floats
    """Value per GPU of each pool; shape (pools, periods)."""


def duals(problem: Problem) -> Duals:
    """Return the duals of the linear relaxation of serving the greatest value."""
    sites, pools, periods = problem.cap_w.shape[0], problem.pool_gpus.size, problem.periods
    if problem.placements == 0:
        return Duals(value_per_w=np.zeros((sites, periods)), value_per_gpu=np.zeros((pools, periods)))
    program = program_of(problem)
    gain = _over(program, served=_worth(problem).ravel())
    scale = float(np.abs(gain).max()) or 1.0
    finite = np.isfinite(program.upper)
    relaxation: Any = linprog  # the stubs know no sparse matrices
    result = relaxation(
        -gain / scale,
        A_ub=program.upper_matrix[finite],
        b_ub=program.upper[finite],
        bounds=np.stack([np.zeros(program.highest.size), program.highest], axis=1),
        method="highs",
    )
    marginal = np.zeros(program.upper.size)
    marginal[finite] = -result.ineqlin.marginals * scale
    power, gpus = sites * periods, (sites + pools) * periods
    return Duals(
        value_per_w=marginal[:power].reshape(sites, periods) / _POWER_UNIT_W,
        value_per_gpu=marginal[power:gpus].reshape(pools, periods),
    )
