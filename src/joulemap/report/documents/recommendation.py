"""The report on a recommended configuration."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from joulemap.optimize.choice import Recommendation, words
from joulemap.optimize.quantities import OUTCOMES
from joulemap.records import Basis
from joulemap.records.run import unit_of
from joulemap.report.document import Block, Card, Document, Drawing, Fact, Facts, Notes, Section, Table, Text
from joulemap.report.documents.frontier import frontier_sections
from joulemap.report.numbers import change, figure, plain, quantity_words, span, times
from joulemap.report.payloads.recommendation import RecommendationPayload

if TYPE_CHECKING:
    from joulemap.study.figures.theme import Chart


def recommendation_document(payload: RecommendationPayload) -> Document:
    """Arrange a recommendation: the choice, the way to it, where it lies, what else there is."""
    found = payload.recommendation
    choice = found.choice
    sections = [_choice(found), *_way(found)]
    if payload.frontier is not None:
        sections += frontier_sections({"": payload.frontier}, choice)
    sections += [*_others(found), *_next(found)]
    return Document(
        kind="recommendation",
        title=f"{choice['nickname'] or choice['model_id']} · {choice['task']}: {words(choice)}",
        subtitle=f"the least energy of {found.feasible_candidates} configurations that keep every limit, "
        f"of {found.candidates}",
        summary=_summary(found),
        sections=tuple(sections),
        payload={"kind": "recommendation", **payload.to_json()},
    )


def bare_document(found: Recommendation) -> Document:
    """Arrange a recommendation alone."""
    return recommendation_document(RecommendationPayload(recommendation=found, frontier=None))


def _summary(found: Recommendation) -> str:
    choice = found.choice
    energy = f"{figure(choice['energy_per_output_j'])} J/{choice['output_unit']} ({choice['basis']})"
    copies = f", in {found.replicas_needed} replicas" if found.replicas_needed > 1 else ""
    text = f"Serve with {words(choice)}{copies}: {energy}."
    if found.way is not None and found.current is not None:
        saving = change(found.way.energy_ratio)
        text += (
            f" That is {saving} energy against {words(found.current)} (90 %: {change(found.energy_ratio_min)} to "
            f"{change(found.energy_ratio_max)})."
        )
    return text


def _choice(found: Recommendation) -> Section:
    choice = found.choice
    facts = [
        Fact(
            name=quantity_words(name),
            value=figure(choice[name]),
            unit=unit_of(name, choice["output_unit"]),
            interval=span(choice[f"{name}_low"], choice[f"{name}_high"]),
            basis=Basis(choice[f"{name}_basis"]),
        )
        for name in OUTCOMES
        if choice[name] is not None
    ]
    facts += [
        Fact(name="no other takes less", value=f"{found.least_probability:.0%}", unit="likely"),
        Fact(name="keeps every limit", value=f"{found.keeps_probability:.0%}", unit="likely"),
    ]
    blocks: list[Block] = [Facts(facts=tuple(facts))]
    blocks += [Notes(texts=found.notes)] if found.notes else []
    return Section(name="choice", heading="What to serve", blocks=tuple(blocks))


def _way(found: Recommendation) -> Iterator[Section]:
    if found.way is None or found.current is None:
        return
    cards = [
        Card(
            heading=f"{times(step.change.energy_ratio or 1.0)} {plain(step.knob)}",
            mark=step.change.basis.value,
            lines=(
                ("cause", step.cause),
                ("90 % interval", span(step.change.energy_ratio_min, step.change.energy_ratio_max)),
                ("read from", ", ".join(step.evidence) or "the model"),
            ),
        )
        for step in found.steps
    ]
    costs = tuple(f"{plain(lever)} costs: {text}" for lever, text in found.costs.items())
    blocks: list[Block] = [Drawing(name="way", draw=partial(_draw_way, found)), *cards]
    blocks += [Notes(texts=costs)] if costs else []
    yield Section(name="way", heading="From what is served now", blocks=tuple(blocks))


def _others(found: Recommendation) -> Iterator[Section]:
    unit = f"J/{found.choice['output_unit']}"
    rows = [
        (
            words(row),
            figure(row["energy_per_output_j"]),
            span(row["energy_per_output_j_low"], row["energy_per_output_j_high"]),
            row["basis"],
        )
        for row in found.runners_up
    ]
    if rows:
        table = Table(title="", columns=("configuration", unit, "90 % interval", "basis"), rows=tuple(rows))
        yield Section(name="runners-up", heading="Next best", blocks=(table,))
    advice = [
        (
            plain(a.lever),
            a.option,
            change(a.change.energy_ratio),
            change(a.change.latency_ratio),
            change(a.change.throughput_ratio),
            a.change.basis.value,
        )
        for a in found.advice
    ]
    if advice:
        columns = ("lever", "setting", "energy", "latency", "throughput", "basis")
        costs = tuple(dict.fromkeys(f"{plain(a.lever)} costs: {a.costs}" for a in found.advice))
        table = Table(title="What each would change", columns=columns, rows=tuple(advice), left=2)
        yield Section(name="levers", heading="Levers not pulled", blocks=(table, Notes(texts=costs)))


def _next(found: Recommendation) -> Iterator[Section]:
    following = found.next_measurement
    if following is None:
        return
    text = (
        f"{words(following.row)}, now {following.row['basis']}: {following.worth_fraction:.2%} expected saving, "
        f"{following.change_probability:.0%} likely to change the choice. Measure it with: {following.command}"
    )
    yield Section(name="next", heading="Most worth measuring next", blocks=(Text(text=text),))


def _draw_way(found: Recommendation, width_px: int) -> Chart:
    from joulemap.report.charts.waterfall import Waterfall, WaterfallStep, waterfall_chart

    way, now = found.way, found.current
    assert way is not None  # the section is left out without them
    assert now is not None
    unit = f"J/{found.choice['output_unit']}"
    steps = [
        WaterfallStep(
            name=plain(s.knob),
            ratio=s.change.energy_ratio or 1.0,
            low=s.change.energy_ratio_min,
            high=s.change.energy_ratio_max,
            basis=s.change.basis.value,
        )
        for s in way.steps
    ]
    fall = Waterfall(
        begin_name="now",
        begin_value=now["energy_per_output_j"],
        end_name="then",
        end_value=found.choice["energy_per_output_j"],
        steps=(*steps, WaterfallStep(name="unexplained", ratio=way.unexplained_ratio)),
        axis=f"Energy per output ({unit})",
    )
    return waterfall_chart(
        fall,
        finding=f"From {words(now)} to {words(found.choice)}: {change(way.energy_ratio)} energy per output",
        basis="Bars are factors on a logarithmic axis, thin lines their 90 % intervals",
        width_px=width_px,
    )
