"""The ledger of joules as a stacked bar, next to the ideal."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from joulemap.diagnose.diagnosis import Diagnosis, Part
from joulemap.report.numbers import figure, joules, plain, times
from joulemap.study.figures.theme import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    NARROWEST_TWO_COLUMNS_PX,
    ON_COLOUR,
    ORANGE,
    PINK,
    RULE,
    SKY,
    YELLOW,
    Chart,
    finished,
    fitted_labels,
)

PART_COLOURS = {
    Part.WEIGHT_TRAFFIC: BLUE,
    Part.KV_TRAFFIC: SKY,
    Part.COMPUTE: GREEN,
    Part.PREFILL: YELLOW,
    Part.COMMUNICATION: PINK,
    Part.DYNAMIC: "#8C6BB1",
    Part.STATIC_WORKING: "#A7A7A7",
    Part.STATIC_STARVED: ORANGE,
    Part.UNEXPLAINED: "#E3DFD5",
}
"""One colour a part, the same in every chart; waiting stands out."""
_ORDER = {part: position for position, part in enumerate(PART_COLOURS)}
_LABELLED = 0.06
"""Share of the longest bar from which a part has room for its percentage."""
_IDEAL = "Ideal: the same work at the roofline of this hardware, at the batch that memory holds"
_BAR_PX, _TOTAL_PX = 46, 55


def ledger_chart(diagnoses: Sequence[tuple[str, Diagnosis]], width_px: int, *, ideals: bool = True) -> Chart:
    """Draw where the joules of one run, or of several, went, each above its ideal.

    Args:
        diagnoses: What to write beside each bar, and the diagnosis; all of one output unit.
        width_px: Width of the whole chart.
        ideals: Draw the ideals too.
    """
    longest = max(d.total_j_per_output for _, d in diagnoses)
    rows = [row for position, (name, d) in enumerate(diagnoses) for row in _rows(name, d, position, longest)]
    rows = [row for row in rows if ideals or row["part"] is not None]
    data = pl.DataFrame(rows)
    unit = diagnoses[0][1].output_unit
    bars = list(dict.fromkeys(data["bar"]))
    seen = [p.value for p in _ORDER if p.value in set(data["part"].drop_nulls())]
    colour = alt.Color(
        "words:N",
        scale=alt.Scale(domain=[plain(p) for p in seen], range=[PART_COLOURS[Part(p)] for p in seen]),
        legend=alt.Legend(title=None, columns=3 if width_px < NARROWEST_TWO_COLUMNS_PX else 5, symbolType="square"),
    )
    labels = fitted_labels(bars, width_px)
    y = alt.Y("bar:N", sort=bars, title=None, axis=alt.Axis(**labels, ticks=False, domain=False))
    # Room for the total beside the longest bar.
    reach = longest * (1.0 + _TOTAL_PX / (width_px - _TOTAL_PX - labels["labelLimit"]))
    x = alt.X(
        "begin:Q",
        title=f"Energy per {unit} (J)",
        scale=alt.Scale(domain=[0, reach], nice=False),
        axis=alt.Axis(tickCount=4 if width_px < NARROWEST_TWO_COLUMNS_PX else 6, grid=True),
    )
    base = alt.Chart(data).encode(y=y)
    parts = base.transform_filter(alt.datum.part != None)  # noqa: E711  # an expression of the chart
    layers = [
        parts.mark_bar(stroke=RULE, strokeWidth=0.4, height=_BAR_PX - 18).encode(
            x, alt.X2("end:Q"), color=colour, tooltip=["words:N", "joules:Q", "share:N", "basis:N"]
        ),
        base.transform_filter(alt.datum.part == None)  # noqa: E711
        .mark_bar(color=MUTED, height=12)
        .encode(x, alt.X2("end:Q")),
        parts.transform_filter(alt.datum.wide)
        .mark_text(fontSize=11)
        .encode(x=alt.X("middle:Q"), text="share:N", color=alt.ColorValue(ON_COLOUR)),
        base.transform_filter(alt.datum.total != "")
        .mark_text(align="left", dx=5, fontSize=11, color=INK)
        .encode(x=alt.X("end:Q"), text="total:N"),
    ]
    chart = alt.layer(*layers).properties(
        width=width_px,
        height=alt.Step(_BAR_PX if ideals else _BAR_PX - 14),
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )
    return finished(
        chart,
        finding=_finding(diagnoses),
        basis=f"Joules per {unit}; the parts sum to the measured energy, and are {_basis(diagnoses)}"
        + (f". {_IDEAL}" if ideals else ""),
        width_px=width_px,
    )


def _rows(name: str, diagnosis: Diagnosis, position: int, longest: float) -> list[dict[str, object]]:
    total, begin = diagnosis.total_j_per_output, 0.0
    rows: list[dict[str, object]] = []
    parts = sorted((p for p in diagnosis.ledger if p.joules_per_output > 0), key=lambda p: _ORDER[p.part])
    for part in parts:
        end = begin + part.joules_per_output
        share = part.joules_per_output / total
        rows.append(
            {
                "bar": name,
                "part": part.part.value,
                "words": plain(part.part.value),
                "begin": begin,
                "end": end,
                "middle": (begin + end) / 2,
                "joules": part.joules_per_output,
                "share": f"{share:.0%}",
                "wide": part.joules_per_output > _LABELLED * longest,
                "total": joules(total) if part is parts[-1] else "",
                "basis": part.basis.value,
            }
        )
        begin = end
    ideal = diagnosis.ideal_j_per_output
    rows.append(
        {
            "bar": "ideal" if position == 0 else f"ideal of {name}",
            "part": None,
            "words": None,
            "begin": 0.0,
            "end": ideal,
            "middle": ideal / 2,
            "joules": ideal,
            "share": "",
            "wide": False,
            "total": joules(ideal),
            "basis": "modelled",
        }
    )
    return rows


def _basis(diagnoses: Sequence[tuple[str, Diagnosis]]) -> str:
    return " or ".join(sorted({p.basis.value for _, d in diagnoses for p in d.ledger}))


def _finding(diagnoses: Sequence[tuple[str, Diagnosis]]) -> str:
    name, first = diagnoses[0]
    if len(diagnoses) > 1:
        return _difference(first, diagnoses[-1][1], name, diagnoses[-1][0])
    top = max(first.ledger, key=lambda p: p.joules_per_output)
    share = top.joules_per_output / first.total_j_per_output
    above = times(first.total_j_per_output / first.ideal_j_per_output)
    return f"{share:.0%} of the energy is {plain(top.part.value)}; it is {above} the ideal"


def _difference(first: Diagnosis, last: Diagnosis, first_name: str, last_name: str) -> str:
    """Return which part makes most of the difference between two ledgers, as a sentence."""
    parts = [{p.part: p.joules_per_output for p in d.ledger} for d in (first, last)]
    gaps = {part: parts[0].get(part, 0.0) - parts[1].get(part, 0.0) for part in PART_COLOURS}
    part = max(gaps, key=lambda p: abs(gaps[p]))
    before, after = (figure(own.get(part, 0.0)) for own in parts)
    totals = [figure(d.total_j_per_output) for d in (first, last)]
    return (
        f"{first_name} takes {totals[0]} J, {last_name} {totals[1]} J; most of the difference is "
        f"{plain(part.value)}: {before} against {after} J"
    )
