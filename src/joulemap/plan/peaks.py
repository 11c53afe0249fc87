"""Hold a percentile of a site's momentary power under the cap, not only its mean.

A replica's momentary power has mean μ and lies between 0 and its rating R, so that its variance is at most
μ (R − μ) (Bhatia and Davis 2000, A better bound on the variance, American Mathematical Monthly 107). Replicas that
vary independently add up to nearly a normal distribution, whose percentile is Σμ + z √Σσ². The root is concave: its
tangent at any point lies above it, so that a program with tangents is linear and never counts too little. Load that
all replicas share (the hours of the day) is not independent and belongs in the demands by hour.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from joulemap.plan.candidates import Candidates
from joulemap.plan.milp import Solution, solve
from joulemap.plan.problem import Floats, Problem
from joulemap.plan.spec import PlanSpec

QUANTILES = {"p95": 1.645, "p99": 2.326}
"""Standard normal quantiles."""
ROUNDS = 3


def variances_w2(found: Candidates) -> Floats:
    """Return the largest possible variance of each placement's facility power, in W²."""
    columns = found.placements.select(
        mean=pl.col("planned_power_w") * pl.col("pue"), rated=pl.col("rated_power_w") * pl.col("pue")
    )
    mean, rated = columns["mean"].to_numpy(), columns["rated"].to_numpy()
    return np.asarray(mean * np.maximum(rated - mean, 0.0))


def peak_power_w(problem: Problem, variances: Floats, replicas: Floats, quantile: float) -> Floats:
    """Return mean plus ``quantile`` deviations of each site's power; shape (sites, periods)."""
    mean, variance = np.zeros_like(problem.cap_w), np.zeros_like(problem.cap_w)
    np.add.at(mean, problem.site_of, replicas * problem.power_w[:, None])
    np.add.at(variance, problem.site_of, replicas * variances[:, None])
    return np.asarray(mean + quantile * np.sqrt(variance))


def solve_with_peaks(
    spec: PlanSpec, found: Candidates, *, serve_all: bool, gap: float, time_limit_s: float
) -> Solution:
    """Solve with the cap on a percentile of momentary power; arguments as for :func:`joulemap.plan.milp.solve`.

    Every round's plan holds the true percentile; the tangent's point is moved to the last plan's variance.
    """
    problem, variances = found.problem, variances_w2(found)
    quantile = QUANTILES[spec.power]
    at = _first_guess(problem, variances)
    best: Solution | None = None
    for _ in range(ROUNDS):
        solution = solve(
            _with_tangent(problem, variances, at, quantile), serve_all=serve_all, gap=gap, time_limit_s=time_limit_s
        )
        better = best is None or (solution.value < best.value if serve_all else solution.value > best.value)
        best = solution if better else best
        variance = np.zeros_like(problem.cap_w)
        np.add.at(variance, problem.site_of, solution.replicas * variances[:, None])
        at = np.maximum(variance.max(axis=1), at * 1e-3)
    assert best is not None
    return best


def _first_guess(problem: Problem, variances: Floats) -> Floats:
    """Return the variance of each site if it were filled with its mean replica."""
    guess = []
    for s in range(problem.cap_w.shape[0]):
        own = problem.site_of == s
        count = problem.cap_w[s].max() / max(float(problem.power_w[own].mean()), 1.0) if own.any() else 0.0
        guess.append(max(count * float(variances[own].mean()) if own.any() else 0.0, 1.0))
    return np.array(guess)


def _with_tangent(problem: Problem, variances: Floats, at: Floats, quantile: float) -> Problem:
    """Return the problem with √v ≤ (v / √v₀ + √v₀) / 2 in the place of each site's root."""
    root = np.sqrt(at)
    extra = quantile * variances / (2.0 * root[problem.site_of])
    return replace(
        problem,
        power_w=problem.power_w + extra,
        cap_w=np.maximum(problem.cap_w - quantile * root[:, None] / 2.0, 0.0),
    )
