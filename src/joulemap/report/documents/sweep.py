"""The report on many runs: their batch curves, what bound each, what the model would have said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from joulemap.records.run import unit_of
from joulemap.report.document import Document, Drawing, Notes, Section, Table
from joulemap.report.documents.run import CURVE_COLUMNS
from joulemap.report.numbers import figure, plain, quantity_words, times

if TYPE_CHECKING:
    from joulemap.diagnose.diagnosis import Diagnosis
    from joulemap.report.charts.predicted import Prediction
    from joulemap.report.payloads.curves import Curve
    from joulemap.report.payloads.sweep import SweepPayload
    from joulemap.study.figures.theme import Chart

MOST_LEDGERS = 12
"""Bars of one chart of ledgers."""
_COMPARED_PANELS = 4


def sweep_document(payload: SweepPayload) -> Document:
    """Arrange a sweep: the curves, the ledgers along them, predictions, and every run in numbers."""
    sections = [*_by_unit(payload), *_ledgers(payload), *_predicted(payload), _runs(payload)]
    count = len(payload.rows)
    return Document(
        kind="sweep",
        title=payload.shared or "Several configurations",
        subtitle=f"{count} runs in {len(payload.curves)} batch {'curve' if len(payload.curves) == 1 else 'curves'}",
        summary=_summary(payload),
        sections=tuple(sections),
        payload={"kind": "sweep", **payload.to_json()},
    )


def _summary(payload: SweepPayload) -> str:
    rows = [(c, r) for c, r in payload.rows if r["energy_per_output_j"]]
    units = {c.output_unit for c, _ in rows}
    if len(units) != 1:
        return "The runs make different outputs, or state no energy; they are shown apart."
    (unit,) = units
    (_, least), (_, most) = (pick(rows, key=lambda pair: pair[1]["energy_per_output_j"]) for pick in (min, max))
    ratio = most["energy_per_output_j"] / least["energy_per_output_j"]
    curve = next(c for c, r in rows if r is least)
    where = f" ({curve.label})" if len(payload.curves) > 1 else ""
    bounds = Counter(plain(d.bound_by) for d in payload.diagnoses.values() if d.bound_by)
    held = ", ".join(f"{name} in {count}" for name, count in bounds.most_common(3))
    told = f" What bound them: {held} of {len(payload.diagnoses)}." if held else ""
    return (
        f"The least energy is {figure(least['energy_per_output_j'])} J/{unit} at {figure(least['batch_size'])} "
        f"requests together{where}; the most, {figure(most['energy_per_output_j'])} J/{unit}, is {times(ratio)} "
        f"that.{told}"
    )


def _by_unit(payload: SweepPayload) -> Iterator[Section]:
    """Yield the curves, those of one output unit together."""
    units = list(dict.fromkeys(c.output_unit for c in payload.curves))
    for unit in units:
        own = [c for c in payload.curves if c.output_unit == unit]
        ending = f"-{unit}" if len(units) > 1 else ""
        drawing = Drawing(name=f"batch-curves{ending}", draw=partial(_draw_curves, own))
        yield Section(name=f"curves{ending}", heading="Along the batch", blocks=(drawing,))


def _ledgers(payload: SweepPayload) -> Iterator[Section]:
    chosen = _chosen(payload)
    if not chosen or len({d.output_unit for _, d in chosen}) > 1:
        return
    one = len(payload.curves) == 1
    heading = (
        "Where the joules went, by batch" if one else "Where the joules went, at the least energy of each curve"
    )
    drawing = Drawing(name="ledgers", draw=partial(_draw_ledgers, chosen))
    yield Section(name="ledgers", heading=heading, blocks=(drawing,))


def _chosen(payload: SweepPayload) -> list[tuple[str, Diagnosis]]:
    """Return the runs whose ledgers are shown: all of one curve, or the least energy of each of several."""
    if len(payload.curves) == 1:
        rows = [r for r in payload.curves[0].rows if r["run_id"] in payload.diagnoses][-MOST_LEDGERS:]
        return [(f"batch {figure(r['batch_size'])}", payload.diagnoses[r["run_id"]]) for r in rows]
    found = []
    for curve in payload.curves:
        rows = [r for r in curve.rows if r["run_id"] in payload.diagnoses]
        if rows:
            least = min(rows, key=lambda r: float(r["energy_per_output_j"]))
            found.append((curve.label, payload.diagnoses[least["run_id"]]))
    return found[:MOST_LEDGERS]


def _predicted(payload: SweepPayload) -> Iterator[Section]:
    from joulemap.report.charts.predicted import Prediction

    panels: dict[str, list[Prediction]] = {}
    labels = {row["run_id"]: f"{curve.label}, batch {figure(row['batch_size'])}" for curve, row in payload.rows}
    for run_id, compared in payload.compared.items():
        for c in compared:
            prediction = Prediction(
                name=labels.get(run_id, run_id),
                measured_value=c.measured.value,
                predicted_value=c.predicted.value,
                low=c.predicted.low or c.predicted.value,
                high=c.predicted.high or c.predicted.value,
                unit=c.measured.unit,
            )
            panels.setdefault(quantity_words(c.name), []).append(prediction)
    shown = dict(list(panels.items())[:_COMPARED_PANELS])
    if shown:
        drawing = Drawing(name="predicted", draw=partial(_draw_predicted, shown))
        yield Section(name="predicted", heading="Predicted and measured", blocks=(drawing,))


def _runs(payload: SweepPayload) -> Section:
    rows = payload.rows
    columns = [name for name in CURVE_COLUMNS if any(row[name] is not None for _, row in rows)]
    several = len(payload.curves) > 1
    names = ("curve", "run") if several else ("run",)
    units = {c.output_unit for c in payload.curves}
    unit = units.pop() if len(units) == 1 else "output"
    headings = [f"{quantity_words(name)} ({unit_of(name, unit)})" for name in columns]
    cells = [
        (
            *([curve.label] if several else []),
            row["run_id"],
            *(figure(row[name]) for name in columns),
            _bound(payload.diagnoses, row),
        )
        for curve, row in rows
    ]
    table = Table(title="", columns=(*names, *headings, "bound by"), rows=tuple(cells), left=len(names))
    missing = [row["run_id"] for _, row in rows if row["run_id"] not in payload.diagnoses]
    notes = (Notes(texts=(f"No energy per output: {', '.join(missing)}",)),) if missing else ()
    return Section(name="runs", heading="Every run", blocks=(table, *notes))


def _bound(diagnoses: Mapping[str, Diagnosis], row: Mapping[str, Any]) -> str:
    found = diagnoses.get(row["run_id"])
    return plain(found.bound_by) if found and found.bound_by else "–"


def _draw_curves(curves: Sequence[Curve], width_px: int) -> Chart:
    from joulemap.report.charts.batch_curves import batch_curves_chart

    return batch_curves_chart(curves, width_px)


def _draw_ledgers(chosen: Sequence[tuple[str, Diagnosis]], width_px: int) -> Chart:
    from joulemap.report.charts.ledger import ledger_chart

    return ledger_chart(chosen, width_px, ideals=False)


def _draw_predicted(panels: Mapping[str, Sequence[Prediction]], width_px: int) -> Chart:
    from joulemap.report.charts.predicted_scatter import predicted_scatter_chart

    return predicted_scatter_chart(panels, width_px)
