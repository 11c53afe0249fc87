"""A run over time, with the steady window shaded."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.report.numbers import figure
from joulemap.report.payloads.timeline import RunTimeline, Trace
from joulemap.study.figures.theme import (
    BLUE,
    GREEN,
    NARROWEST_TWO_COLUMNS_PX,
    ORANGE,
    PINK,
    SHORT_NUMBER,
    SKY,
    Chart,
    finished,
    panel_title,
)

_PANELS = {
    "power": "Power (W)",
    "requests": "Requests",
    "throughput": "Output ({unit})",
    "KV cache": "KV cache in use",
    "activity": "GPU activity",
}
_COLOURS = [BLUE, ORANGE, GREEN, PINK, SKY]
_SHARE = "format(datum.value, '~%')"
_HEIGHT_PX = 74
_LEGEND_FROM = 2
_AXIS_PX = 52


def timeline_chart(timeline: RunTimeline, width_px: int) -> Chart:
    """Draw power, requests, throughput, KV cache and GPU activity over time, as far as they were sampled.

    Args:
        timeline: The run over time.
        width_px: Width of the whole chart.
    """
    shown = [panel for panel in _PANELS if any(t.panel == panel for t in timeline.traces)]
    panels = [_panel(timeline, panel, width_px - _AXIS_PX, with_axis=panel == shown[-1]) for panel in shown]
    return finished(
        alt.vconcat(*panels, spacing=10).resolve_scale(color="independent"),
        finding=_finding(timeline),
        basis="Shaded: the windows over which the run's quantities were taken",
        width_px=width_px,
    )


def _panel(timeline: RunTimeline, panel: str, width_px: int, *, with_axis: bool) -> Chart:
    traces = [t for t in timeline.traces if t.panel == panel]
    rows = [
        {"time": time, "value": value, "name": trace.name}
        for trace in traces
        for time, value in zip(trace.time_s, trace.values, strict=True)
    ]
    names = [t.name for t in traces]
    share = traces[0].unit == "1"
    x = alt.X(
        "time:Q",
        scale=alt.Scale(domain=[0, timeline.length_s], nice=False),
        title="Time (s)" if with_axis else None,
        axis=alt.Axis(labels=with_axis, ticks=with_axis, tickCount=6, grid=False),
    )
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(zero=True, nice=3),
        axis=alt.Axis(tickCount=3, labelExpr=_SHARE if share else SHORT_NUMBER, minExtent=34, maxExtent=34),
    )
    columns = 1 if width_px + _AXIS_PX < NARROWEST_TWO_COLUMNS_PX else 3
    legend = alt.Legend(title=None, orient="top", offset=2, columns=columns) if len(names) >= _LEGEND_FROM else None
    colour = alt.Color("name:N", scale=alt.Scale(domain=names, range=_COLOURS[: len(names)]), legend=legend)
    lines = (
        alt.Chart(pl.DataFrame(rows))
        .mark_line(strokeWidth=1.5, interpolate="linear", clip=True)
        .encode(x, y, colour)
    )
    heading = _PANELS[panel].format(unit=traces[0].unit)
    layers: list[alt.Chart] = [lines]
    if timeline.windows_s:
        steady = pl.DataFrame([{"begin": timeline.windows_s[0][0], "end": timeline.windows_s[-1][1]}])
        layers.insert(
            0, alt.Chart(steady).mark_rect(color=SKY, opacity=0.22).encode(alt.X("begin:Q"), alt.X2("end:Q"))
        )
    return alt.layer(*layers).properties(width=width_px, height=_HEIGHT_PX, title=panel_title(heading))


def _finding(timeline: RunTimeline) -> str:
    steady = "no complete window"
    if timeline.windows_s:
        begin, end = timeline.windows_s[0][0], timeline.windows_s[-1][1]
        steady = f"{len(timeline.windows_s)} windows from {figure(begin)} to {figure(end)} s"
    power = next((t for t in timeline.traces if t.panel == "power"), None)
    if power is None or not timeline.windows_s:
        return f"The run over {figure(timeline.length_s)} s: {steady}"
    inside = _inside(power, timeline)
    return f"{steady} at {figure(sum(inside) / len(inside))} W" if inside else steady


def _inside(trace: Trace, timeline: RunTimeline) -> list[float]:
    begin, end = timeline.windows_s[0][0], timeline.windows_s[-1][1]
    return [v for t, v in zip(trace.time_s, trace.values, strict=True) if begin <= t <= end]
