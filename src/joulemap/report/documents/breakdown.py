"""The report on a breakdown: energy by task, model, GPU, precision, batch or modality."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from joulemap.diagnose.breakdown import INTERVAL, Breakdown, BreakdownRow
from joulemap.report.document import Block, Document, Drawing, Notes, Section, Table
from joulemap.report.numbers import figure, span, times

if TYPE_CHECKING:
    from joulemap.study.figures.theme import Chart


def breakdown_document(result: Breakdown) -> Document:
    """Arrange a breakdown."""
    per = "output" if result.compared == "energy_per_output_j" else "response"
    columns = ("task", result.by, f"J/{per}", "range", "ratio", "same models", "models", "runs", "basis")
    rows = tuple(_row(row, result.compared) for row in result.rows)
    blocks: list[Block] = []
    if rows:
        blocks.append(Drawing(name="breakdown", draw=partial(_draw, result), fixed=True))
    blocks.append(Table(title="", columns=columns, rows=rows, left=2))
    left_out = tuple(f"{count:,} left out: {reason}" for reason, count in result.left_out.items())
    blocks.append(Notes(texts=(f"range: {INTERVAL}", *left_out)))
    return Document(
        kind="breakdown",
        title=f"Energy per {per} by {result.by}",
        subtitle="each model at its configuration of least energy per output",
        summary=f"{len(rows)} rows from {sum(row.runs for row in result.rows):,} runs.",
        sections=(Section(name="breakdown", heading="Where the joules go", blocks=tuple(blocks)),),
        payload={"kind": "breakdown", **result.to_json()},
    )


def _draw(result: Breakdown, _width_px: int) -> Chart:
    from joulemap.study.figures.breakdown import breakdown_chart

    return breakdown_chart(result)


def _row(row: BreakdownRow, compared: str) -> tuple[str, ...]:
    energy = row.quantities[compared]
    return (
        row.task or "all",
        row.group,
        "–" if energy is None else figure(energy.value),
        "–" if energy is None else span(energy.low, energy.high),
        "–" if row.ratio is None else times(row.ratio),
        "–" if row.same_models_ratio is None else f"{times(row.same_models_ratio)} ({row.same_models})",
        str(row.models),
        f"{row.runs:,}",
        "–" if energy is None else energy.basis.value,
    )
