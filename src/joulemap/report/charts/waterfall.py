"""The joule waterfall: from one energy to another, factor by factor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import polars as pl

from joulemap.report.numbers import figure, times
from joulemap.study.figures.theme import BLUE, INK, MUTED, ORANGE, RULE, Chart, finished, fitted_labels, log_axis

_STEP_PX = 30
_LABEL_PX = 105
"""Room to the right of the largest value for the words beside its bar."""
MORE, LESS, END, REST = "more", "less", "end", "unexplained"
_COLOURS = {MORE: ORANGE, LESS: BLUE, END: MUTED, REST: RULE}


@dataclass(frozen=True, slots=True, kw_only=True)
class WaterfallStep:
    """One factor of a waterfall."""

    name: str
    ratio: float
    low: float | None = None
    """Lower end of the ratio's 90 % interval."""
    high: float | None = None
    basis: str = ""
    """Empty for the unexplained rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """Two values, and the factors that lead from the first to the second."""

    begin_name: str
    begin_value: float
    end_name: str
    end_value: float
    steps: tuple[WaterfallStep, ...]
    axis: str
    """What is drawn along the axis, with its unit."""


def waterfall_chart(fall: Waterfall, *, finding: str, basis: str, width_px: int) -> Chart:
    """Draw a waterfall along a logarithmic axis, so that equal factors are equally long.

    Args:
        fall: What to draw.
        finding: What it shows, as a sentence with its numbers.
        basis: What the values rest on.
        width_px: Width of the whole chart.
    """
    rows = _rows(fall)
    data = pl.DataFrame(rows, infer_schema_length=None)
    drawn = [v for r in rows for v in (r["begin"], r["end"], r["low"], r["high"]) if isinstance(v, float)]
    order = [str(r["name"]) for r in rows]
    labels = fitted_labels(order, width_px)
    options = log_axis([*drawn, _room(drawn, width_px - labels["labelLimit"])], fall.axis)
    y = alt.Y(
        "name:N",
        sort=order,
        title=None,
        axis=alt.Axis(**labels, ticks=False, domain=False),
    )
    x = alt.X("begin:Q", **options)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())), legend=None)
    base = alt.Chart(data).encode(y=y)
    steps = base.transform_filter(alt.datum.kind != END)
    layers = [
        steps.mark_bar(height=14).encode(x, alt.X2("end:Q"), color=colour, tooltip=["name:N", "label:N"]),
        base.transform_filter(alt.datum.kind == END)
        .mark_tick(color=INK, thickness=3, height=20)
        .encode(alt.X("end:Q", **options)),
        steps.mark_rule(color=INK, strokeWidth=1.2).encode(alt.X("low:Q", **options), alt.X2("high:Q")),
        base.mark_text(align="left", dx=7, fontSize=11, color=INK).encode(
            alt.X("right:Q", **options), text="label:N"
        ),
    ]
    chart = alt.layer(*layers).properties(
        width=width_px, height=alt.Step(_STEP_PX), autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    return finished(chart, finding=finding, basis=basis, width_px=width_px)


def _rows(fall: Waterfall) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [_end(fall.begin_name, fall.begin_value)]
    level = fall.begin_value
    for step in fall.steps:
        reached = level * step.ratio
        low = None if step.low is None else level * step.low
        high = None if step.high is None else level * step.high
        kind = REST if not step.basis else MORE if step.ratio >= 1.0 else LESS
        rows.append(
            {
                "name": step.name,
                "begin": level,
                "end": reached,
                "low": low,
                "high": high,
                "right": max(v for v in (level, reached, high) if v is not None),
                "label": f"{times(step.ratio)} {step.basis}".strip(),
                "kind": kind,
            }
        )
        level = reached
    return [*rows, _end(fall.end_name, fall.end_value)]


def _end(name: str, value: float) -> dict[str, object]:
    return {
        "name": name,
        "begin": value,
        "end": value,
        "low": None,
        "high": None,
        "right": value,
        "label": figure(value),
        "kind": END,
    }


def _room(drawn: Sequence[float], plot_px: int) -> float:
    """Return the value up to which the axis has to reach for the words beside the longest bar to fit."""
    low, high = min(drawn), max(drawn)
    share = _LABEL_PX / max(plot_px - _LABEL_PX, _LABEL_PX / 2)
    return high * math.pow(max(high / low, 1.5), share)
