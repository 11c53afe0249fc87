"""The chart of a breakdown."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.diagnose.breakdown import Breakdown, BreakdownRow
from joulemap.errors import InputError
from joulemap.study.figures.theme import BLUE, INK, SKY, Chart, finished, log_axis
from joulemap.units import MS_PER_S

_SETTINGS = ("gpu", "precision", "batch")
"""Dimensions along which rows hold different models, so that only models that two rows share are compared."""
_WORDS = {"energy_per_request_j": "Energy per response (J)", "energy_per_output_j": "Energy per {unit} (J)"}


def breakdown_chart(breakdown: Breakdown) -> Chart:
    """Draw the compared energy of each row, with the range over its configurations.

    Raises:
        InputError: No row states the compared energy.
    """
    rows = [row for row in breakdown.rows if row.quantities[breakdown.compared]]
    if not rows:
        msg = f"no run states {breakdown.compared}, so that there is nothing to draw"
        raise InputError(msg, fix="joulemap breakdown --per output")
    data = pl.DataFrame([_point(row, breakdown) for row in rows])
    units = sorted({row.output_unit for row in rows})
    axis = _WORDS[breakdown.compared].format(unit=" or ".join(units))
    options = log_axis([*data["low"], *data["high"]], axis)
    x = alt.X("value:Q", **options)
    order = list(dict.fromkeys(data["group"]))
    base = alt.Chart(data).encode(y=alt.Y("group:N", sort=order, title=None))
    spans = base.mark_rule(color=SKY, strokeWidth=5, opacity=0.6).encode(x=alt.X("low:Q", **options), x2="high:Q")
    points = base.mark_point(filled=True, size=85, color=BLUE, opacity=1).encode(x)
    labels = base.mark_text(align="left", dx=8, color=INK, fontSize=11, x="width").encode(text="label:N")
    layers = alt.layer(spans, points, labels).properties(width=400, height=alt.Step(24))
    chart: Chart = layers
    if any(row.task for row in rows):
        header = alt.Header(labelOrient="top", labelAnchor="start", title=None)
        chart = layers.facet(row=alt.Row("task:N", header=header), spacing=14).resolve_scale(y="independent")
    return finished(chart, finding=_finding(breakdown, rows), basis=_basis(breakdown), width_px=640)


def _point(row: BreakdownRow, breakdown: Breakdown) -> dict[str, object]:
    statistic = row.quantities[breakdown.compared]
    assert statistic is not None  # rows without it were left out
    low = statistic.low if statistic.low is not None else statistic.value
    high = statistic.high if statistic.high is not None else statistic.value
    ratio = _ratio(row, breakdown)
    return {
        "task": row.task,
        "group": row.group,
        "value": statistic.value,
        "low": low,
        "high": high,
        "label": f"{float(f'{statistic.value:.3g}'):,g} J{f' ({_times(ratio)})' if ratio else ''}",
    }


def _ratio(row: BreakdownRow, breakdown: Breakdown) -> float | None:
    """Return the ratio to the cheapest row that compares like with like."""
    return row.same_models_ratio if breakdown.by in _SETTINGS else row.ratio


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def _finding(breakdown: Breakdown, rows: list[BreakdownRow]) -> str:
    """Return the widest gap that the breakdown shows, as a sentence."""
    widest = max(rows, key=lambda row: _ratio(row, breakdown) or 0.0)
    ratio = _ratio(widest, breakdown)
    cheapest = next((r for r in rows if r.task == widest.task and r.ratio == 1.0), widest)
    per = "response" if breakdown.compared == "energy_per_request_j" else widest.output_unit
    if ratio is None or widest is cheapest:
        return f"Energy per {per} by {breakdown.by}"
    where = f" in {widest.task}" if widest.task else ""
    named = "batch " if breakdown.by == "batch" else ""
    models = "model" if widest.same_models == 1 else f"{widest.same_models} models"
    on = f", on the {models} that both have" if breakdown.by in _SETTINGS else ""
    return (
        f"{named.capitalize()}{widest.group} takes {_times(ratio)} the energy per {per} of "
        f"{named}{cheapest.group}{where}{on}"
    )


def _basis(breakdown: Breakdown) -> str:
    limits = []
    if breakdown.itl_limit_s is not None:
        limits.append(f"median inter-token latency ≤ {breakdown.itl_limit_s * MS_PER_S:g} ms")
    if breakdown.latency_limit_s is not None:
        limits.append(f"batch latency ≤ {breakdown.latency_limit_s:g} s")
    over = " over the models that both have" if breakdown.by in _SETTINGS else ""
    within = f" with {' and '.join(limits)}" if limits else ""
    return (
        f"Each model's configuration of least energy per output{within}; point: mean over models, bar: lowest to "
        f"highest, in brackets: ratio to the cheapest{over}"
    )
