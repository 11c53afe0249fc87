"""The study's claims and figures, from the runs of the store."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from joulemap.report.documents.study import study_document
from joulemap.report.payloads.study import study_payload
from joulemap.store.run_store import RunStore
from joulemap.study import reproduce
from joulemap.web.answers import Answer, Asked, documented, respond
from joulemap.web.documents import document_answer
from joulemap.web.download import Download, download, report_documented

router = APIRouter()


@router.get("/study", summary="The study", **documented("joulemap study --json"))
async def study_page(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Reproduce the study's published claims and figures from the runs of the store."""

    def answer(store: RunStore) -> Answer:
        if asked.format == "json":
            claims = reproduce(store.non_empty_frame())
            return Answer(payload={"claims": [claim.to_json() for claim in claims]}, template="study.html")
        return document_answer(request, "study.html", lambda: study_document(study_payload(store=store)))

    return await respond(request, asked, answer)


@router.get("/study/report", summary="The report on the study", **report_documented("joulemap report study"))
async def study_report(request: Request, asked: Annotated[Download, Query()]) -> Response:
    """Give the report on the study as a file."""
    return await download(
        request, asked.format, lambda store: study_document(study_payload(store=store)), "joulemap-study"
    )
