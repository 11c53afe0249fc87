"""The report on an energy budget: which models fit which task, and what must change for the others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from joulemap.plan.budget import BudgetReport, Pairing
from joulemap.report.document import Block, Document, Drawing, Notes, Section, Table
from joulemap.report.numbers import figure, span

if TYPE_CHECKING:
    from joulemap.study.figures.theme import Chart

_COLUMNS = ("model", "configuration", "what must change", "J/response", "90 % interval", "of budget", "basis")


def budget_document(report: BudgetReport) -> Document:
    """Arrange a budget and the models that were held against it."""
    budget = report.budget
    fitting = sum(p.fits for p in report.pairings)
    return Document(
        kind="budget",
        title=f"{figure(budget.energy_j)} J per response",
        subtitle=f"energy of the {'GPUs' if budget.scope == 'gpu' else f'facility, PUE {budget.pue:g}'}",
        summary=f"{fitting} of {len(report.pairings)} pairings of a model and a task fit.",
        sections=tuple(_sections(report)),
        payload={"kind": "budget", **report.to_json()},
    )


def _sections(report: BudgetReport) -> Iterator[Section]:
    blocks: list[Block] = []
    if report.pairings:
        blocks.append(Drawing(name="budget", draw=partial(_draw, report), fixed=True))
    for task in dict.fromkeys(p.task for p in report.pairings):
        rows = tuple(_row(p) for p in report.pairings if p.task == task)
        blocks.append(Table(title=task, columns=_COLUMNS, rows=rows, left=3))
    if report.notes:
        blocks.append(Notes(texts=report.notes))
    yield Section(name="budget", heading="What fits", blocks=tuple(blocks))


def _draw(report: BudgetReport, _width_px: int) -> Chart:
    from joulemap.report.charts.budget import budget_chart

    return budget_chart(report)


def _row(p: Pairing) -> tuple[str, ...]:
    energy = p.energy_per_request_j
    return (
        p.label,
        f"{p.num_gpus} × {p.gpu_model}, batch {figure(p.batch_ceiling)}",
        "fits" if p.fits else "; or ".join(p.changes),
        figure(energy.value),
        span(energy.low, energy.high),
        f"{p.share_of_budget_ratio:.0%}",
        energy.basis.value,
    )
