"""The first page: what can be asked, what is in the store, and what stands out in it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from joulemap.report.payloads.overview import StandingOut, overview, standing_out
from joulemap.store.run_store import RunStore, open_store
from joulemap.web.answers import Answer, Asked, documented, respond
from joulemap.web.runs_at_hand import RunsAtHand

router = APIRouter()

STANDING_OUT = "standing out"
"""Name under which the diagnosis of all runs is kept, which takes seconds."""


@router.get("/", summary="Home", **documented("the overview of the store in a report"))
async def home_page(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Say what is in the store."""
    computed: list[StandingOut] | None = request.app.state.runs.peek(STANDING_OUT)

    def answer(store: RunStore) -> Answer:
        found = overview(store.frame)
        more = {"overview": found, "standing_out": computed}
        return Answer(payload=found.to_json(), template="home.html", shown=more)

    return await respond(request, asked, answer)


@router.get(
    "/standing-out",
    summary="What stands out",
    **documented("the findings of all runs", {"type": "array", "items": {"type": "object"}}),
)
async def standing_out_page(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """Say what the diagnosis of every run finds: defects before choices, what concerns most energy first."""
    found = await standing_out_of(request.app.state)

    def answer(_store: RunStore) -> Answer:
        payload = [f.to_json() for f in found]
        return Answer(payload=payload, template="standing_out.html", shown={"standing_out": found})

    return await respond(request, asked, answer)


async def standing_out_of(state: Any) -> list[StandingOut]:
    """Return what stands out; computed once, in a process of its own, for it keeps a core busy for seconds.

    Raises:
        EmptyStoreError: There are no runs.
        BusyError: It took too long.
    """
    runs: RunsAtHand = state.runs
    found: list[StandingOut] | None = runs.peek(STANDING_OUT)
    if found is None:
        runs.store().non_empty_run_ids()
        made = await state.work.run_apart(find_standing_out, state.settings.store)
        found = runs.kept(STANDING_OUT, lambda _store: made)
    return found


def find_standing_out(location: str | None) -> list[StandingOut]:
    """Return what stands out among the runs of a store."""
    return standing_out(open_store(location).non_empty_frame())
