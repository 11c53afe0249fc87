"""The report on a diagnosis: where the joules went, what bound the run, what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from joulemap.diagnose.diagnosis import Bound, Diagnosis, Finding
from joulemap.records import Basis, Run
from joulemap.report.document import Block, Card, Document, Drawing, Fact, Facts, Notes, Section, Table
from joulemap.report.documents.graph_values import graph_values
from joulemap.report.numbers import change, figure, plain, quantity_cells, span, times

if TYPE_CHECKING:
    from joulemap.study.figures.theme import Chart


def diagnosis_document(diagnosis: Diagnosis) -> Document:
    """Arrange a diagnosis alone, such as that of a configuration that nobody ran."""
    return Document(
        kind="diagnosis",
        title=diagnosis.label,
        subtitle=f"run {diagnosis.run_id}" if diagnosis.run_id else "a configuration that nobody ran",
        summary=summary_of(diagnosis),
        sections=tuple(diagnosis_sections(diagnosis)),
        payload={"kind": "diagnosis", "diagnosis": diagnosis.to_json()},
    )


def summary_of(diagnosis: Diagnosis) -> str:
    """Return a diagnosis in a sentence or two."""
    unit = f"J/{diagnosis.output_unit}"
    top = max(diagnosis.ledger, key=lambda p: p.joules_per_output)
    share = top.joules_per_output / diagnosis.total_j_per_output
    bound = f"bound by {plain(diagnosis.bound_by)}" if diagnosis.bound_by else "bound by nothing that shows"
    do = (
        f" Change first: {diagnosis.findings[0].lever}."
        if diagnosis.findings and diagnosis.findings[0].lever
        else ""
    )
    return (
        f"{figure(diagnosis.total_j_per_output)} {unit} ({diagnosis.total_basis.value}), "
        f"{times(diagnosis.total_j_per_output / diagnosis.ideal_j_per_output)} the ideal; {bound}. "
        f"Most joules go to {plain(top.part.value)} ({share:.0%}).{do}"
    )


def diagnosis_sections(diagnosis: Diagnosis, run: Run | None = None) -> Iterator[Section]:
    """Yield the sections of a diagnosis: ledger, cause, what to change.

    Args:
        diagnosis: The diagnosis.
        run: What was diagnosed, for its settings on the causal graph; ``None`` where nobody ran it.
    """
    unit = f"J/{diagnosis.output_unit}"
    yield Section(
        name="ledger",
        heading="Where the joules went",
        blocks=(
            _facts(diagnosis, unit),
            Drawing(name="ledger", draw=partial(_draw_ledger, diagnosis)),
            ledger_table(diagnosis),
        ),
    )
    unknown = unknown_notes(diagnosis.missing_latents)
    graph = Drawing(name="causal-graph", draw=partial(_draw_graph, diagnosis, run))
    yield Section(name="cause", heading="What bound it, and how", blocks=(graph, _latents(diagnosis), *unknown))
    findings: tuple[Block, ...] = tuple(_card(n, f) for n, f in enumerate(diagnosis.findings, start=1))
    notes = (Notes(texts=diagnosis.notes),) if diagnosis.notes else ()
    yield Section(
        name="findings",
        heading="What to change",
        blocks=((*findings, *notes) if findings else (Notes(texts=("Nothing stands out.",)), *notes)),
    )


def _facts(diagnosis: Diagnosis, unit: str) -> Facts:
    total, ideal = diagnosis.total_j_per_output, diagnosis.ideal_j_per_output
    margin = f"{diagnosis.bound_margin:.2f}x"
    after = f", before {plain(diagnosis.next_bound)}" if diagnosis.next_bound else ""
    return Facts(
        facts=(
            Fact(name="energy per output", value=figure(total), unit=unit, basis=diagnosis.total_basis),
            Fact(name="ideal", value=figure(ideal), unit=unit, basis=Basis.MODELLED),
            Fact(name="above the ideal", value=times(total / ideal), basis=Basis.MODELLED),
            Fact(
                name=f"bound by (margin {margin}{after})" if diagnosis.bound_by else "bound by",
                value=_bound(diagnosis.bound_by),
                basis=Basis.MODELLED if diagnosis.bound_by else None,
            ),
        )
    )


def _bound(bound: Bound | None) -> str:
    return plain(bound) if bound else "nothing that shows"


def ledger_table(diagnosis: Diagnosis) -> Table:
    """Return the ledger's parts with share, interval and basis."""
    rows = [
        (
            plain(part.part.value),
            figure(part.joules_per_output),
            f"{part.joules_per_output / diagnosis.total_j_per_output:.0%}",
            span(part.low, part.high),
            part.basis.value,
        )
        for part in diagnosis.ledger
        if part.joules_per_output > 0
    ]
    return Table(
        title="The ledger in numbers",
        columns=("part", f"J/{diagnosis.output_unit}", "share", "90 % interval", "basis"),
        rows=tuple(rows),
        folded=True,
    )


