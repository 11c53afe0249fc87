"""The report on a planned fleet, and on requests replayed through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from joulemap.plan.fleet import FleetPlan
from joulemap.plan.simulate.simulate import Simulation
from joulemap.records import Basis
from joulemap.report.document import Block, Document, Drawing, Fact, Facts, Notes, Section, Table
from joulemap.report.numbers import figure, span
from joulemap.units import J_PER_KWH, S_PER_HOUR, W_PER_KW

if TYPE_CHECKING:
    from joulemap.report.payloads.plan import PlanPayload
    from joulemap.study.figures.theme import Chart

_HOURS_SHOWN = 24
"""Hours whose replicas are listed one by one."""


def plan_document(payload: PlanPayload) -> Document:
    """Arrange a plan file's plan and, if there is one, its simulation."""
    sections = list(plan_sections(payload.plan))
    if payload.simulation is not None:
        sections = [*simulation_sections(payload.simulation), *sections]
    return _document(payload.name, payload.plan, payload.simulation, sections, payload.to_json())


def bare_plan_document(plan: FleetPlan) -> Document:
    """Arrange a plan alone."""
    return _document("", plan, None, list(plan_sections(plan)), {"plan": plan.to_json()})


def bare_simulation_document(done: Simulation) -> Document:
    """Arrange a simulation alone."""
    return Document(
        kind="simulation",
        title="Requests replayed through a planned fleet",
        subtitle=f"{done.requests:,} requests in {done.length_s / S_PER_HOUR:g} h of simulated time",
        summary=_simulated(done),
        sections=tuple(simulation_sections(done)),
        payload={"kind": "simulation", "simulation": done.to_json()},
    )


def _document(
    name: str,
    plan: FleetPlan,
    simulation: Simulation | None,
    sections: list[Section],
    payload: Mapping[str, object],
) -> Document:
    kind = "plan" if simulation is None else "simulation"
    gpus = ", ".join(f"{count} × {pool}" for pool, count in plan.gpus.items() if count)
    asked, served = (sum(getattr(s, end) for s in plan.services) for end in ("asked_per_s", "served_per_s"))
    share = f"{served / asked:.1%}" if asked else "All"
    return Document(
        kind=kind,
        title=f"A fleet under a power cap{f': {name}' if name else ''}",
        subtitle=f"objective {plan.objective}, {plan.hours} {'hour' if plan.hours == 1 else 'hours'}, "
        f"power counted: {plan.power}",
        summary=f"{share} of what is asked is served, with {gpus or 'no GPUs'}. "
        f"{_binding(plan)}" + (f" {_simulated(simulation)}" if simulation else ""),
        sections=tuple(sections),
        payload={"kind": kind, **payload},
    )


def _binding(plan: FleetPlan) -> str:
    words = "; ".join(plan.binding)
    return f"What binds: {words}."


def plan_sections(plan: FleetPlan) -> Iterator[Section]:
    """Yield the sections of a plan: power under the cap, what is served, what binds, the replicas."""
    blocks: list[Block] = [_plan_facts(plan), Drawing(name="plan", draw=partial(_draw_plan, plan)), _power(plan)]
    yield Section(name="plan", heading="Power under the cap", blocks=tuple(blocks))
    notes = tuple(f"binding: {line}" for line in plan.binding) + plan.notes
    yield Section(
        name="served", heading="What is served, and what binds", blocks=(_served(plan), Notes(texts=notes))
    )
    marginals = _marginals(plan)
    if marginals is not None:
        yield Section(name="worth", heading="What one more would be worth", blocks=(marginals,))
    yield Section(name="replicas", heading="Which replicas run where", blocks=(_replicas(plan),))


def _plan_facts(plan: FleetPlan) -> Facts:
    energy = plan.facility_energy_j
    low, high = (None if end is None else end / J_PER_KWH for end in (energy.low, energy.high))
    proof = "proven optimal" if plan.gap_fraction < 1e-6 else f"within {plan.gap_fraction:.2%} of the best possible"
    facts = [
        Fact(name=f"{plan.objective}, {proof}", value=figure(plan.value, 4), unit=plan.unit, basis=energy.basis),
        Fact(
            name="facility energy, at most",
            value=figure(energy.value / J_PER_KWH),
            unit="kWh",
            interval=span(low, high),
            basis=energy.basis,
        ),
    ]
    for name, value, unit in (
        ("electricity", plan.electricity_usd, "USD"),
        ("carbon", plan.carbon_kg, "kg CO2e"),
        ("GPUs bought", plan.purchase_usd, "USD"),
    ):
        if value is not None:
            facts.append(Fact(name=name, value=figure(value), unit=unit, basis=Basis.ASSUMED))
    return Facts(facts=tuple(facts))


