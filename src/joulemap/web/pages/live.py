"""Measurements in progress, and those that were."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from joulemap.store.run_store import RunStore
from joulemap.web.answers import Answer, Asked, documented, respond
from joulemap.web.runs_at_hand import RunsAtHand
from joulemap.web.sessions import mark_of, session_of, sessions_of
from joulemap.web.work import BusyError

router = APIRouter()

LOOK_EVERY_S = 0.5
HEARTBEAT_S = 10.0
"""A part is sent at least so often, so that silence shows, and proxies keep the connection."""
LONGEST_STREAM_S = 3600.0
"""The browser asks again when a stream ends without an end."""

SessionId = Annotated[str, Path(pattern="^[0-9a-f]{4,32}$", description="The id that `joulemap measure` prints.")]


@router.get(
    "/live", summary="Measurements", **documented("the journals", {"type": "array", "items": {"type": "object"}})
)
async def live_page(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """List the newest measurements of this store, those in progress first."""

    def answer(store: RunStore) -> Answer:
        found = sorted(sessions_of(store), key=lambda s: (not s.in_progress, -s.written_unix_s))
        return Answer(
            payload=[s.to_json() for s in found],
            template="live.html",
            shown={"sessions": found, "store": store.address},
        )

    return await respond(request, asked, answer)


@router.get("/live/{session_id}", summary="A measurement", **documented("the journal"))
async def session_page(request: Request, session_id: SessionId, asked: Annotated[Asked, Query()]) -> Response:
    """Say where a measurement stands: its levels, their windows, and the runs that they became."""
    return await respond(request, asked, lambda store: _answer(store, session_id))


_STREAM = documented("the same, whenever something happens")
_STREAM["response_class"] = StreamingResponse
_STREAM["responses"][200] = {
    "description": "Events `part` (the changing part of the page as a JSON string) and `end`.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


@router.get("/live/{session_id}/events", summary="A measurement as it goes on", **_STREAM)
async def session_events(request: Request, session_id: SessionId) -> Response:
    """Send the changing part of a measurement's page whenever something happened, until it has ended."""
    state: Any = request.app.state
    if state.streams >= state.settings.streams:
        msg = f"{state.streams} live pages are fed already"
        raise BusyError(msg)
    runs: RunsAtHand = state.runs
    session_of(runs.store(), session_id)  # an unknown session is an error, not an empty stream
    return StreamingResponse(_events(request, session_id), media_type="text/event-stream")


async def _events(request: Request, session_id: str) -> AsyncIterator[str]:
    state: Any = request.app.state
    state.streams += 1
    try:
        begun_s = sent_s = time.monotonic()
        mark: tuple[float, float] | None = None
        while time.monotonic() - begun_s < LONGEST_STREAM_S:
            store = state.runs.store()
            found = mark_of(store, session_id)
            if found != mark or time.monotonic() - sent_s > HEARTBEAT_S:
                mark, sent_s = found, time.monotonic()
                answer = _answer(store, session_id)
                template = state.templates.get_template(answer.template)
                context = {"path": request.url.path, "payload": answer.payload, "twin": "", **answer.shown}
                part = "".join(template.blocks["answer"](template.new_context(context)))
                yield f"event: part\ndata: {json.dumps(part)}\n\n"
                if answer.shown["session"].finished:
                    break
            await asyncio.sleep(LOOK_EVERY_S)
        else:
            return
        yield "event: end\ndata: {}\n\n"
    finally:
        state.streams -= 1


def _answer(store: RunStore, session_id: str) -> Answer:
    seen = session_of(store, session_id)
    return Answer(payload=seen.to_json(), template="session.html", shown={"session": seen})