def _latents(diagnosis: Diagnosis) -> Table:
    rows = [(plain(name.removesuffix("_bytes")), *quantity_cells(q)) for name, q in diagnosis.latents.items()]
    columns = ("latent", "value", "unit", "90 % interval", "basis")
    return Table(title="Every latent variable", columns=columns, rows=tuple(rows), folded=True)


def unknown_notes(missing: Mapping[str, str], spelled: Callable[[str], str] = plain) -> tuple[Block, ...]:
    """Return the quantities that are not known, with the reasons; several with one reason share a line."""
    names: dict[str, list[str]] = {}
    for name, reason in missing.items():
        names.setdefault(reason, []).append(spelled(name))
    texts = tuple(f"{', '.join(same)}: not known, {reason}" for reason, same in names.items())
    return (Notes(texts=texts),) if texts else ()


def _card(number: int, finding: Finding) -> Card:
    lines = [("shown by", line) for line in finding.evidence]
    if finding.lever:
        lines.append(("change", finding.lever))
    found = finding.change
    if found.energy_ratio is not None:
        known = found.energy_ratio_min is not None
        interval = f" (90 %: {change(found.energy_ratio_min)} to {change(found.energy_ratio_max)})" if known else ""
        bought = [f"{change(found.energy_ratio)} energy per output{interval}"]
        bought += [f"{change(found.latency_ratio)} latency"] if found.latency_ratio is not None else []
        bought += [f"{change(found.throughput_ratio)} throughput"] if found.throughput_ratio is not None else []
        lines.append(("it buys", f"{', '.join(bought)}; {found.basis.value}"))
    lines.append(("wrong if", finding.falsified_by))
    return Card(
        heading=f"{number}. {finding.cause}",
        mark=f"{finding.kind.value}, confidence {finding.confidence:.0%}",
        lines=tuple(lines),
    )


def _draw_ledger(diagnosis: Diagnosis, width_px: int) -> Chart:
    from joulemap.report.charts.ledger import ledger_chart

    name = "this run" if diagnosis.run_id else "predicted"
    return ledger_chart([(name, diagnosis)], width_px)


def _draw_graph(diagnosis: Diagnosis, run: Run | None, width_px: int) -> Chart:
    from joulemap.report.charts.causal_graph import causal_graph_chart

    bound = diagnosis.bound_by
    words = f"Bound by {plain(bound)}" if bound else "Nothing shows what binds it"
    before = f", before {plain(diagnosis.next_bound)}" if diagnosis.next_bound else ""
    return causal_graph_chart(
        graph_values(diagnosis, run),
        bound,
        finding=f"{words}: relieving it saves {diagnosis.bound_margin:.2f}x what the next would{before}"
        if bound
        else words,
        basis="From settings (dashed) over latent variables to outcomes; lit: the way from what binds to the "
        "energy. ● measured, ◆ interpolated, ▲ modelled, ○ assumed",
        width_px=width_px,
    )
