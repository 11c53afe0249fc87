"""The report on GPU models compared: at matched latency, and by the fleet that a plan's caps allow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from joulemap.plan.procurement import Comparison, Match
from joulemap.report.document import Block, Document, Drawing, Notes, Section, Table
from joulemap.report.numbers import figure

if TYPE_CHECKING:
    from joulemap.study.figures.theme import Chart


def gpu_comparison_document(found: Comparison) -> Document:
    """Arrange a comparison of GPU models."""
    duels = (f"{d.task}: {d.newer} takes less than {d.older} in {d.wins} of {d.pairs}" for d in found.duels)
    return Document(
        kind="gpu-comparison",
        title=" against ".join(found.gpu_models),
        subtitle="energy per output at matched latency",
        summary="; ".join(duels) or "No two of them hold the same limit with the same model.",
        sections=tuple(_sections(found)),
        payload={"kind": "gpu-comparison", "comparison": found.to_json()},
    )


def _sections(found: Comparison) -> Iterator[Section]:
    blocks: list[Block] = []
    if found.matches:
        blocks.append(Drawing(name="gpu-comparison", draw=partial(_draw, found), fixed=True))
    duels = tuple(
        (
            d.task,
            f"{d.newer} against {d.older}",
            f"{d.wins} of {d.pairs}",
            *(f"{x:+.0%}" for x in (d.median_change_ratio, d.least_change_ratio, d.most_change_ratio)),
        )
        for d in found.duels
    )
    headings = ("task", "GPUs", "takes less energy in", "median change", "from", "to")
    blocks.append(Table(title="How often the newer takes less energy", columns=headings, rows=duels, left=2))
    columns = ("task", "model", "limit", *(f"{gpu} J/output" for gpu in found.gpu_models))
    rows = tuple((m.task, m.label, f"≤ {m.limit_s:g} s", *_sides(found, m)) for m in found.matches)
    blocks.append(Table(title="Every match", columns=columns, rows=rows, left=3, folded=True))
    if found.notes:
        blocks.append(Notes(texts=found.notes))
    yield Section(name="latency", heading="At matched latency", blocks=tuple(blocks))
    if found.fleets:
        yield Section(
            name="fleets", heading="A fleet of one GPU model under the plan's caps", blocks=_fleets(found)
        )


def _draw(found: Comparison, _width_px: int) -> Chart:
    from joulemap.report.charts.gpu_comparison import comparison_chart

    return comparison_chart(found)


def _sides(found: Comparison, match: Match) -> Iterator[str]:
    by_gpu = {side.gpu_model: side for side in match.sides}
    for gpu in found.gpu_models:
        side = by_gpu.get(gpu)
        yield (
            "–"
            if side is None
            else (
                f"{figure(side.energy_per_output_j)} ({side.num_gpus} × batch {figure(side.batch_ceiling)}, "
                f"{side.basis.value})"
            )
        )


def _fleets(found: Comparison) -> tuple[Block, ...]:
    columns = ("GPU", "limits ×", "served", "value", "facility J/output", "GPUs", "USD/a owned", "basis")
    rows = tuple(
        (
            f.gpu_model,
            f"{f.slo_scale:g}",
            f"{f.served_fraction:.1%}",
            figure(f.value),
            figure(f.facility_j_per_output),
            f"{f.gpus:,}",
            figure(f.ownership_usd_per_year),
            f.basis.value,
        )
        for f in found.fleets
    )
    notes = tuple(dict.fromkeys(f"{f.gpu_model}: {f.note}" for f in found.fleets if f.note))
    table = Table(title="", columns=columns, rows=rows)
    return (table, Notes(texts=notes)) if notes else (table,)
