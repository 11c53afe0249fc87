"""The report on why one run costs more than another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from joulemap.diagnose.explanation import Explanation, Factor
from joulemap.report.document import Block, Card, Document, Drawing, Fact, Facts, Notes, Section, Text
from joulemap.report.numbers import figure, plain, quantity_words, sentence, span, times

if TYPE_CHECKING:
    from joulemap.diagnose.diagnosis import Diagnosis
    from joulemap.report.payloads.explanation import ExplanationPayload
    from joulemap.study.figures.theme import Chart


def explanation_document(payload: ExplanationPayload) -> Document:
    """Arrange an explanation with the ledgers of both runs."""
    explanation = payload.explanation
    sections = [*explanation_sections(explanation), *_ledgers(payload)]
    return _document(explanation, sections, {"kind": "explanation", **payload.to_json()})


def bare_explanation_document(explanation: Explanation) -> Document:
    """Arrange an explanation alone."""
    sections = list(explanation_sections(explanation))
    return _document(explanation, sections, {"kind": "explanation", "explanation": explanation.to_json()})


def _document(explanation: Explanation, sections: list[Section], payload: dict[str, object]) -> Document:
    return Document(
        kind="explanation",
        title=f"Why A takes {times(explanation.ratio)} {_what(explanation)} of B",
        subtitle=f"A: {explanation.a_label} [{explanation.a}] · B: {explanation.b_label} [{explanation.b}]",
        summary=finding_of(explanation),
        sections=tuple(sections),
        payload=payload,
    )


def finding_of(explanation: Explanation) -> str:
    """Return the answer in a sentence: the ratio, and the largest factors."""
    largest = sorted(explanation.factors, key=lambda f: max(f.ratio, 1 / f.ratio), reverse=True)[:3]
    factors = ", ".join(f"{times(f.ratio)} {plain(f.name)}" for f in largest)
    values = f"{figure(explanation.a_value)} against {figure(explanation.b_value)} {explanation.unit}"
    cause = f": {factors}" if factors else ""
    return f"A takes {times(explanation.ratio)} {_what(explanation)} of B ({values}){cause}"


def explanation_sections(explanation: Explanation) -> Iterator[Section]:
    """Yield the sections of an explanation: the waterfall, then cause by cause."""
    facts = Facts(
        facts=(
            Fact(name="A", value=figure(explanation.a_value), unit=explanation.unit),
            Fact(name="B", value=figure(explanation.b_value), unit=explanation.unit),
            Fact(name="A over B", value=times(explanation.ratio)),
            Fact(name="unexplained", value=f"{explanation.unexplained_ratio:.3f}x"),
        )
    )
    blocks: list[Block] = [facts, Drawing(name="waterfall", draw=partial(_draw_waterfall, explanation))]
    if explanation.notes:
        blocks.append(Notes(texts=explanation.notes))
    yield Section(name="waterfall", heading="From B to A, factor by factor", blocks=tuple(blocks))
    yield Section(
        name="causes",
        heading="Cause by cause",
        blocks=(
            *(_card(f) for f in explanation.factors),
            Text(
                text=f"The factors and the unexplained {explanation.unexplained_ratio:.3f}x multiply to "
                f"{times(explanation.ratio)}. Intervals are 90 %."
            ),
        ),
    )


def _card(factor: Factor) -> Card:
    lines = [("cause", factor.cause)]
    if factor.low is not None:
        lines.append(("90 % interval", span(factor.low, factor.high)))
    if factor.parts:
        lines.append(("made of", " × ".join(f"{r:.2f}x {plain(n)}" for n, r in factor.parts.items())))
    lines.append(("read from", ", ".join(factor.evidence) or "the model"))
    return Card(heading=f"{times(factor.ratio)} {plain(factor.name)}", mark=factor.basis.value, lines=tuple(lines))


def _ledgers(payload: ExplanationPayload) -> Iterator[Section]:
    a, b = payload.diagnoses
    if a is None or b is None or a.output_unit != b.output_unit:
        return
    yield Section(
        name="ledgers",
        heading="Where the joules of each went",
        blocks=(Drawing(name="ledgers", draw=partial(_draw_ledgers, a, b)),),
    )


def _what(explanation: Explanation) -> str:
    return f"the {quantity_words(explanation.quantity)}"


def _draw_waterfall(explanation: Explanation, width_px: int) -> Chart:
    from joulemap.report.charts.waterfall import Waterfall, WaterfallStep, waterfall_chart

    steps = [
        WaterfallStep(name=plain(f.name), ratio=f.ratio, low=f.low, high=f.high, basis=f.basis.value)
        for f in explanation.factors
    ]
    fall = Waterfall(
        begin_name="B",
        begin_value=explanation.b_value,
        end_name="A",
        end_value=explanation.a_value,
        steps=(*steps, WaterfallStep(name="unexplained", ratio=explanation.unexplained_ratio)),
        axis=f"{sentence(quantity_words(explanation.quantity))} ({explanation.unit})",
    )
    basis = (
        f"A: {explanation.a_label}; B: {explanation.b_label}. Bars are factors on a logarithmic axis, thin lines "
        "their 90 % intervals"
    )
    return waterfall_chart(fall, finding=finding_of(explanation), basis=basis, width_px=width_px)


def _draw_ledgers(a: Diagnosis, b: Diagnosis, width_px: int) -> Chart:
    from joulemap.report.charts.ledger import ledger_chart

    return ledger_chart([("A", a), ("B", b)], width_px)
