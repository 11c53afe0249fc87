"""Energy, throughput, latency and power along the batch."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from joulemap.report.numbers import figure, times
from joulemap.report.payloads.curves import Curve
from joulemap.study.figures.theme import (
    BLUE,
    INK,
    NARROWEST_TWO_COLUMNS_PX,
    SERIES,
    SHORT_NUMBER,
    Chart,
    batch_axis,
    finished,
    panel_title,
)
from joulemap.units import MS_PER_S

_PANELS = (
    ("energy_per_output_j", "Energy per {unit} (J)", 1.0),
    ("output_throughput_per_s", "Throughput ({unit}/s)", 1.0),
    ("itl_median_s", "Median inter-token latency (ms)", MS_PER_S),
    ("latency_median_s", "Median batch latency (s)", 1.0),
    ("power_w", "Power of all GPUs (W)", 1.0),
)
_AXIS_PX, _HEIGHT_PX = 48, 150
_WORTH = 1.05
"""Ratio from which a fall of the energy is told."""


def batch_curves_chart(curves: Sequence[Curve], width_px: int, *, run_id: str | None = None) -> Chart:
    """Draw what was measured along the batch, one line a curve.

    Args:
        curves: Batch curves of one output unit.
        width_px: Width of the whole chart.
        run_id: The run to ring.
    """
    columns = 1 if width_px < NARROWEST_TWO_COLUMNS_PX else 2
    panel_px = width_px // columns - _AXIS_PX - (11 if columns > 1 else 0)
    data = pl.DataFrame(
        [
            {"curve": c.label, "this": row["run_id"] == run_id, **row}
            for c in curves
            for row in c.rows
            if row["batch_size"]
        ],
        infer_schema_length=None,
    )
    unit = curves[0].output_unit
    panels = [
        _panel(data, column, heading.format(unit=unit), scale, curves, panel_px)
        for column, heading, scale in _PANELS
        if data[column].count() > 0 and data[column].dtype.is_numeric()
    ]
    return finished(
        alt.concat(*panels, columns=columns, spacing=22),
        finding=_finding(curves),
        basis="Every point is a run; what lies between is drawn, not measured"
        + ("; the ring is this run" if run_id else ""),
        width_px=width_px,
    )


def _panel(
    data: pl.DataFrame, column: str, heading: str, scale: float, curves: Sequence[Curve], width_px: int
) -> Chart:
    own = data.select("curve", "this", "batch_size", (pl.col(column) * scale).alias("value")).drop_nulls()
    names = [c.label for c in curves]
    many = len(names) > 1
    legend = alt.Legend(title=None, orient="top", columns=1, labelLimit=width_px) if many else None
    colour = (
        alt.Color("curve:N", scale=alt.Scale(domain=names, range=_colours(len(names))), legend=legend)
        if many
        else alt.ColorValue(BLUE)
    )
    shape = alt.Shape("curve:N", scale=alt.Scale(domain=names), legend=legend) if many else alt.ShapeValue("circle")
    base = alt.Chart(own).encode(
        x=alt.X("batch_size:Q", **batch_axis(own["batch_size"], "Requests running together")),
        y=alt.Y(
            "value:Q",
            scale=alt.Scale(zero=True, nice=5),
            axis=alt.Axis(tickCount=5, labelExpr=SHORT_NUMBER),
            title=None,
        ),
    )
    layers = [
        base.mark_line(strokeWidth=2).encode(color=colour, detail="curve:N"),
        base.mark_point(filled=True, size=45, opacity=1).encode(
            color=colour, shape=shape, tooltip=["curve:N", "batch_size:Q", "value:Q"]
        ),
        base.transform_filter(alt.datum.this).mark_point(size=190, color=INK, strokeWidth=1.5),
    ]
    return alt.layer(*layers).properties(width=width_px, height=_HEIGHT_PX, title=panel_title(heading))


def _colours(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]


def _finding(curves: Sequence[Curve]) -> str:
    rows = [(c, row) for c in curves for row in c.rows if row["energy_per_output_j"] and row["batch_size"]]
    if not rows:
        return "What was measured along the batch"
    curve, least = min(rows, key=lambda pair: pair[1]["energy_per_output_j"])
    where = f" of {curve.label}" if len(curves) > 1 else ""
    small = min((row for c, row in rows if c is curve), key=lambda row: row["batch_size"])
    ratio = small["energy_per_output_j"] / least["energy_per_output_j"]
    falls = f", {times(ratio)} less than at {figure(small['batch_size'])}" if ratio > _WORTH else ""
    return (
        f"The least energy{where} is {figure(least['energy_per_output_j'])} J/{curve.output_unit}, at "
        f"{figure(least['batch_size'])} requests together{falls}"
    )
