"""Predicted against measured, run by run, with the prediction's intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from joulemap.report.charts.predicted import Prediction
from joulemap.report.numbers import sentence
from joulemap.study.figures.theme import (
    BLUE,
    INK,
    NARROWEST_TWO_COLUMNS_PX,
    ORANGE,
    Chart,
    finished,
    log_axis,
    panel_title,
)

_AXIS_PX, _HEIGHT_PX = 62, 200


def predicted_scatter_chart(panels: Mapping[str, Sequence[Prediction]], width_px: int) -> Chart:
    """Draw one panel a quantity: each run's prediction with its 90 % interval over what was measured.

    Args:
        panels: Predictions by the quantity in words.
        width_px: Width of the whole chart.
    """
    columns = 1 if width_px < NARROWEST_TWO_COLUMNS_PX else min(len(panels), 2)
    panel_px = width_px // columns - _AXIS_PX - (10 if columns > 1 else 0)
    every = [p for predictions in panels.values() for p in predictions]
    inside = sum(p.holds for p in every)
    return finished(
        alt.concat(*(_panel(name, ps, panel_px) for name, ps in panels.items()), columns=columns, spacing=18),
        finding=f"{inside} of {len(every)} measured values lie in the model's 90 % interval",
        basis="Each bar is the 90 % interval of a prediction, orange where the measured value lies outside; on the "
        "dashed line both agree. For runs that the calibration has seen this is a fit, no test",
        width_px=width_px,
    )


def _panel(name: str, predictions: Sequence[Prediction], width_px: int) -> Chart:
    data = pl.DataFrame(
        [
            {
                "run": p.name,
                "measured": p.measured_value,
                "predicted": p.predicted_value,
                "low": p.low,
                "high": p.high,
                "holds": p.holds,
            }
            for p in predictions
        ]
    )
    unit = predictions[0].unit
    drawn = [*data["measured"], *data["low"], *data["high"]]
    x = alt.X("measured:Q", **log_axis(drawn, f"Measured ({unit})", grid=False))
    y = alt.Y("predicted:Q", **log_axis(drawn, f"Predicted ({unit})"))
    colour = alt.Color("holds:N", scale=alt.Scale(domain=[True, False], range=[BLUE, ORANGE]), legend=None)
    ends = pl.DataFrame({"measured": [min(drawn), max(drawn)], "predicted": [min(drawn), max(drawn)]})
    base = alt.Chart(data)
    layers = [
        alt.Chart(ends).mark_line(color=INK, strokeDash=[4, 3], strokeWidth=1).encode(x, y),
        base.mark_rule(strokeWidth=2.5, opacity=0.5).encode(x, y=alt.Y("low:Q"), y2="high:Q", color=colour),
        base.mark_point(filled=True, size=35, opacity=1).encode(x, y, color=colour, tooltip=["run:N"]),
    ]
    return alt.layer(*layers).properties(width=width_px, height=_HEIGHT_PX, title=panel_title(sentence(name)))
