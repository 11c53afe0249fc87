"""The first page: what can be asked, what is in the store, and what stands out in it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from joulemap.report.payloads.overview import StandingOut, overview, standing_out
from joulemap.store.run_store import RunStore
from joulemap.web.answers import Answer, Asked, documented, respond

router = APIRouter()

STANDING_OUT = "standing out"
"""Name under which the diagnosis of all runs is kept, which takes seconds."""


@router.get("/", summary="Home", **documented("the overview of the store in a report"))
async def home_page(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Say what is in the store."""
    computed: Answer | None = request.app.state.runs.peek(STANDING_OUT)

    def answer(store: RunStore) -> Answer:
        found = overview(store.frame)
        more = {"overview": found, "standing_out": None if computed is None else computed.shown["standing_out"]}
        return Answer(payload=found.to_json(), template="home.html", shown=more)

    return await respond(request, asked, answer)


@router.get(
    "/standing-out",
    summary="What stands out",
    **documented("the findings of all runs", {"type": "array", "items": {"type": "object"}}),
)
async def standing_out_page(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Say what the diagnosis of every run finds, what concerns most energy first."""
    return await respond(request, asked, standing_out_answer, keep_as=STANDING_OUT)


def standing_out_answer(store: RunStore) -> Answer:
    """Return what stands out among the runs of a store."""
    found: list[StandingOut] = standing_out(store.non_empty_frame())
    return Answer(payload=[f.to_json() for f in found], template="standing_out.html", shown={"standing_out": found})
