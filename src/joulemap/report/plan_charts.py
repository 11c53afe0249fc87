"""Charts of plans and simulations."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.plan.budget import BudgetReport
from joulemap.plan.fleet import FleetPlan
from joulemap.plan.procurement import Comparison
from joulemap.plan.simulate.simulate import PowerResult, Simulation
from joulemap.study.figures.theme import BLUE, GREEN, INK, ORANGE, PINK, SKY, YELLOW, Chart, finished, panel_title
from joulemap.units import S_PER_HOUR, W_PER_KW

WIDTH_PX = 620
_COLOURS = [BLUE, ORANGE, GREEN, PINK, SKY, YELLOW]


def plan_chart(plan: FleetPlan) -> Chart:
    """Draw a plan: facility power against the cap by what is served, and served against asked, by hour."""
    sites = list(dict.fromkeys(p.site for p in plan.site_power))
    demands = list(dict.fromkeys(s.demand for s in plan.services))
    panels = [*(_power(plan, site, demands) for site in sites), _service(plan, demands)]
    asked = sum(s.asked_per_s for s in plan.services)
    served = sum(s.served_per_s for s in plan.services)
    share = f"{served / asked:.0%}" if asked else "nothing"
    return finished(
        alt.vconcat(*panels, spacing=18).resolve_scale(color="independent"),
        finding=f"The fleet serves {share} of what is asked within the cap; binding: {'; '.join(plan.binding)}",
        basis=(
            f"Objective: {plan.objective}, within {plan.gap_fraction:.2%} of the best possible; "
            f"power counted: {plan.power}"
        ),
        width_px=WIDTH_PX,
    )


def _power(plan: FleetPlan, site: str, demands: list[str]) -> Chart:
    rows = [
        {
            "hour": a.hour,
            "demand": a.demand,
            "kW": a.planned_power_w / W_PER_KW,
            "replicas": f"{a.replicas} × {a.label} on {a.num_gpus} {a.gpu_model}",
        }
        for a in plan.assignments
        if a.site == site
    ]
    data = pl.DataFrame(
        rows, schema={"hour": pl.Int64, "demand": pl.String, "kW": pl.Float64, "replicas": pl.String}
    )
    caps = pl.DataFrame([{"hour": p.hour, "cap": p.cap_w / W_PER_KW} for p in plan.site_power if p.site == site])
    x = alt.X("hour:O", title="Hour", axis=alt.Axis(labelAngle=0))
    bars = (
        alt.Chart(data)
        .mark_bar()
        .encode(
            x,
            alt.Y("kW:Q", title="Facility power (kW)"),
            color=alt.Color("demand:N", scale=alt.Scale(domain=demands, range=_COLOURS), title=None),
            tooltip=["replicas:N", "kW:Q"],
        )
    )
    cap = alt.Chart(caps).mark_tick(color=INK, thickness=2, width=alt.RelativeBandSize(1)).encode(x, alt.Y("cap:Q"))
    return alt.layer(bars, cap).properties(
        width=WIDTH_PX - 80, height=180, title=panel_title(f"{site}: planned power; the black line is the cap")
    )


def _service(plan: FleetPlan, demands: list[str]) -> Chart:
    rows = [
        {"hour": s.hour, "demand": s.demand, "rate": rate, "what": what}
        for s in plan.services
        for what, rate in (("asked", s.asked_per_s), ("served", s.served_per_s))
    ]
    lines = alt.Chart(pl.DataFrame(rows)).mark_line(point=True)
    chart: alt.Chart = lines.encode(
        alt.X("hour:O", title="Hour", axis=alt.Axis(labelAngle=0)),
        alt.Y("rate:Q", title="Rate (1/s)"),
        color=alt.Color("demand:N", scale=alt.Scale(domain=demands, range=_COLOURS), title=None),
        strokeDash=alt.StrokeDash("what:N", legend=None),
    ).properties(width=WIDTH_PX - 80, height=160, title=panel_title("Asked (solid) and served (dashed)"))
    return chart


def simulation_chart(done: Simulation) -> Chart:
    """Draw a simulation: each site's facility power over time against the cap."""
    panels = [_power_over_time(p) for p in done.power]
    over = max(p.over_cap_fraction for p in done.power)
    waits = [d.wait_p99_s for d in done.demands if d.wait_p99_s is not None]
    worst = f"; 99 % of requests start within {max(waits):.2g} s" if waits else ""
    return finished(
        alt.vconcat(*panels, spacing=18),
        finding=f"Facility power is over the cap {over:.2%} of the time{worst}",
        basis=f"{done.requests:,} simulated requests; power as a mean over {_bin_s(done):,.0f} s",
        width_px=WIDTH_PX,
    )


