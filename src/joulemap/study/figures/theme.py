"""What all figures share: colours that the colour-blind tell apart, type, and titles that state a finding."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, cast

import altair as alt

Chart: TypeAlias = (
    alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart | alt.ConcatChart
)

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
"""The Okabe–Ito palette: told apart under every common form of colour blindness, and in grey print by shape."""
SERIES = [BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, "#882255", "#7A7A29"]
"""Colours of categories that have none of their own, in order; the last two are darker than any before them."""
ON_COLOUR = "#111111"
"""Words on a coloured bar: the same on paper and on a dark page."""
INK, MUTED, RULE = "#222222", "#666666", "#999999"
GRID, RAISED, PAPER = "#E6E6E6", "#F6F7F8", "#FFFFFF"
"""Text and lines, on paper. A page with a scheme of its own (dark, print) puts others in their place."""

GPU_COLOURS = alt.Scale(domain=["B200", "H100"], range=[BLUE, ORANGE])
GPU_SHAPES = alt.Scale(domain=["B200", "H100"], range=["circle", "square"])

NARROWEST_TWO_COLUMNS_PX = 500
"""Width from which a chart has room for two panels, or long legends, side by side."""

_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_CHARACTER_PX = 7.7
"""Mean width of a character of the title."""


def finished(chart: Chart, *, finding: str, basis: str, width_px: int) -> Chart:
    """Return a chart with its title, subtitle, the common look, and a description for those who cannot see it.

    Args:
        chart: The chart.
        finding: What the chart shows, as a sentence with computed numbers.
        basis: Which runs are shown, and how they were chosen.
        width_px: Width of the whole chart, to which the title is broken.
    """
    title = alt.TitleParams(
        text=textwrap.wrap(finding, int(width_px / _CHARACTER_PX)),
        subtitle=textwrap.wrap(basis, int(width_px / _CHARACTER_PX * 1.22)),
        anchor="start",
        frame="bounds",
        offset=14,
    )
    styled = chart.properties(title=title, description=f"{finding}. {basis}.").configure(
        font=_FONT,
        background=PAPER,
        padding=12,
        title=alt.TitleConfig(
            fontSize=15, color=INK, subtitleFontSize=11.5, subtitleColor=MUTED, subtitlePadding=5, lineHeight=19
        ),
        axis=alt.AxisConfig(
            labelFontSize=11,
            titleFontSize=11.5,
            titleFontWeight="normal",
            titleColor=INK,
            labelColor=INK,
            gridColor=GRID,
            domainColor=RULE,
            tickColor=RULE,
            labelLimit=260,
            titlePadding=8,
        ),
        legend=alt.LegendConfig(
            labelFontSize=11,
            titleFontSize=11,
            titleFontWeight="normal",
            labelColor=INK,
            titleColor=INK,
            orient="top",
            labelLimit=260,
        ),
        header=alt.HeaderConfig(labelFontSize=12, titleFontSize=11.5, labelColor=INK, titleColor=INK),
        view=alt.ViewConfig(stroke=None),
    )
    return cast("Chart", styled)


def panel_title(text: str) -> alt.TitleParams:
    """Return the title of one panel of a figure."""
    return alt.TitleParams(
        text=text, color=INK, fontSize=12, fontWeight="normal", anchor="start", frame="group", offset=6
    )


def fitted_labels(labels: Iterable[str], width_px: int) -> dict[str, Any]:
    """Return the options of an axis whose labels are words, which take a third of the chart's width at most."""
    longest = max(map(len, labels), default=0)
    return {"labelLimit": max(60, min(round(longest * 7), width_px // 3))}


def log_axis(values: Iterable[float], title: str, **axis: Any) -> dict[str, Any]:
    """Return the encoding options of a logarithmic axis that fits the values, ticked at round numbers.

    Args:
        values: Everything that is drawn along the axis, positive.
        title: The axis title, with its unit; the scale is added to it.
        axis: Further options of ``altair.Axis``.
    """
    drawn = list(values)
    low, high = min(drawn), max(drawn)
    room = (high / low) ** 0.05 if high > low else 1.5
    low, high = low / room, high * room
    decades = math.log10(high / low)
    steps = next((steps for span, steps in _STEPS if decades < span), (1.0,))
    every = 1 if decades < 6.5 else 2
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [s * 10.0**n for n in exponents if n % every == 0 for s in steps]
    return {
        "scale": alt.Scale(type="log", domain=[float(f"{end:.3g}") for end in (low, high)], nice=False),
        "axis": alt.Axis(values=[t for t in ticks if low <= t <= high], labelExpr=SHORT_NUMBER, **axis),
        "title": f"{title}, log scale",
    }


SHORT_NUMBER = (
    "datum.value >= 1e6 ? format(datum.value / 1e6, '~g') + 'M' : "
    "datum.value >= 1e4 ? format(datum.value / 1e3, '~g') + 'k' : format(datum.value, ',~g')"
)
"""Axis labels of numbers of any size: 1,000, 20k, 0.25."""
SIGNED_PERCENT = "datum.value == 0 ? '0%' : format(datum.value, '+.0%')"
"""Axis labels of relative changes."""


_STEPS: Sequence[tuple[float, tuple[float, ...]]] = (
    (1.2, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)),
    (2.2, (1.0, 2.0, 5.0)),
    (3.5, (1.0, 3.0)),
)
"""Ticks within a decade for axes of fewer decades than the first number."""


def batch_axis(batches: Iterable[float], title: str = "Batch (maximum number of sequences)") -> dict[str, Any]:
    """Return the encoding options of an axis of batches, ticked at powers of two."""
    drawn = list(batches)
    low, high = min(drawn), max(drawn)
    powers = [2.0**n for n in range(round(math.log2(low)), math.ceil(math.log2(high)) + 1)]
    room = 1.12
    return {
        "scale": alt.Scale(type="log", base=2, domain=[low / room, high * room], nice=False),
        "axis": alt.Axis(values=[p for p in powers if low / room <= p <= high * room], format="d", grid=False),
        "title": f"{title}, log scale",
    }
