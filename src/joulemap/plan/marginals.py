"""What one more kilowatt, or one more GPU, would be worth to a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from joulemap.plan.candidates import Candidates
from joulemap.plan.milp import duals, solve
from joulemap.plan.problem import Problem
from joulemap.plan.spec import PlanSpec
from joulemap.units import W_PER_KW

RESOLVABLE = 2_000
"""Placements × hours up to which the worth of one more kW or GPU is found by solving again."""
MARGINAL_GAP = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Marginal:
    """What one more of a resource would be worth, over the whole plan."""

    site: str
    resource: str
    """``power`` (one kW) or a GPU model (one GPU)."""
    value_per_unit: float | None
    """Found by solving again with one more; ``None`` where the plan is too large for that."""
    value_per_unit_relaxed: float | None
    """If replicas need not be whole: the dual of the linear relaxation; ``None`` unless value is the objective."""


def find_marginals(spec: PlanSpec, found: Candidates, *, time_limit_s: float) -> tuple[Marginal, ...]:
    """Return what one more kW of each site and one more GPU of each pool would be worth.

    Args:
        spec: What is asked.
        found: The planning problem.
        time_limit_s: Longest that one program may take.
    """
    problem = found.problem
    if problem.placements == 0:
        return ()
    by_value = spec.objective == "value"
    dual = duals(problem) if by_value else None
    resolvable = problem.placements * problem.periods <= RESOLVABLE and spec.power in ("mean", "rated")
    base = (
        solve(problem, serve_all=not by_value, gap=MARGINAL_GAP, time_limit_s=time_limit_s) if resolvable else None
    )

    def gained(raised: Problem) -> float | None:
        if base is None:
            return None
        more = solve(raised, serve_all=not by_value, gap=MARGINAL_GAP, time_limit_s=time_limit_s)
        return max((more.value - base.value) if by_value else (base.value - more.value), 0.0)

    made = []
    for s, site in enumerate(spec.sites):
        one = np.zeros_like(problem.cap_w)
        one[s] = W_PER_KW
        dual_w = None if dual is None else float(dual.value_per_w[s].sum() * W_PER_KW)
        made.append(
            Marginal(
                site=site.name,
                resource="power",
                value_per_unit=gained(replace(problem, cap_w=problem.cap_w + one)),
                value_per_unit_relaxed=dual_w,
            )
        )
    for k, (name, gpu) in enumerate(found.pool_names):
        if np.isinf(problem.pool_gpus[k]):
            continue
        more = problem.pool_gpus.copy()
        more[k] += 1
        dual_gpu = None if dual is None else float(dual.value_per_gpu[k].sum())
        made.append(
            Marginal(
                site=name,
                resource=gpu,
                value_per_unit=gained(replace(problem, pool_gpus=more)),
                value_per_unit_relaxed=dual_gpu,
            )
        )
    return tuple(made)
