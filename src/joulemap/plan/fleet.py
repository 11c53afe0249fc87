"""Plan a fleet: which replicas of which configurations run where and when, under a power cap."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import Catalog
from joulemap.errors import InfeasibleError
from joulemap.notebook import ShownInNotebooks
from joulemap.plan.candidates import Candidates, candidates, weakest_of
from joulemap.plan.marginals import Marginal, find_marginals
from joulemap.plan.milp import GAP, TIME_LIMIT_S, Solution, solve
from joulemap.plan.peaks import solve_with_peaks
from joulemap.plan.problem import gpus_used, site_power_w
from joulemap.plan.relaxation import Relaxed, smallest_relaxation
from joulemap.plan.spec import PlanSpec, at_hour
from joulemap.predict.calibration import Calibration
from joulemap.records import Basis, Quantity
from joulemap.units import J_PER_KWH, S_PER_HOUR, W_PER_KW


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Replicas of one configuration that serve one demand at one site in one hour."""

    site: str
    hour: int
    demand: str
    label: str
    model_id: str
    gpu_model: str
    num_gpus: int
    """Of one replica."""
    weight_precision: str | None
    batch_size: float
    """Requests that each replica runs together."""
    batch_ceiling: float
    """``max_num_seqs`` to set."""
    replicas: int
    capacity_per_s: float
    """Requests (or outputs) per second that all of them can serve, as planned."""
    planned_power_w: float
    """Facility power of all of them, as counted against the cap."""
    energy_per_output_j: float
    """GPU energy at full batch."""
    output_throughput_per_s: float
    """Of one replica at full batch, at the mean."""
    basis: Basis
    run_id: str | None
    series: int
    """The batch curve, by its number among the demand's options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """How much of a demand is served in an hour."""

    demand: str
    hour: int
    asked_per_s: float
    served_per_s: float
    reason: str
    """Why not all; empty if all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePower:
    """Facility power of a site in an hour, with every replica at its full batch."""

    site: str
    hour: int
    cap_w: float
    planned_power_w: float
    """As counted against the cap; never above it."""
    expected_power_w: Quantity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FleetPlan(ShownInNotebooks):
    """A fleet, what it serves, and what holds it back."""

    objective: str
    unit: str
    """Of ``value`` and ``bound``."""
    value: float
    bound: float
    """No plan under these limits is better."""
    gap_fraction: float
    """How far the bound lies from the value; 0 is proven optimal."""
    confidence: float | None
    power: str
    hours: int
    assignments: tuple[Assignment, ...]
    services: tuple[Service, ...]
    site_power: tuple[SitePower, ...]
    binding: tuple[str, ...]
    marginals: tuple[Marginal, ...]
    facility_energy_j: Quantity
    """Over the plan, if every replica runs at full batch all the time: an upper estimate."""
    electricity_usd: float | None
    carbon_kg: float | None
    gpus: dict[str, int]
    """Most GPUs in use at once, by site and model."""
    purchase_usd: float | None
    notes: tuple[str, ...]
    found: Candidates = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; all but the options."""
        plain = {
            name: getattr(self, name)
            for name in self.__slots__
            if name not in ("assignments", "services", "site_power", "marginals", "facility_energy_j", "found")
        }
        return plain | {
            "assignments": [asdict(a) for a in self.assignments],
            "services": [asdict(s) for s in self.services],
            "site_power": [
                {**asdict(p), "expected_power_w": p.expected_power_w.to_json()} for p in self.site_power
            ],
            "marginals": [asdict(m) for m in self.marginals],
            "facility_energy_j": self.facility_energy_j.to_json(),
        }


UNITS = {"value": "value", "energy": "kWh", "cost": "USD", "carbon": "kg CO2e"}


def plan_fleet(
    spec: PlanSpec,
    frame: pl.DataFrame,
    *,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
    gap: float = GAP,
    time_limit_s: float = TIME_LIMIT_S,
    marginals: bool = True,
) -> FleetPlan:
    """Plan a fleet.

    Args:
        spec: Sites, demands, objective; from :func:`joulemap.plan.plan_file.read_plan`.
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
        calibration: Coefficients of the prediction; the shipped ones if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        gap: Relative gap at which a plan counts as good enough.
        time_limit_s: Longest that one program may take.
        marginals: Find what one more kW and one more GPU would be worth.

    Raises:
        InfeasibleError: Everything is to be served, and cannot be; names the fewest limits to relax.
        UsageError: Nothing is known of a task or model.
    """
    found = candidates(spec, frame, calibration=calibration, catalog=catalog)
    serve_all = spec.objective != "value"
    if serve_all:
        _refuse_unservable(spec, found)
    try:
        solution = _solved(spec, found, serve_all=serve_all, gap=gap, time_limit_s=time_limit_s)
    except InfeasibleError as error:
        if not serve_all or "within the power caps" not in error.message:
            raise
        raise _with_relaxation(spec, found, error) from error
    return _plan(spec, found, solution, find_marginals(spec, found, time_limit_s=time_limit_s) if marginals else ())


def _solved(spec: PlanSpec, found: Candidates, *, serve_all: bool, gap: float, time_limit_s: float) -> Solution:
    if spec.power in ("p95", "p99"):
        return solve_with_peaks(spec, found, serve_all=serve_all, gap=gap, time_limit_s=time_limit_s)
    return solve(found.problem, serve_all=serve_all, gap=gap, time_limit_s=time_limit_s)


def _refuse_unservable(spec: PlanSpec, found: Candidates) -> None:
    for demand, reason in zip(spec.demands, found.excluded, strict=True):
        if reason:
            msg = f"{demand.name} cannot be served in full: {reason}"
            raise InfeasibleError(msg, fix=f"relax that limit of {demand.name}, or admit other models or GPUs")


def _with_relaxation(spec: PlanSpec, found: Candidates, error: InfeasibleError) -> InfeasibleError:
    ways: dict[tuple[tuple[str, int], ...], str] = {}
    for may_drop in (False, True):
        relaxed = smallest_relaxation(found.problem, may_drop_demand=may_drop) or []
        limits = tuple((r.kind, r.position) for r in relaxed)
        ways.setdefault(limits, " and ".join(_in_words(spec, found, r) for r in relaxed))
    fix = "; or ".join(filter(None, ways.values()))
    return InfeasibleError(error.message, fix=fix or "ask for less, or plan with objective 'value'")


def _in_words(spec: PlanSpec, found: Candidates, relaxed: Relaxed) -> str:
    if relaxed.kind == "power":
        site = spec.sites[relaxed.position]
        return f"raise cap_kw of {site.name} by {relaxed.value / W_PER_KW:.3g} kW"
    if relaxed.kind == "gpus":
        site_name, gpu = found.pool_names[relaxed.position]
        return f"add {relaxed.value:.0f} {gpu} at {site_name}"
    demand = spec.demands[relaxed.position]
    return f"ask {relaxed.value:.3g}/s less of {demand.name}"


def _plan(spec: PlanSpec, found: Candidates, solution: Solution, marginals: tuple[Marginal, ...]) -> FleetPlan:
    problem = found.problem
    expected = {end: _expected_w(found, solution, end) for end in ("", "_low", "_high")}
    counted = site_power_w(problem, solution.replicas) + found.base_power_w[:, None]
    basis = weakest_of(found.placements.filter(pl.Series(solution.replicas.max(axis=1, initial=0.0) > 0)))
    powers = [
        SitePower(
            site=site.name,
            hour=h,
            cap_w=at_hour(site.cap_w, h),
            planned_power_w=float(counted[s, h]),
            expected_power_w=_quantity("W", basis, *(float(expected[e][s, h]) for e in ("", "_low", "_high"))),
        )
        for s, site in enumerate(spec.sites)
        for h in range(spec.hours)
    ]
    used = gpus_used(problem, solution.replicas).max(axis=1, initial=0.0)
    kwh = expected[""] * S_PER_HOUR / J_PER_KWH
    services = _services(spec, found, solution)
    return FleetPlan(
        objective=spec.objective,
        unit=UNITS[spec.objective],
        value=solution.value,
        bound=solution.bound,
        gap_fraction=solution.gap,
        confidence=spec.confidence,
        power=spec.power,
        hours=spec.hours,
        assignments=_assignments(spec, found, solution),
        services=services,
        site_power=tuple(powers),
        binding=_binding(spec, found, solution),
        marginals=marginals,
        facility_energy_j=_quantity(
            "J", basis, *(float(expected[e].sum()) * S_PER_HOUR for e in ("", "_low", "_high"))
        ),
        electricity_usd=_priced(spec, kwh, "electricity_usd_per_kwh"),
        carbon_kg=_scaled(_priced(spec, kwh, "carbon_g_per_kwh"), 1e-3),
        gpus={f"{site} {gpu}": int(n) for (site, gpu), n in zip(found.pool_names, used, strict=True)},
        purchase_usd=_spent(found, used),
        notes=found.notes,
        found=found,
    )


def _expected_w(found: Candidates, solution: Solution, end: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    problem = replace(found.problem, power_w=found.placements[f"expected_power_w{end}"].to_numpy())
    return np.asarray(site_power_w(problem, solution.replicas) + found.base_power_w[:, None])


def _quantity(unit: str, basis: Basis, value: float, low: float, high: float) -> Quantity:
    return Quantity(value=value, unit=unit, basis=basis, low=min(low, value), high=max(high, value))


def _priced(spec: PlanSpec, kwh: np.ndarray[Any, np.dtype[np.float64]], name: str) -> float | None:
    """Return energy × price (or carbon intensity) over sites and hours; ``None`` where a site states none."""
    if not all(getattr(site, name) for site in spec.sites):
        return None
    return float(
        sum(
            kwh[s, h] * at_hour(getattr(site, name), h)
            for s, site in enumerate(spec.sites)
            for h in range(spec.hours)
        )
    )


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _spent(found: Candidates, used: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    problem = found.problem
    bought = np.isinf(problem.pool_gpus)
    if not bought.any() or np.isnan(problem.pool_price_usd[bought]).any():
        return None
    return float((used[bought] * problem.pool_price_usd[bought]).sum())


def _money_left_usd(found: Candidates, solution: Solution) -> float:
    """Return what is left over of the money; infinite where nothing is bought."""
    spent = _spent(found, gpus_used(found.problem, solution.replicas).max(axis=1, initial=0.0))
    return float("inf") if spent is None else found.problem.money_usd - spent


def _assignments(spec: PlanSpec, found: Candidates, solution: Solution) -> tuple[Assignment, ...]:
    made = []
    for p, h in np.argwhere(solution.replicas > 0):
        row, count = found.placements.row(int(p), named=True), int(solution.replicas[p, h])
        made.append(
            Assignment(
                site=spec.sites[row["site"]].name,
                hour=int(h),
                demand=spec.demands[row["demand"]].name,
                replicas=count,
                capacity_per_s=count * row["rate_per_s"],
                planned_power_w=count * float(found.problem.power_w[p]),
                basis=Basis(row["basis"]),
                **{name: row[name] for name in _COPIED},
            )
        )
    return tuple(sorted(made, key=lambda a: (a.hour, a.site, a.demand, a.label)))


_COPIED = (
    *("label", "model_id", "gpu_model", "num_gpus", "weight_precision", "batch_size", "batch_ceiling"),
    *("energy_per_output_j", "output_throughput_per_s", "run_id", "series"),
)


def _services(spec: PlanSpec, found: Candidates, solution: Solution) -> tuple[Service, ...]:
    served = np.zeros_like(found.problem.asked_per_s)
    np.add.at(served, found.problem.stream_demand, solution.served_per_s)
    full = _full(spec, found, solution)
    made = []
    for d, demand in enumerate(spec.demands):
        for h in range(spec.hours):
            asked = float(found.problem.asked_per_s[d, h])
            got = min(float(served[d, h]), asked)
            short = asked - got > 1e-6 * max(asked, 1e-9)
            made.append(
                Service(
                    demand=demand.name,
                    hour=h,
                    asked_per_s=asked,
                    served_per_s=got,
                    reason=_why(d, h, found, full) if short else "",
                )
            )
    return tuple(made)


def _why(demand: int, hour: int, found: Candidates, full: dict[int, list[tuple[str, list[int]]]]) -> str:
    if found.excluded[demand]:
        return found.excluded[demand]
    own = found.placements.filter(demand=demand)
    if own.is_empty():
        return "no pool has a GPU model on which an admissible model is known to run"
    sites = set(own["site"].to_list())
    reasons = [name for name, at in full[hour] if sites & set(at)]
    return (
        "; ".join(reasons) if reasons else "one more whole replica would serve it, within the gap that was accepted"
    )


def _full(spec: PlanSpec, found: Candidates, solution: Solution) -> dict[int, list[tuple[str, list[int]]]]:
    """Return what is used up in each hour, in words, with the sites that it concerns."""
    problem = found.problem
    power = problem.cap_w - site_power_w(problem, solution.replicas)
    gpus = problem.pool_gpus[:, None] - gpus_used(problem, solution.replicas)
    used_up: dict[int, list[tuple[str, list[int]]]] = {}
    for h in range(spec.hours):
        names: list[tuple[str, list[int]]] = []
        for s, site in enumerate(spec.sites):
            own = problem.power_w[problem.site_of == s]
            if own.size and power[s, h] < own.min():
                names.append((f"the power cap of {site.name} is used up", [s]))
        for k, (name, gpu) in enumerate(found.pool_names):
            own = problem.num_gpus[problem.pool_of == k]
            if own.size and gpus[k, h] < own.min():
                position = next(i for i, site in enumerate(spec.sites) if site.name == name)
                names.append((f"every {gpu} at {name} is in use", [position]))
        if (
            problem.buys
            and not names
            and _money_left_usd(found, solution) < float(np.nanmin(problem.pool_price_usd))
        ):
            names.append(("the money is spent", list(range(len(spec.sites)))))
        used_up[h] = names
    return used_up


def _binding(spec: PlanSpec, found: Candidates, solution: Solution) -> tuple[str, ...]:
    served = np.zeros_like(found.problem.asked_per_s)
    np.add.at(served, found.problem.stream_demand, solution.served_per_s)
    asked = found.problem.asked_per_s
    short = np.any(asked - served > 1e-6 * np.maximum(asked, 1e-9), axis=0, keepdims=True)[0]
    if not short.any():
        return ("nothing: everything that is asked is served",)
    hours: dict[str, list[int]] = {}
    for h, names in _full(spec, found, solution).items():
        for name, _ in names if short[h] else []:
            hours.setdefault(name, []).append(h)
    unserved = 1.0 - float(served.sum() / asked.sum())
    if not hours and unserved <= solution.gap:
        return (f"nothing: all but {100 * unserved:.2g} % of what is asked is served, within the accepted gap",)
    if not hours:
        return ("no limit is used up: what is unserved has no admissible option, or is within the accepted gap",)
    return tuple(
        name if len(at) == spec.hours else f"{name} in {len(at)} of {spec.hours} hours"
        for name, at in hours.items()
    )
