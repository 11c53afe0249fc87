"""The report on the study: its claims and figures, from the runs in the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from joulemap.report.document import Document, Drawing, Notes, Section, Table
from joulemap.study.runs import MissingRunsError

if TYPE_CHECKING:
    from joulemap.report.payloads.study import StudyPayload
    from joulemap.study.figures.theme import Chart


def study_document(payload: StudyPayload) -> Document:
    """Arrange the study's claims and figures."""
    claims = payload.claims
    matching = sum(claim.match for claim in claims)
    known = sum(claim.is_known_difference for claim in claims)
    rows = [
        (claim.id, claim.statement, claim.published, claim.computed or "–", "yes" if claim.match else "no")
        for claim in claims
    ]
    columns = ("id", "claim", "published", "computed", "match")
    notes = tuple(f"{claim.id}: {claim.note}" for claim in claims if not claim.match)
    table = Table(title="", columns=columns, rows=tuple(rows), left=5)
    drawn, left_out = _figures(payload)
    lacking = (Notes(texts=left_out),) if left_out else ()
    return Document(
        kind="study",
        title="Where do the joules go? The study, from its data",
        subtitle=f"{payload.frame.height:,} runs in the store",
        summary=f"{matching} of {len(claims)} published claims match"
        + (f"; {known} differ in the released data, as known" if known else "")
        + ".",
        sections=(
            Section(name="figures", heading="Figures", blocks=(*drawn, *lacking)),
            Section(name="claims", heading="Claims", blocks=(table, *((Notes(texts=notes),) if notes else ()))),
        ),
        payload={"kind": "study", **payload.to_json()},
    )


def _figures(payload: StudyPayload) -> tuple[list[Drawing], tuple[str, ...]]:
    """Return the figures that the runs allow, and why others are left out."""
    from joulemap.study.figures import FIGURES
    from joulemap.study.runs import study_runs

    runs = study_runs(payload.frame)
    drawn, left_out = [], []
    for name, function in FIGURES.items():
        try:
            chart = function(runs)
        except MissingRunsError as missing:
            left_out.append(f"{name}: not drawn, {missing}")
        else:
            drawn.append(Drawing(name=name, draw=partial(_at_its_width, chart), fixed=True))
    return drawn, tuple(left_out)


def _at_its_width(chart: Chart, _width_px: int) -> Chart:
    return chart
