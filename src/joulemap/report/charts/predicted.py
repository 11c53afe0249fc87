"""What the calibrated model predicts against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import polars as pl

from joulemap.report.numbers import figure, times
from joulemap.study.figures.theme import (
    BLUE,
    INK,
    ORANGE,
    Chart,
    finished,
    fitted_labels,
    log_axis,
)

_STEP_PX = 30
_LABEL_PX = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One value as predicted, with its interval, and as measured."""

    name: str
    measured_value: float
    predicted_value: float
    low: float
    high: float
    unit: str

    @property
    def holds(self) -> bool:
        """Whether the measured value lies in the interval."""
        return self.low <= self.measured_value <= self.high


def predictions_chart(predictions: Sequence[Prediction], width_px: int) -> Chart:
    """Draw predictions with their intervals as ratios to what was measured.

    Args:
        predictions: One row each.
        width_px: Width of the whole chart.
    """
    rows = [
        {
            "name": p.name,
            "ratio": p.predicted_value / p.measured_value,
            "low": p.low / p.measured_value,
            "high": p.high / p.measured_value,
            "holds": "the measured value lies in the interval" if p.holds else "it lies outside",
            "label": f"{figure(p.predicted_value)} for {figure(p.measured_value)} {p.unit}",
        }
        for p in predictions
    ]
    data = pl.DataFrame(rows)
    drawn = [v for r in rows for v in (r["low"], r["high"], r["ratio"]) if isinstance(v, float)]
    names = [p.name for p in predictions]
    x = alt.X("ratio:Q", **log_axis([*drawn, 0.8, 1.25], "Predicted ÷ measured"))
    y = alt.Y(
        "name:N", sort=names, title=None, axis=alt.Axis(**fitted_labels(names, width_px), ticks=False, domain=False)
    )
    domain = ["the measured value lies in the interval", "it lies outside"]
    colour = alt.Color(
        "holds:N", scale=alt.Scale(domain=domain, range=[BLUE, ORANGE]), legend=alt.Legend(title=None)
    )
    base = alt.Chart(data).encode(y=y)
    one = alt.Chart(pl.DataFrame({"one": [1.0]})).mark_rule(color=INK, strokeDash=[4, 3]).encode(x="one:Q")
    layers = [
        one,
        base.mark_rule(strokeWidth=5, opacity=0.45).encode(alt.X("low:Q"), alt.X2("high:Q"), color=colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(x, color=colour, tooltip=["name:N", "label:N"]),
        base.mark_text(baseline="top", dy=7, fontSize=10, color=INK).encode(x, text="label:N"),
    ]
    inside = sum(p.holds for p in predictions)
    chart = alt.layer(*layers).properties(
        width=width_px, height=alt.Step(_STEP_PX + 6), autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    worst = max(
        predictions, key=lambda p: max(p.predicted_value / p.measured_value, p.measured_value / p.predicted_value)
    )
    return finished(
        chart,
        finding=f"{inside} of {len(predictions)} measured values lie in the model's 90 % interval; the farthest is "
        f"{worst.name}, predicted {times(worst.predicted_value / worst.measured_value)} what was measured",
        basis="Bars are 90 % intervals of the prediction. For runs that the calibration has seen this is a fit, "
        "no test",
        width_px=width_px,
    )


def _distance(p: Prediction) -> float:
    return max(p.predicted_value / p.measured_value, p.measured_value / p.predicted_value)
