"""The chart of a plan."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.plan.fleet import FleetPlan
from joulemap.study.figures.theme import INK, SERIES, Chart, finished, panel_title
from joulemap.units import W_PER_KW

WIDTH_PX = 620


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
            color=alt.Color("demand:N", scale=alt.Scale(domain=demands, range=SERIES), title=None),
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
        color=alt.Color("demand:N", scale=alt.Scale(domain=demands, range=SERIES), title=None),
        strokeDash=alt.StrokeDash("what:N", legend=None),
    ).properties(width=WIDTH_PX - 80, height=160, title=panel_title("Asked (solid) and served (dashed)"))
    return chart
