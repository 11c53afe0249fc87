"""What has to give where a plan cannot serve everything: the fewest limits, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, hstack, vstack

from joulemap.plan.milp import program_of
from joulemap.plan.problem import Problem

AMOUNT_WEIGHT = 1e-3
"""Weight of how much is relaxed beside how many limits are: enough to break ties, never to add a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """One limit that has to be relaxed."""

    kind: str
    """``power``, ``gpus`` or ``demand``."""
    position: int
    """Of the site, pool or demand."""
    value: float
    """Watts or GPUs more; of a demand, the rate per second to do without at its worst hour."""


def smallest_relaxation(
    problem: Problem, *, may_drop_demand: bool, time_limit_s: float = 20.0
) -> list[Relaxed] | None:
    """Return the smallest set of limits whose relaxing lets everything be served, and then the least amounts.

    An elastic program: each cap, pool and demand gets an amount by which it gives, the same in every period, and a
    switch that says whether it does; the number of switches is made least.

    Args:
        problem: The problem.
        may_drop_demand: Count a demand's rate among the limits that may give.
        time_limit_s: Longest to look.

    Returns:
        What gives; ``None`` if nothing helps (or nothing was found in time).
    """
    if problem.placements == 0:
        return None
    program = program_of(problem)
    sites, pools, demands = problem.cap_w.shape[0], problem.pool_gpus.size, problem.asked_per_s.shape[0]
    periods, columns = problem.periods, program.integrality.size
    counts = (sites, pools, demands if may_drop_demand else 0)
    amounts = sum(counts)
    # Most that each could usefully give: power and GPUs for the whole demand by the worst of all options.
    asked = problem.asked_per_s.max(axis=1)
    copies = np.ceil(asked[problem.stream_demand[problem.stream_of]] / problem.rate_per_s) + 1.0
    most = np.concatenate(
        [
            np.full(sites, (copies * problem.power_w).max() * demands / 1e3),
            np.full(pools, (copies * problem.num_gpus).max() * demands),
            asked[: counts[2]],
        ]
    )
    first = np.cumsum([0, sites, pools, problem.stream_demand.size]) * periods
    rows, cols = [], []
    for offset, count, start in (
        (first[0], sites, 0),
        (first[1], pools, sites),
        (first[3], counts[2], sites + pools),
    ):
        for k in range(count):
            rows += list(range(offset + k * periods, offset + (k + 1) * periods))
            cols += [start + k] * periods
    sign = np.where(np.array(cols) >= sites + pools, 1.0, -1.0)
    gives = csr_array((sign, (rows, cols)), shape=(program.upper.size, amounts))
    switch = csr_array((program.upper.size, amounts))
    matrix = hstack([program.upper_matrix, gives, switch])
    on = hstack([csr_array((amounts, columns)), csr_array(np.eye(amounts)), csr_array(-np.diag(most))])
    lower = np.full(program.upper.size + amounts, -np.inf)
    demand_rows = slice(first[3], first[3] + demands * periods)
    lower[demand_rows] = program.upper[demand_rows]
    integrality = np.concatenate(
        [program.integrality, np.zeros(sites), np.ones(pools), np.zeros(counts[2]), np.ones(amounts)]
    ).astype(np.intp)
    highest = program.highest.copy()
    highest[: program.columns_n] = np.where(
        np.isfinite(highest[: program.columns_n]),
        np.maximum(highest[: program.columns_n], _copies(copies, program.columns_n)),
        highest[: program.columns_n],
    )
    objective = np.concatenate([np.zeros(columns), AMOUNT_WEIGHT * 1.0 / np.maximum(most, 1e-9), np.ones(amounts)])
    result = milp(
        objective,
        integrality=integrality,
        bounds=Bounds(np.zeros(objective.size), np.concatenate([highest, most, np.ones(amounts)])),
        constraints=LinearConstraint(
            vstack([matrix, on]), lower, np.concatenate([program.upper, np.zeros(amounts)])
        ),
        options={"time_limit": time_limit_s, "mip_rel_gap": 1e-6},
    )
    if result.x is None:
        return None
    given = result.x[columns : columns + amounts]
    kinds = ["power"] * sites + ["gpus"] * pools + ["demand"] * counts[2]
    starts = [*range(sites), *range(pools), *range(counts[2])]
    scale = {"power": 1e3, "gpus": 1.0, "demand": 1.0}
    return [
        Relaxed(kind=kind, position=position, value=float(amount) * scale[kind])
        for kind, position, amount in zip(kinds, starts, given, strict=True)
        if amount > 1e-6 * scale[kind] / 1e3
    ]


def _copies(
    copies: np.ndarray[tuple[int], np.dtype[np.float64]], columns: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.repeat(copies, columns // copies.size)
