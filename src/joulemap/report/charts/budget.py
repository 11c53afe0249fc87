"""The chart of an energy budget."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.plan.budget import BudgetReport
from joulemap.study.figures.theme import BLUE, INK, ORANGE, Chart, finished

WIDTH_PX = 620


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
