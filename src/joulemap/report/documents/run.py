"""The report on one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from joulemap.diagnose.diagnosis import Bound, Diagnosis, Finding
from joulemap.records import Basis, Quantity
from joulemap.records.measured import present
from joulemap.report.document import (
    Block,
    Card,
    Document,
    Drawing,
    Fact,
    Facts,
    Notes,
    Section,
    Table,
)
from joulemap.report.numbers import change, figure, plain, quantity_cells, span, times
from joulemap.report.payloads.run_record import stated

if TYPE_CHECKING:
    from joulemap.report.payloads.run import RunPayload
    from joulemap.study.figures.theme import Chart

QUANTITY_COLUMNS = ("quantity", "value", "unit", "90 % interval", "basis")


def run_document(payload: RunPayload) -> Document:
    """Arrange a run's payload: the answer, the ledger, what bound it, what to change, and every number."""
    sections: list[Section] = []
    if payload.diagnosis is not None:
        sections += diagnosis_sections(payload.diagnosis)
    sections += [_quantities(payload), _settings(payload)]
    return Document(
        kind="run",
        title=payload.label,
        subtitle=f"run {payload.run.run_id}",
        summary=summary_of(payload.diagnosis) if payload.diagnosis else f"No ledger: {payload.not_diagnosed}.",
        sections=tuple(sections),
        payload={"kind": "run", **payload.to_json()},
    )


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


def diagnosis_sections(diagnosis: Diagnosis) -> Iterator[Section]:
    """Yield the sections of a diagnosis: ledger, cause, what to change."""
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
    yield Section(
        name="latents",
        heading="Latent variables",
        blocks=(_latents(diagnosis), *_unknown(diagnosis.missing_latents)),
    )
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
    return Table(title="", columns=("latent", "value", "unit", "90 % interval", "basis"), rows=tuple(rows))


def _unknown(missing: Mapping[str, str], spelled: Callable[[str], str] = plain) -> tuple[Block, ...]:
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


def _quantities(payload: RunPayload) -> Section:
    run = payload.run
    quantities: dict[str, Quantity] = {
        name: q for name in present(run.measured) if (q := run.quantity(name)) is not None
    }
    rows = [(name, *quantity_cells(q)) for name, q in quantities.items()]
    reasons = run.validity.reasons
    notes: tuple[Block, ...] = ()
    if not run.validity.valid:
        notes = (Notes(texts=(f"The run is invalid: {'; '.join(reasons)}",), tone="warning"),)
    elif reasons:
        notes = (Notes(texts=reasons),)
    table = Table(title="Over the steady-state window", columns=QUANTITY_COLUMNS, rows=tuple(rows))
    return Section(
        name="quantities", heading="Every quantity", blocks=(*notes, table, *_unknown(run.annotations.missing, str))
    )


def _settings(payload: RunPayload) -> Section:
    run = payload.run
    records = (("workload", run.workload), ("deployment", run.deployment), ("source", run.provenance))
    rows = [
        (where, name, _text(value))
        for where, record in records
        for name, value in stated(record).items()
        if value not in ("", ())
    ]
    table = Table(title="", columns=("", "setting", "value"), rows=tuple(rows), left=3)
    return Section(name="settings", heading="What ran", blocks=(table,))


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return figure(value, 4) if isinstance(value, float) else str(value)


def _draw_ledger(diagnosis: Diagnosis, width_px: int) -> Chart:
    from joulemap.report.charts.ledger import ledger_chart

    name = "this run" if diagnosis.run_id else "predicted"
    return ledger_chart([(name, diagnosis)], width_px)
