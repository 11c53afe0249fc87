"""The report on a time–energy frontier."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from joulemap.optimize.choice import words
from joulemap.optimize.tradeoff import Comparison, Frontier
from joulemap.report.document import Block, Document, Drawing, Notes, Section, Table
from joulemap.report.numbers import figure, span
from joulemap.units import MS_PER_S

if TYPE_CHECKING:
    from joulemap.study.figures.theme import Chart


_MOST_SHOWN = 12
"""Rows from which a table is folded."""


def frontier_document(frontier: Frontier) -> Document:
    """Arrange a frontier: the chart, its points, and what more GPUs or narrower weights do at the same batch."""
    points = frontier.points
    least = points.sort("energy_per_output_j").row(0, named=True)
    return Document(
        kind="frontier",
        title=f"{frontier.model} · {frontier.task}: time against energy",
        subtitle=f"{points.height} of {frontier.table.height} configurations are on the frontier",
        summary=f"Nothing beats these {points.height} in time and energy at once. The least energy is "
        f"{figure(least['energy_per_output_j'])} J/{frontier.output_unit} ({least['basis']}): {words(least)}.",
        sections=tuple(frontier_sections({"": frontier})),
        payload={"kind": "frontier", "frontier": frontier.to_json()},
    )


def comparison_document(found: Comparison) -> Document:
    """Arrange two frontiers side by side."""
    limits = [
        (_time(x.limit_s), figure(x.a_j_per_output), figure(x.b_j_per_output), _ratio(x.energy_ratio))
        for x in found.limits
    ]
    sections = frontier_sections({found.a_label: found.a, found.b_label: found.b})
    if limits:
        unit = f"J/{found.a.output_unit}"
        columns = ("time at most", f"{found.a_label} ({unit})", f"{found.b_label} ({unit})", "ratio")
        table = Table(title="", columns=columns, rows=tuple(limits))
        sections.append(Section(name="limits", heading="Least energy under a limit", blocks=(table,)))
    return Document(
        kind="frontier",
        title=f"{found.a.model} · {found.a.task}: {found.a_label} against {found.b_label}",
        subtitle="two frontiers with one reference point",
        summary=f"Hypervolume {found.a.hypervolume:.3f} ({found.a_label}) against {found.b.hypervolume:.3f} "
        f"({found.b_label}); more is better.",
        sections=tuple(sections),
        payload={"kind": "frontier", "comparison": found.to_json()},
    )


def frontier_sections(frontiers: Mapping[str, Frontier], choice: Mapping[str, Any] | None = None) -> list[Section]:
    """Return the chart of frontiers, and their points in numbers."""
    tables = [points_table(f, label) for label, f in frontiers.items()]
    blocks: list[Block] = [Drawing(name="frontier", draw=partial(_draw, frontiers, choice)), *tables]
    notes = tuple(dict.fromkeys(note for f in frontiers.values() for note in f.notes))
    blocks += [Notes(texts=notes)] if notes else []
    sections = [Section(name="frontier", heading="Time against energy", blocks=tuple(blocks))]
    pairs = [table for f in frontiers.values() if (table := _pairs(f)) is not None]
    if pairs:
        heading = "More GPUs and narrower weights, at the same batch"
        sections.append(Section(name="same-batch", heading=heading, blocks=(*pairs[:1],)))
    return sections


def points_table(frontier: Frontier, label: str) -> Table:
    """Return the points of a frontier in numbers."""
    rows = [
        (
            words(row),
            "knee" if row["knee"] else "",
            _time(row[frontier.time_quantity]) if not rate else figure(row[frontier.time_quantity]),
            figure(row["energy_per_output_j"]),
            span(row["energy_per_output_j_low"], row["energy_per_output_j_high"]),
            row["basis"],
        )
        for row in frontier.points.iter_rows(named=True)
        for rate in (frontier.time_quantity.endswith("_per_s"),)
    ]
    time = {
        "itl_median_s": "median ITL",
        "latency_mean_s": "mean latency",
        "latency_median_s": "batch latency",
        "output_throughput_per_s": f"{frontier.output_unit}/s",
    }[frontier.time_quantity]
    columns = ("configuration", "", time, f"J/{frontier.output_unit}", "90 % interval", "basis")
    title = f"The frontier in numbers{f': {label}' if label else ''}"
    return Table(title=title, columns=columns, rows=tuple(rows), left=2, folded=len(rows) > _MOST_SHOWN)


def _pairs(frontier: Frontier) -> Table | None:
    rows = [
        (
            pair.gpu_model,
            f"{pair.more} against {pair.fewer}",
            _ratio(pair.energy_ratio),
            _ratio(pair.latency_ratio),
            _ratio(pair.best_energy_ratio),
            "–" if pair.pays_from_batch is None else f"{pair.pays_from_batch:g}",
            pair.verdict,
        )
        for pair in frontier.same_batch
    ]
    columns = ("GPU", "series", "energy", "latency", "energy at own best", "pays from batch", "so it")
    return Table(title="Measured ratios", columns=columns, rows=tuple(rows), left=2) if rows else None


def _time(value_s: float | None) -> str:
    if value_s is None:
        return "–"
    return f"{figure(value_s * MS_PER_S)} ms" if value_s < 1.0 else f"{figure(value_s)} s"


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}x"


def _draw(frontiers: Mapping[str, Frontier], choice: Mapping[str, Any] | None, width_px: int) -> Chart:
    from joulemap.report.charts.frontier import frontier_chart

    return frontier_chart(frontiers, width_px, choice=choice)
