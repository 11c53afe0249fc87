"""The chart of a plan."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.plan.fleet import FleetPlan
from joulemap.report.document import WIDE_PX
from joulemap.report.numbers import figure
from joulemap.study.figures.theme import (
    INK,
    NARROWEST_TWO_COLUMNS_PX,
    ON_COLOUR,
    SERIES,
    Chart,
    finished,
    fitted_labels,
    panel_title,
)
from joulemap.units import W_PER_KW

_AXIS_PX = 60


def plan_chart(plan: FleetPlan, width_px: int = WIDE_PX) -> Chart:
    """Draw a plan: facility power against the cap by what is served, and served against asked, by hour."""
    sites = list(dict.fromkeys(p.site for p in plan.site_power))
    demands = list(dict.fromkeys(s.demand for s in plan.services))
    gpus = sorted({a.gpu_model for a in plan.assignments})
    panels = [
        *(
            _power(plan, site, width_px, by, values)
            for site in sites
            for by, values in (("demand", demands), ("GPU", gpus))
            if values
        ),
        _service(plan, demands, width_px),
    ]
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
        width_px=width_px,
    )


def _power(plan: FleetPlan, site: str, width_px: int, by: str, values: list[str]) -> Chart:
    """Draw the planned power of a site, divided by demand or by GPU model."""
    rows = [
        {
            "hour": a.hour,
            "part": a.demand if by == "demand" else a.gpu_model,
            "kW": a.planned_power_w / W_PER_KW,
            "replicas": f"{a.replicas} × {a.label} on {a.num_gpus} {a.gpu_model}",
        }
        for a in plan.assignments
        if a.site == site
    ]
    data = pl.DataFrame(rows, schema={"hour": pl.Int64, "part": pl.String, "kW": pl.Float64, "replicas": pl.String})
    caps = pl.DataFrame([{"hour": p.hour, "cap": p.cap_w / W_PER_KW} for p in plan.site_power if p.site == site])
    # One hour is one bar, which lies better than it stands.
    lying = plan.hours == 1
    hour_axis = alt.Axis(labelAngle=0, labelOverlap=True)
    hour = alt.Y("hour:O", axis=None) if lying else alt.X("hour:O", title="Hour", axis=hour_axis)
    power: alt.X | alt.Y = (alt.X if lying else alt.Y)("kW:Q", title="Facility power (kW)")
    limit: alt.X | alt.Y = (alt.X if lying else alt.Y)("cap:Q")
    legend = alt.Legend(columns=2 if width_px < NARROWEST_TWO_COLUMNS_PX else 4, title=None)
    scale = alt.Scale(domain=values, range=SERIES if by == "demand" else SERIES[::-1])
    bars = (
        alt.Chart(data)
        .mark_bar()
        .encode(hour, power, color=alt.Color("part:N", scale=scale, legend=legend), tooltip=["replicas:N", "kW:Q"])
    )
    cap = alt.Chart(caps).mark_tick(color=INK, thickness=2, width=alt.RelativeBandSize(1)).encode(hour, limit)
    if lying:
        cap = alt.Chart(caps).mark_tick(color=INK, thickness=2, height=alt.RelativeBandSize(1)).encode(hour, limit)
    title = f"{site}: planned power by {by}; the black line is the cap"
    return alt.layer(bars, cap).properties(
        width=width_px - _AXIS_PX, height=44 if lying else 170, title=panel_title(title)
    )


def _service(plan: FleetPlan, demands: list[str], width_px: int) -> Chart:
    if plan.hours == 1:
        return _service_of_an_hour(plan, demands, width_px)
    rows = [
        {"hour": s.hour, "demand": s.demand, "rate": rate, "what": what}
        for s in plan.services
        for what, rate in (("asked", s.asked_per_s), ("served", s.served_per_s))
    ]
    lines = alt.Chart(pl.DataFrame(rows)).mark_line(point=True)
    chart: alt.Chart = lines.encode(
        alt.X("hour:O", title="Hour", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        alt.Y("rate:Q", title="Rate (1/s)"),
        color=alt.Color("demand:N", scale=alt.Scale(domain=demands, range=SERIES), legend=None),
        strokeDash=alt.StrokeDash("what:N", legend=None),
    ).properties(width=width_px - _AXIS_PX, height=160, title=panel_title("Asked (solid) and served (dashed)"))
    return chart


def _service_of_an_hour(plan: FleetPlan, demands: list[str], width_px: int) -> Chart:
    rows = [
        {
            "demand": s.demand,
            "share": s.served_per_s / s.asked_per_s if s.asked_per_s else 1.0,
            "label": f"{figure(s.served_per_s)} of {figure(s.asked_per_s)}/s",
        }
        for s in plan.services
    ]
    labels = fitted_labels(demands, width_px)
    base = alt.Chart(pl.DataFrame(rows)).encode(
        alt.X("share:Q", title="Share served", scale=alt.Scale(domain=[0, 1.0]), axis=alt.Axis(format="%")),
        alt.Y("demand:N", sort=demands, title=None, axis=alt.Axis(**labels)),
    )
    bars = base.mark_bar().encode(
        color=alt.Color("demand:N", scale=alt.Scale(domain=demands, range=SERIES), legend=None)
    )
    texts = base.mark_text(align="left", dx=6, fontSize=11, color=ON_COLOUR).encode(x=alt.value(0), text="label:N")
    width = width_px - _AXIS_PX - labels["labelLimit"]
    return alt.layer(bars, texts).properties(width=width, height=alt.Step(30), title=panel_title("Served of asked"))
