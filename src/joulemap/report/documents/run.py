"""The report on one run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from joulemap.records import Quantity, Run
from joulemap.records.measured import present
from joulemap.records.run import unit_of
from joulemap.report.document import Block, Document, Drawing, Notes, Section, Table
from joulemap.report.documents.diagnosis import diagnosis_sections, summary_of, unknown_notes
from joulemap.report.numbers import figure, quantity_cells, quantity_words, span
from joulemap.report.payloads.run_record import run_json, stated

if TYPE_CHECKING:
    from joulemap.report.payloads.curves import Curve
    from joulemap.report.payloads.run import Compared, RunPayload
    from joulemap.report.payloads.timeline import RunTimeline
    from joulemap.study.figures.theme import Chart

CURVE_COLUMNS = (
    *(
        "batch_size",
        "energy_per_output_j",
        "output_throughput_per_s",
        "itl_median_s",
        "latency_median_s",
        "power_w",
    ),
)
"""Columns of the table of a batch curve, as far as they were measured."""
QUANTITY_COLUMNS = ("quantity", "value", "unit", "90 % interval", "basis")


def run_document(payload: RunPayload) -> Document:
    """Arrange a run's payload: the answer, the ledger, what bound it, what to change, and every number."""
    sections: list[Section] = []
    if payload.diagnosis is not None:
        sections += diagnosis_sections(payload.diagnosis, payload.run)
    sections += [*_around(payload), _quantities(payload.run), _settings(payload.run)]
    return Document(
        kind="run",
        title=payload.label,
        subtitle=f"run {payload.run.run_id}",
        summary=summary_of(payload.diagnosis) if payload.diagnosis else f"No ledger: {payload.not_diagnosed}.",
        sections=tuple(sections),
        payload={"kind": "run", **payload.to_json()},
    )


def bare_run_document(run: Run) -> Document:
    """Arrange a run's numbers alone."""
    deployment = run.deployment
    words = [deployment.nickname or deployment.model_id, run.workload.task or "unnamed task"]
    if deployment.gpu_model is not None:
        words.append(f"{deployment.num_gpus or '?'}x {deployment.gpu_model}")
    validity = "valid" if run.validity.valid else "invalid"
    return Document(
        kind="run",
        title=" · ".join(words),
        subtitle=f"run {run.run_id}",
        summary=f"A {validity} run of {run.provenance.source}.",
        sections=(_quantities(run), _settings(run)),
        payload={"kind": "run", "run": run_json(run)},
    )


def _around(payload: RunPayload) -> Iterator[Section]:
    """Yield what lies around the run: its batch curve, its time, what the model says."""
    if payload.timeline is not None:
        drawing = Drawing(name="timeline", draw=partial(_draw_timeline, payload.timeline))
        yield Section(name="timeline", heading="The run over time", blocks=(drawing,))
    if payload.curve is not None:
        draw = partial(_draw_curve, payload.curve, payload.run.run_id)
        yield Section(
            name="batch",
            heading="Along the batch",
            blocks=(Drawing(name="batch-curve", draw=draw), curve_table(payload.curve)),
        )
    if payload.compared:
        draw = partial(_draw_predicted, payload.compared)
        yield Section(
            name="predicted",
            heading="Predicted and measured",
            blocks=(Drawing(name="predicted", draw=draw), _compared_table(payload.compared)),
        )


def curve_table(curve: Curve) -> Table:
    """Return the runs of a batch curve in numbers."""
    columns = [name for name in CURVE_COLUMNS if any(row[name] is not None for row in curve.rows)]
    headings = [quantity_words(name) + f" ({unit_of(name, curve.output_unit)})" for name in columns]
    rows = [(row["run_id"], *(figure(row[name]) for name in columns)) for row in curve.rows]
    title = f"The batch curve in numbers ({curve.label})"
    return Table(title=title, columns=("run", *headings), rows=tuple(rows), folded=True)


def _compared_table(compared: tuple[Compared, ...]) -> Table:
    rows = [
        (
            quantity_words(c.name),
            figure(c.measured.value),
            figure(c.predicted.value),
            span(c.predicted.low, c.predicted.high),
            c.measured.unit,
            c.predicted.basis.value,
        )
        for c in compared
    ]
    columns = ("quantity", "measured", "predicted", "90 % interval", "unit", "basis")
    return Table(title="Predicted and measured in numbers", columns=columns, rows=tuple(rows), folded=True)


def _quantities(run: Run) -> Section:
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
    unknown = unknown_notes(run.annotations.missing, str)
    return Section(name="quantities", heading="Every quantity", blocks=(*notes, table, *unknown))


def _settings(run: Run) -> Section:
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


def _draw_timeline(timeline: RunTimeline, width_px: int) -> Chart:
    from joulemap.report.charts.timeline import timeline_chart

    return timeline_chart(timeline, width_px)


def _draw_curve(curve: Curve, run_id: str, width_px: int) -> Chart:
    from joulemap.report.charts.batch_curves import batch_curves_chart

    return batch_curves_chart([curve], width_px, run_id=run_id)


def _draw_predicted(compared: tuple[Compared, ...], width_px: int) -> Chart:
    from joulemap.report.charts.predicted import Prediction, predictions_chart

    predictions = [
        Prediction(
            name=quantity_words(c.name),
            measured_value=c.measured.value,
            predicted_value=c.predicted.value,
            low=c.predicted.low or c.predicted.value,
            high=c.predicted.high or c.predicted.value,
            unit=c.measured.unit,
        )
        for c in compared
    ]
    return predictions_chart(predictions, width_px)