def _served(plan: FleetPlan) -> Table:
    rows = []
    for demand in dict.fromkeys(s.demand for s in plan.services):
        own = [s for s in plan.services if s.demand == demand]
        asked, served = (sum(getattr(s, name) for s in own) for name in ("asked_per_s", "served_per_s"))
        why = dict.fromkeys(part for s in own if s.reason for part in s.reason.split("; "))
        share = f"{served / asked:.1%}" if asked else "–"
        rows.append((demand, "; ".join(why) or "–", figure(asked / plan.hours), figure(served / plan.hours), share))
    columns = ("demand", "why not all", "asked/s", "served/s", "share")
    return Table(title="Mean over the hours", columns=columns, rows=tuple(rows), left=2)


def _power(plan: FleetPlan) -> Table:
    rows = []
    for site in dict.fromkeys(p.site for p in plan.site_power):
        top = max((p for p in plan.site_power if p.site == site), key=lambda p: p.planned_power_w / p.cap_w)
        e = top.expected_power_w
        low, high = (None if end is None else end / W_PER_KW for end in (e.low, e.high))
        kilowatts = (figure(w / W_PER_KW) for w in (top.cap_w, top.planned_power_w, e.value))
        rows.append((site, str(top.hour), *kilowatts, span(low, high), e.basis.value))
    columns = ("site", "fullest hour", "cap (kW)", "planned (kW)", "expected (kW)", "90 % interval", "basis")
    return Table(title="Facility power in the fullest hour", columns=columns, rows=tuple(rows), folded=True)


def _marginals(plan: FleetPlan) -> Table | None:
    rows = [
        (
            f"one more {'kW of cap' if m.resource == 'power' else m.resource} at {m.site}",
            figure(m.value_per_unit),
            figure(m.value_per_unit_relaxed),
            plan.unit,
        )
        for m in plan.marginals
    ]
    columns = ("resource", "worth", "if replicas need not be whole", "unit")
    return Table(title="Over the whole plan", columns=columns, rows=tuple(rows)) if rows else None


def _replicas(plan: FleetPlan) -> Table:
    rows = [
        (
            f"{a.site}, hour {a.hour}" if plan.hours > 1 else a.site,
            a.demand,
            a.label,
            f"{a.replicas} × {a.num_gpus} {a.gpu_model}",
            figure(a.batch_size),
            f"{figure(a.capacity_per_s)}/s",
            figure(a.planned_power_w / W_PER_KW),
            figure(a.energy_per_output_j),
            a.basis.value,
        )
        for a in plan.assignments
        if a.hour < _HOURS_SHOWN
    ]
    columns = ("site", "demand", "model", "replicas", "batch", "capacity", "facility kW", "GPU J/output", "basis")
    return Table(title="The fleet", columns=columns, rows=tuple(rows), left=4, folded=plan.hours > 1)


def simulation_sections(done: Simulation) -> Iterator[Section]:
    """Yield the sections of a simulation: power over time against the cap, what the requests met."""
    facts = [
        Fact(name=f"time over the cap, {p.site}", value=f"{p.over_cap_fraction:.2%}", basis=done.basis)
        for p in done.power
    ]
    facts += [
        Fact(name=f"highest power, {p.site}", value=figure(p.most_w / W_PER_KW), unit="kW", basis=done.basis)
        for p in done.power
    ]
    rows = [
        (
            d.demand,
            f"{d.requests:,}",
            f"{d.unserved_requests:,}",
            *(figure(v) for v in (d.wait_p99_s, d.ttft_p99_s, d.itl_median_s, d.latency_mean_s, d.mean_batch)),
            figure(d.gpu_energy_per_request_j),
            ", ".join(f"{name} {share:.1%}" for name, share in d.held.items()) or "–",
        )
        for d in done.demands
    ]
    columns = (
        *("demand", "requests", "unserved", "p99 wait (s)", "p99 TTFT (s)", "median ITL (s)", "mean latency (s)"),
        *("batch", "J/request", "limits held"),
    )
    blocks: list[Block] = [
        Facts(facts=tuple(facts)),
        Drawing(name="simulated-power", draw=partial(_draw_simulation, done)),
        Table(title="What the requests met", columns=columns, rows=tuple(rows)),
    ]
    blocks += [Notes(texts=done.notes)] if done.notes else []
    heading = f"{done.requests:,} requests replayed ({done.basis.value})"
    yield Section(name="simulation", heading=heading, blocks=tuple(blocks))


def _simulated(done: Simulation) -> str:
    over = max(p.over_cap_fraction for p in done.power)
    unserved = sum(d.unserved_requests for d in done.demands)
    return f"Facility power is over the cap {over:.2%} of the time; {unserved:,} requests were not served."


def _draw_plan(plan: FleetPlan, width_px: int) -> Chart:
    from joulemap.report.charts.plan import plan_chart

    return plan_chart(plan, width_px)


def _draw_simulation(done: Simulation, width_px: int) -> Chart:
    from joulemap.report.charts.simulation import simulation_chart

    return simulation_chart(done, width_px)
