"""The planning problem as numbers: what each kind of replica gives and takes, and what there is to take."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

CAP_MARGIN = 1e-6
"""Share of a cap that is kept free where the solver's tolerance would carry a plan over it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """Whole numbers of replicas to choose, so that streams of requests are served within power and GPUs.

    A *placement* is one kind of replica (an option) in one pool of one site, serving one *stream*: a demand at one
    worth of a served request. A *period* is an hour, or several alike.
    """

    power_w: Floats
    """Facility power of one replica, as counted against the cap; shape (placements,)."""
    num_gpus: Floats
    """GPUs of one replica; shape (placements,)."""
    rate_per_s: Floats
    """Requests (or outputs) that one replica serves per second; shape (placements,)."""
    site_of: Index
    """Site of each placement."""
    pool_of: Index
    """Pool of each placement."""
    stream_of: Index
    """Stream of each placement."""
    stream_demand: Index
    """Demand of each stream."""
    stream_weight: Floats
    """Worth of one served request of each stream."""
    demand_priority: Index
    asked_per_s: Floats
    """Shape (demands, periods)."""
    cap_w: Floats
    """Shape (sites, periods)."""
    pool_gpus: Floats
    """GPUs that each pool has; infinite where they are bought. Shape (pools,)."""
    pool_price_usd: Floats
    """Price of one GPU of each pool; not a number where they are not bought."""
    cost_weight: Floats
    """What one replica costs in each period, in the unit of the objective to be least; (placements, periods)."""
    length_s: Floats
    """Of each period."""
    money_usd: float = float("inf")
    fixed_replicas: bool = False
    """The same replicas in every period."""

    @property
    def placements(self) -> int:
        """How many kinds of replica there are to choose from."""
        return int(self.power_w.size)

    @property
    def periods(self) -> int:
        """How many periods there are."""
        return int(self.length_s.size)

    @property
    def buys(self) -> bool:
        """Whether GPUs are bought."""
        return bool(np.isinf(self.pool_gpus).any()) and np.isfinite(self.money_usd)

    @property
    def coupled(self) -> bool:
        """Whether the periods hang together, so that they must be solved at once."""
        return self.periods > 1 and (self.fixed_replicas or self.buys)


def site_power_w(problem: Problem, replicas: Floats) -> Floats:
    """Return facility power by site and period.

    Args:
        problem: The problem.
        replicas: Whole numbers; shape (placements, periods).
    """
    sites = problem.cap_w.shape[0]
    found = np.zeros((sites, problem.periods))
    np.add.at(found, problem.site_of, replicas * problem.power_w[:, None])
    return found


def gpus_used(problem: Problem, replicas: Floats) -> Floats:
    """Return the GPUs in use by pool and period; ``replicas`` as for :func:`site_power_w`."""
    found = np.zeros((problem.pool_gpus.size, problem.periods))
    np.add.at(found, problem.pool_of, replicas * problem.num_gpus[:, None])
    return found


def best_serving(problem: Problem, replicas: Floats) -> Floats:
    """Return how much of each stream is best served by given replicas; shape (streams, periods).

    Each demand is filled from its most valuable stream down.
    """
    capacity = np.zeros((problem.stream_demand.size, problem.periods))
    np.add.at(capacity, problem.stream_of, replicas * problem.rate_per_s[:, None])
    served = np.zeros_like(capacity)
    left = problem.asked_per_s.copy()
    for stream in np.argsort(-problem.stream_weight, kind="stable"):
        demand = problem.stream_demand[stream]
        served[stream] = np.minimum(capacity[stream], left[demand])
        left[demand] -= served[stream]
    return served


def value_of(problem: Problem, served: Floats) -> float:
    """Return the value of what is served: worth × requests over all periods."""
    per_second = served * problem.stream_weight[:, None]
    return float((per_second * problem.length_s[None, :]).sum())


def violations(problem: Problem, replicas: Floats) -> list[str]:
    """Return which limits a plan would break, in words; none if it holds them all."""
    wrong = []
    power = site_power_w(problem, replicas)
    for site, period in np.argwhere(power > problem.cap_w * (1.0 + 1e-12)):
        wrong.append(
            f"site {site}, period {period}: {power[site, period]:.6g} W over {problem.cap_w[site, period]:.6g}"
        )
    used = gpus_used(problem, replicas)
    over = used > problem.pool_gpus[:, None] + 1e-9
    wrong += [f"pool {pool}, period {period}: {used[pool, period]:.0f} GPUs" for pool, period in np.argwhere(over)]
    if problem.buys:
        needed = used.max(axis=1)
        bought = np.isinf(problem.pool_gpus)
        spent = float((needed * np.where(bought, problem.pool_price_usd, 0.0)).sum())
        if spent > problem.money_usd * (1.0 + 1e-9):
            wrong.append(f"{spent:.6g} USD spent of {problem.money_usd:.6g}")
    return wrong


def placements_of(problem: Problem, kept: NDArray[np.bool_]) -> Problem:
    """Return the problem with some of its placements alone."""
    names = ("power_w", "num_gpus", "rate_per_s", "site_of", "pool_of", "stream_of", "cost_weight")
    return replace(problem, **{name: getattr(problem, name)[kept] for name in names})


def undominated(problem: Problem) -> NDArray[np.bool_]:
    """Say of each placement whether no other of its pool and stream is equal or better in everything."""
    wants = np.column_stack([problem.power_w, problem.num_gpus, -problem.rate_per_s, problem.cost_weight])
    kept = np.ones(problem.placements, dtype=np.bool_)
    groups = problem.pool_of * (problem.stream_demand.size + 1) + problem.stream_of
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        better = (wants[own][:, None, :] <= wants[own][None, :, :]).all(axis=2)
        # Of two that are equal the first stays.
        equal = better & better.T
        beaten = (better & ~equal).any(axis=0) | np.triu(equal, k=1).any(axis=0)
        kept[own[beaten]] = False
    return kept