def _bin_s(done: Simulation) -> float:
    return float(done.power[0].bin_s[1])


def _power_over_time(power: PowerResult) -> Chart:
    data = pl.DataFrame(
        {
            "hour": power.bin_s / S_PER_HOUR,
            "kW": power.bin_mean_w / W_PER_KW,
            "cap": power.bin_cap_w / W_PER_KW,
        }
    )
    x = alt.X("hour:Q", title="Hour")
    level = alt.Chart(data).mark_line(color=BLUE).encode(x, alt.Y("kW:Q", title="Facility power (kW)"))
    cap = (
        alt.Chart(data).mark_line(color=INK, interpolate="step-after", strokeDash=[5, 3]).encode(x, alt.Y("cap:Q"))
    )
    return alt.layer(level, cap).properties(
        width=WIDTH_PX - 80, height=180, title=panel_title(f"{power.site}: power; the dashed line is the cap")
    )


def comparison_chart(found: Comparison) -> Chart:
    """Draw GPU models compared: the least energy of each model within each limit, by GPU model."""
    rows = [
        {
            "model": f"{m.label} · {m.task}",
            "limit": f"≤ {m.limit_s:g} s",
            "GPU": s.gpu_model,
            "energy": s.energy_per_output_j / min(x.energy_per_output_j for x in m.sides),
        }
        for m in found.matches
        for s in m.sides
    ]
    data = pl.DataFrame(
        rows, schema={"model": pl.String, "limit": pl.String, "GPU": pl.String, "energy": pl.Float64}
    )
    chart = (
        alt.Chart(data)
        .mark_point(filled=True, size=45, opacity=0.7)
        .encode(
            alt.X("energy:Q", scale=alt.Scale(type="log"), title="Energy over that of the best GPU, log scale"),
            alt.Y("model:N", title=None),
            color=alt.Color("GPU:N", scale=alt.Scale(domain=list(found.gpu_models), range=_COLOURS), title=None),
            shape=alt.Shape("limit:N", title="Limit on latency"),
        )
        .properties(width=WIDTH_PX - 280)
    )
    wins = "; ".join(f"{d.newer} against {d.older} in {d.wins} of {d.pairs} ({d.task})" for d in found.duels)
    return finished(
        alt.hconcat(chart),
        finding=f"Less energy at matched latency: {wins}",
        basis="Each point: a model's lowest energy within the limit on one GPU model; 1 is the best GPU model",
        width_px=WIDTH_PX,
    )


def budget_chart(report: BudgetReport) -> Chart:
    """Draw the energy of a response of each model and task against the budget."""
    rows = [
        {
            "pairing": f"{p.label} · {p.task}",
            "energy": p.energy_per_request_j.value,
            "low": p.energy_per_request_j.low,
            "high": p.energy_per_request_j.high,
            "fits": "fits" if p.fits else "does not fit",
        }
        for p in report.pairings
    ]
    data = pl.DataFrame(rows)
    y = alt.Y("pairing:N", sort=alt.EncodingSortField("energy"), title=None)
    colour = alt.Color("fits:N", scale=alt.Scale(domain=["fits", "does not fit"], range=[BLUE, ORANGE]), title=None)
    scale = alt.Scale(type="log")
    bars = (
        alt.Chart(data).mark_rule(strokeWidth=2).encode(alt.X("low:Q", scale=scale), y, x2="high:Q", color=colour)
    )
    points = (
        alt.Chart(data)
        .mark_point(filled=True, size=45)
        .encode(alt.X("energy:Q", scale=scale, title="Energy of a response (J), log scale"), y, color=colour)
    )
    limit = alt.Chart(pl.DataFrame({"budget": [report.budget.energy_j]})).mark_rule(color=INK).encode(x="budget:Q")
    fitting = sum(p.fits for p in report.pairings)
    return finished(
        alt.layer(bars, points, limit).properties(width=WIDTH_PX - 280),
        finding=f"{fitting} of {len(report.pairings)} pairings of a model and a task fit "
        f"{report.budget.energy_j:,.3g} J a response",
        basis=f"Least energy of each model, {report.budget.scope}; the line is the budget, bars are 90 % intervals",
        width_px=WIDTH_PX,
    )
