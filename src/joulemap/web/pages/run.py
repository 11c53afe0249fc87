"""The page of a run: where its joules went, what bound it, what to change, and every number."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from joulemap.diagnose.diagnose import diagnose
from joulemap.diagnose.series import Curves
from joulemap.report.document import Document
from joulemap.report.documents.run import run_document
from joulemap.report.payloads.run import run_payload
from joulemap.report.payloads.run_record import run_json
from joulemap.store.run_store import RunStore
from joulemap.web.answers import Answer, Asked, documented, respond
from joulemap.web.documents import document_answer
from joulemap.web.download import Download, download, report_documented
from joulemap.web.runs_at_hand import RunsAtHand

router = APIRouter()

RunId = Annotated[str, Path(pattern="^[0-9a-f]{4,64}$", description="A run id; its beginning is enough.")]


class AskedRun(Asked):
    """In which form a run is wanted."""

    record: bool = Field(False, description="With format=json: the run as stored, not its diagnosis.")


@router.get("/runs/{run_id}", summary="A run, diagnosed", **documented("joulemap diagnose RUN --json"))
async def run_page(request: Request, run_id: RunId, asked: Annotated[AskedRun, Query()]) -> Response:
    """Say where the joules of a run went, what bound it, and what to change."""

    def answer(store: RunStore) -> Answer:
        if asked.format == "json":
            told = run_json(store.get(run_id)) if asked.record else diagnose(run_id, store=store).to_json()
            return Answer(payload=told, template="run.html")
        return document_answer(
            request,
            "run.html",
            lambda: _document(store, run_id, curves_of(request)),
            run_id=store.row(run_id)["run_id"],
        )

    return await respond(request, asked, answer)


@router.get("/runs/{run_id}/report", summary="The report on a run", **report_documented("joulemap report RUN"))
async def run_report(request: Request, run_id: RunId, asked: Annotated[Download, Query()]) -> Response:
    """Give the report on a run as a file."""
    return await download(
        request, asked.format, lambda store: _document(store, run_id, curves_of(request)), f"joulemap-{run_id}"
    )


def _document(store: RunStore, run_id: str, curves: Curves) -> Document:
    return run_document(run_payload(store.row(run_id), store=store, curves=curves))


def curves_of(request: Request) -> Curves:
    """Return the batch curves of the store's runs, computed once."""
    runs: RunsAtHand = request.app.state.runs
    return runs.kept("curves", lambda store: Curves(store.frame))
