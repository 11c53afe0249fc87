"""Replay requests through a planned fleet: limits held, queues, power over time against the cap, energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.notebook import ShownInNotebooks
from joulemap.plan.fleet import FleetPlan
from joulemap.plan.options import Options, mean_of
from joulemap.plan.problem import Floats, Index
from joulemap.plan.simulate.arrivals import LoadCurve, Requests, Trace, arrivals_at, lengths_like, replayed
from joulemap.plan.simulate.queue import QueueRun, quantile, simulate_queue
from joulemap.plan.simulate.replica import Replica, batch_curve
from joulemap.plan.spec import Demand, PlanSpec
from joulemap.records import Basis, LengthDistribution, weakest
from joulemap.units import S_PER_HOUR

POWER_BINS = 480
"""Points of the power curve that is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Load:
    """How requests arrive."""

    variation: float = 1.0
    """Coefficient of variation of the time between arrivals: 1 is Poisson."""
    trace: Trace | None = None
    """Replay this trace, sped up or slowed down to each demand's mean rate."""
    curve: LoadCurve | None = None
    """Vary each hour's rate by this load curve."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandResult:
    """What the requests of one demand met."""

    demand: str
    requests: int
    unserved_requests: int
    """Arrived when no replica was there to take them, to the end."""
    wait_mean_s: float | None
    wait_p99_s: float | None
    waited_fraction: float | None
    """Share of requests that had to wait."""
    ttft_median_s: float | None
    ttft_p99_s: float | None
    itl_median_s: float | None
    """Over all outputs: the median inter-token latency at the batch that each was made at."""
    latency_mean_s: float | None
    latency_p99_s: float | None
    held: dict[str, float]
    """Share of requests (of outputs, for limits on inter-token latency) that hold each limit."""
    longest_queue_requests: int
    mean_batch: float | None
    """Requests running together on a replica, averaged over replicas and time."""
    gpu_energy_j: float
    gpu_energy_per_request_j: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PowerResult:
    """Facility power of a site over the simulated time."""

    site: str
    cap_w: float
    """The lowest cap of the plan's hours."""
    mean_w: float
    p95_w: float
    p99_w: float
    most_w: float
    over_cap_fraction: float
    """Share of time above the cap of the hour."""
    facility_energy_j: float
    bin_s: Floats
    bin_mean_w: Floats
    bin_cap_w: Floats

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name in self.__slots__
            for value in [getattr(self, name)]
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Simulation(ShownInNotebooks):
    """A simulated plan."""

    length_s: float
    requests: int
    demands: tuple[DemandResult, ...]
    power: tuple[PowerResult, ...]
    basis: Basis
    """Of the batch curves at best ``modelled``, since requests are simulated."""
    notes: tuple[str, ...]
    runs: tuple[QueueRun, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; all but the single requests."""
        return {
            "length_s": self.length_s,
            "requests": self.requests,
            "demands": [asdict(d) for d in self.demands],
            "power": [p.to_json() for p in self.power],
            "basis": self.basis.value,
            "notes": list(self.notes),
        }


def simulate_plan(
    spec: PlanSpec,
    plan: FleetPlan,
    load: Load | None = None,
    *,
    catalog: Catalog | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Simulation:
    """Simulate a plan over its hours, with the requests that it undertakes to serve.

    Args:
        spec: What was asked.
        plan: From :func:`joulemap.plan.fleet.plan_fleet` for the same ``spec``.
        load: How requests arrive; Poisson at each hour's rate if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        progress: Called now and then with a demand's name, its requests so far, and how many there are.
    """
    facts = catalog or load_catalog()
    asked = load or Load()
    length_s = spec.hours * S_PER_HOUR
    notes = ["requests beyond what the plan serves are refused on arrival"] if _refuses(plan) else []
    results, runs = [], []
    powers: list[tuple[Floats, Floats, Index]] = []
    for position, demand in enumerate(spec.demands):
        fleet = _replicas(spec, plan, position, facts)
        options = plan.found.options[position]
        rng = np.random.default_rng((asked.seed, position))
        requests = _requests(spec, plan, demand, options, asked, rng)
        told = None if progress is None else partial(_told, progress, demand.name, requests.arrival_s.size)
        run = simulate_queue(requests.arrival_s, requests.length_ratio, fleet, progress=told)
        results.append(_demand_result(demand, run, fleet))
        runs.append(run)
        powers.append((run.power_change_s, run.power_change_w, run.power_change_site))
    bases = [a.basis for a in plan.assignments]
    found = tuple(_power_result(spec, plan, s, powers, length_s) for s in range(len(spec.sites)))
    if any(p.over_cap_fraction > 0 for p in found):
        notes.append(
            "power goes over the cap; where replicas change with the hour, those that still finish their requests "
            'overlap with those that take over (replicas = "fixed" avoids that)'
        )
    return Simulation(
        length_s=length_s,
        requests=sum(r.requests for r in results),
        demands=tuple(results),
        power=found,
        basis=weakest(Basis.MODELLED, *bases),
        notes=tuple(notes),
        runs=tuple(runs),
    )


def _told(progress: Callable[[str, int, int], None], demand: str, total: int, done: int) -> None:
    progress(demand, done, total)


def _refuses(plan: FleetPlan) -> bool:
    return any(s.served_per_s < s.asked_per_s * (1.0 - 1e-6) for s in plan.services)


def _replicas(spec: PlanSpec, plan: FleetPlan, demand: int, catalog: Catalog) -> list[Replica]:
    """Return each replica of a demand with the spans of hours in which the plan runs it."""
    found = plan.found
    options = found.options[demand].frame
    sites = {site.name: position for position, site in enumerate(spec.sites)}
    pools = {(row["site_name"], row["gpu_model"]): row for row in found.placements.iter_rows(named=True)}
    hours: dict[tuple[str, int, float], list[int]] = {}
    first = {}
    for a in plan.assignments:
        if a.demand == spec.demands[demand].name:
            key = (a.site, a.series, a.batch_size)
            hours.setdefault(key, [0] * spec.hours)[a.hour] += a.replicas
            first[key] = a
    made = []
    for key, counts in hours.items():
        a = first[key]
        pool = pools[a.site, a.gpu_model]
        idle = catalog.gpus[a.gpu_model].loaded_idle_power_w if a.gpu_model in catalog.gpus else None
        curve = batch_curve(
            options.filter(series=a.series), a.batch_size, None if idle is None else idle * a.num_gpus
        )
        facility = (curve.power_w + a.num_gpus * (pool["server_power_w"] - pool["unused_power_w"])) * pool["pue"]
        for k in range(max(counts)):
            spans = _spans([count > k for count in counts])
            made.append(
                Replica(curve=curve, site=sites[a.site], facility_power_w=facility, on_s=spans, label=a.label)
            )
    return made


def _spans(on: list[bool]) -> tuple[tuple[float, float], ...]:
    """Return the spans of time of consecutive hours that are on; the last hour's span does not end."""
    edges = np.flatnonzero(np.diff(np.array([False, *on, False]).astype(int)))
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    # What has come by the end is still finished; the fleet does not vanish under it.
    return tuple((a * S_PER_HOUR, b * S_PER_HOUR if b < len(on) else float("inf")) for a, b in pairs)


def _requests(
    spec: PlanSpec, plan: FleetPlan, demand: Demand, options: Options, load: Load, rng: np.random.Generator
) -> Requests:
    """Return the requests of one demand."""
    services = sorted((s for s in plan.services if s.demand == demand.name), key=lambda s: s.hour)
    rates = np.array([s.served_per_s for s in services])
    if demand.outputs_per_s is not None:
        own = [a for a in plan.assignments if a.demand == demand.name]
        lengths = options.frame.filter(pl.col("model_id").is_in([a.model_id for a in own]))["mean_output_tokens"]
        mean = lengths.mean()
        rates = rates / (float(mean) if isinstance(mean, float) else 1.0)
    length_s = spec.hours * S_PER_HOUR
    if load.trace is not None and rates.mean() > 0:
        return replayed(load.trace, rates, S_PER_HOUR)
    step_s = S_PER_HOUR
    if load.curve is not None:
        ratios, step_s = load.curve.rate_ratio, load.curve.step_s
        steps = np.arange(int(np.ceil(length_s / step_s)))
        pattern = ratios[steps % ratios.size]
        hour = np.minimum((steps * step_s / S_PER_HOUR).astype(int), rates.size - 1)
        rates = rates[hour] * pattern / pattern.mean()
    arrival_s = arrivals_at(rates, rng, variation=load.variation, step_s=step_s)
    lengths_of = demand.output_lengths or _measured_lengths(plan, demand, options)
    return Requests(
        arrival_s=arrival_s[arrival_s < length_s],
        length_ratio=lengths_like(lengths_of, int((arrival_s < length_s).sum()), rng),
    )


def _measured_lengths(plan: FleetPlan, demand: Demand, options: Options) -> LengthDistribution | None:
    """Return the measured reply lengths of the model that serves most of a demand, as a share of their mean."""
    if demand.mean_output_tokens is not None:
        return None
    own = [a for a in plan.assignments if a.demand == demand.name]
    if not own:
        return None
    found = options.lengths.get(max(own, key=lambda a: a.capacity_per_s).model_id)
    return found if found is not None and mean_of(found) > 0 else None


def _demand_result(demand: Demand, run: QueueRun, fleet: list[Replica]) -> DemandResult:
    served = np.isfinite(run.finish_s)
    count = int(served.sum())
    wait = run.start_s[served] - run.arrival_s[served]
    latency = run.finish_s[served] - run.arrival_s[served]
    first = np.zeros(count)
    for r in np.unique(run.replica[served]):
        own = run.replica[served] == r
        first[own] = fleet[int(r)].curve.ttft_s[run.batch_at_start[served][own]]
    ttft = wait + first
    gaps, made = _gaps(run, fleet)
    energy = sum(float(t @ f.curve.power_w) for t, f in zip(run.occupancy_s, fleet, strict=True))
    busy = sum(float(t @ np.arange(t.size)) for t in run.occupancy_s)
    on = sum(float(t.sum()) for t in run.occupancy_s)
    held = {}
    for name, limit in demand.slo.limits().items():
        if name == "itl_median_s":
            total = float(made[np.isfinite(gaps)].sum())
            held[name] = float(made[gaps <= limit].sum()) / total if total else float("nan")
        elif name in ("ttft_median_s", "latency_s") and count:
            values = ttft if name == "ttft_median_s" else latency
            held[name] = float((values <= limit).mean())
    itl = quantile(gaps, made, 0.5)

    def share(values: Floats, q: float) -> float | None:
        return float(np.quantile(values, q)) if count else None

    return DemandResult(
        demand=demand.name,
        requests=run.arrival_s.size,
        unserved_requests=run.arrival_s.size - count,
        wait_mean_s=float(wait.mean()) if count else None,
        wait_p99_s=share(wait, 0.99),
        waited_fraction=float((wait > 1e-9).mean()) if count else None,
        ttft_median_s=share(ttft, 0.5),
        ttft_p99_s=share(ttft, 0.99),
        itl_median_s=itl if np.isfinite(itl) else None,
        latency_mean_s=float(latency.mean()) if count else None,
        latency_p99_s=share(latency, 0.99),
        held={name: value for name, value in held.items() if np.isfinite(value)},
        longest_queue_requests=run.longest_queue_requests,
        mean_batch=busy / on if on else None,
        gpu_energy_j=energy,
        gpu_energy_per_request_j=energy / count if count else None,
    )


def _gaps(run: QueueRun, fleet: list[Replica]) -> tuple[Floats, Floats]:
    """Return the median inter-token latency of each replica at each batch, and the work that was done there."""
    if not fleet:
        return np.zeros(0), np.zeros(0)
    gaps = np.concatenate([r.curve.itl_median_s for r in fleet])
    made = np.concatenate(
        [t * np.arange(t.size) * r.curve.rate_per_s for t, r in zip(run.occupancy_s, fleet, strict=True)]
    )
    return gaps, made


def _power_result(
    spec: PlanSpec, plan: FleetPlan, site: int, powers: list[tuple[Floats, Floats, Index]], length_s: float
) -> PowerResult:
    base = float(plan.found.base_power_w[site])
    changes = [(t[at == site], w[at == site]) for t, w, at in powers]
    times = np.concatenate([np.zeros(1), *(t for t, _ in changes)])
    steps = np.concatenate([np.array([base]), *(w for _, w in changes)])
    order = np.argsort(times, kind="stable")
    times, level = times[order], np.cumsum(steps[order])
    within = times < length_s
    times, level = times[within], level[within]
    lasting = np.diff(np.append(times, length_s))
    caps = np.array([p.cap_w for p in plan.site_power if p.site == spec.sites[site].name])
    edges = np.linspace(0.0, length_s, POWER_BINS + 1)
    energy = np.concatenate([[0.0], np.cumsum(level * lasting)])
    at_edges = np.interp(edges, np.append(times, length_s), energy)
    hour = np.minimum((times / S_PER_HOUR).astype(int), caps.size - 1)
    bin_hour = np.minimum((edges[:-1] / S_PER_HOUR).astype(int), caps.size - 1)
    total = float(energy[-1])
    return PowerResult(
        site=spec.sites[site].name,
        cap_w=float(caps.min()),
        mean_w=total / length_s,
        p95_w=quantile(level, lasting, 0.95),
        p99_w=quantile(level, lasting, 0.99),
        most_w=float(level[lasting > 0].max()),
        over_cap_fraction=float(lasting[level > caps[hour] * (1.0 + 1e-9)].sum() / length_s),
        facility_energy_j=total,
        bin_s=edges[:-1],
        bin_mean_w=np.diff(at_edges) / np.diff(edges),
        bin_cap_w=caps[bin_hour],
    )
