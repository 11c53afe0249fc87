"""``joulemap plan``."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from joulemap.cli.duration import seconds
from joulemap.cli.output import Common, console, figure, note, print_json, print_table
from joulemap.errors import UsageError
from joulemap.plan.fleet import Assignment, FleetPlan, plan_fleet
from joulemap.plan.plan_file import read_plan
from joulemap.plan.spec import Objective, PlanSpec
from joulemap.units import J_PER_KWH, W_PER_KW


def plan_from_file(
    plan: Path,
    /,
    *,
    objective: Objective | None = None,
    confidence: float | None = None,
    gap: float = 0.01,
    time_limit: str = "60s",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    common: Common | None = None,
) -> None:
    """Plan a fleet under a power cap: which replicas run where, what they serve, what holds them back.

    Args:
        plan: A plan file (TOML): sites with caps and GPU pools, demands with limits on latency.
        objective: What counts, instead of the file's: value, or at full service energy, cost or carbon.
        confidence: Plan with pessimistic powers and throughputs, instead of the file's, for example 0.9.
        gap: Relative gap at which a plan counts as good enough.
        time_limit: Longest that one program may take.
        output: Draw the plan into this .html, .svg or .png file too.
        common: Store and output.
    """
    options = common or Common()
    spec = changed(read_plan(plan), objective, confidence)
    frame = options.open().non_empty_frame()
    if not 0 < gap < 1:
        msg = f"--gap must lie between 0 and 1, not {gap:g}"
        raise UsageError(msg, fix="--gap 0.01")
    made = plan_fleet(spec, frame, gap=gap, time_limit_s=seconds(time_limit, "--time-limit"))
    if output is not None:
        from joulemap.report.charts.plan import plan_chart
        from joulemap.study.figures import save_chart

        save_chart(plan_chart(made), output)
    if options.json:
        print_json(made.to_json())
    else:
        print_plan(made)
    if output is not None:
        note(f"Wrote {output}")


def changed(spec: PlanSpec, objective: Objective | None, confidence: float | None) -> PlanSpec:
    """Return a plan's wishes with those of the command line in the place of the file's."""
    if confidence is not None and not 0 < confidence < 1:
        msg = f"--confidence must lie between 0 and 1, not {confidence:g}"
        raise UsageError(msg, fix="--confidence 0.9")
    return replace(
        spec,
        objective=objective or spec.objective,
        confidence=spec.confidence if confidence is None else confidence,
    )


def print_plan(plan: FleetPlan) -> None:
    """Print a plan on the console."""
    out = console()
    proof = "proven optimal" if plan.gap_fraction < 1e-6 else f"within {plan.gap_fraction:.2%} of the best possible"
    out.print(f"{plan.objective}: {figure(plan.value, 5)} {plan.unit}, {proof} ({figure(plan.bound, 5)})")
    trust = "" if plan.confidence is None else f", pessimistic at {plan.confidence:.0%} confidence"
    out.print(f"power counted: {plan.power}{trust}\n")
    for hours, rows in _alike(plan):
        _print_assignments(rows, f"replicas, {hours}" if plan.hours > 1 else "replicas")
    _print_services(plan)
    _print_power(plan)
    for line in plan.binding:
        out.print(f"binding: {line}")
    for m in plan.marginals:
        one = "kW of cap" if m.resource == "power" else m.resource
        whole = "–" if m.value_per_unit is None else f"{figure(m.value_per_unit)} {plan.unit}"
        relaxed = (
            ""
            if m.value_per_unit_relaxed is None
            else f" ({figure(m.value_per_unit_relaxed)} if replicas need not be whole)"
        )
        out.print(f"one more {one} at {m.site}: {whole}{relaxed}")
    energy = plan.facility_energy_j
    out.print(
        f"facility energy: up to {figure(energy.value / J_PER_KWH)} kWh over {plan.hours} h "
        f"({figure((energy.low or 0) / J_PER_KWH)}–{figure((energy.high or 0) / J_PER_KWH)}, {energy.basis.value})"
    )
    for name, value, unit in (
        ("electricity", plan.electricity_usd, "USD"),
        ("carbon", plan.carbon_kg, "kg CO2e"),
        ("GPUs bought", plan.purchase_usd, "USD"),
    ):
        if value is not None:
            out.print(f"{name}: {figure(value)} {unit}")
    for text in plan.notes:
        note(f"note: {text}")


def _alike(plan: FleetPlan) -> list[tuple[str, list[Assignment]]]:
    """Return the assignments of each run of hours that have the same ones, with the hours in words."""
    by_hour = {h: [a for a in plan.assignments if a.hour == h] for h in range(plan.hours)}

    def same(hour: int) -> list[Assignment]:
        return [replace(a, hour=0) for a in by_hour[hour]]

    found: list[tuple[str, list[Assignment]]] = []
    for _, group in groupby(range(plan.hours), key=lambda h: [repr(a) for a in same(h)]):
        hours = list(group)
        words = f"hour {hours[0]}" if len(hours) == 1 else f"hours {hours[0]}–{hours[-1]}"
        found.append((words, by_hour[hours[0]]))
    return found


def _print_assignments(rows: list[Assignment], title: str) -> None:
    cells = [
        [
            a.site,
            a.demand,
            a.label,
            f"{a.replicas} × {a.num_gpus} {a.gpu_model}",
            figure(a.batch_size),
            f"{figure(a.capacity_per_s)}/s",
            f"{a.planned_power_w / W_PER_KW:,.1f}",
            figure(a.energy_per_output_j),
            a.basis.value,
        ]
        for a in rows
    ]
    columns = ["site", "demand", "model", "replicas", "batch", "capacity", "facility kW", "GPU J/output", "basis"]
    print_table(title, columns, cells, left=3)


def _print_services(plan: FleetPlan) -> None:
    rows = []
    for demand in dict.fromkeys(s.demand for s in plan.services):
        own = [s for s in plan.services if s.demand == demand]
        asked, served = (sum(getattr(s, name) for s in own) for name in ("asked_per_s", "served_per_s"))
        why = dict.fromkeys(part for s in own if s.reason for part in s.reason.split("; "))
        share = f"{served / asked:.1%}" if asked else "–"
        rows.append([demand, figure(asked / plan.hours), figure(served / plan.hours), share, "; ".join(why)])
    print_table("served, mean over the hours", ["demand", "asked/s", "served/s", "share", "why not all"], rows)


def _print_power(plan: FleetPlan) -> None:
    rows = []
    for site in dict.fromkeys(p.site for p in plan.site_power):
        top = max((p for p in plan.site_power if p.site == site), key=lambda p: p.planned_power_w / p.cap_w)
        e = top.expected_power_w
        rows.append(
            [
                site,
                str(top.hour),
                f"{top.cap_w / W_PER_KW:,.1f}",
                f"{top.planned_power_w / W_PER_KW:,.1f}",
                f"{e.value / W_PER_KW:,.1f}",
                f"{(e.low or 0) / W_PER_KW:,.1f}–{(e.high or 0) / W_PER_KW:,.1f}",
                e.basis.value,
            ]
        )
    columns = ["site", "fullest hour", "cap kW", "planned kW", "expected kW", "90 % interval", "basis"]
    print_table("facility power", columns, rows)
