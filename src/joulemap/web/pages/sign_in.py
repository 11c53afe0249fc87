"""Signing in with the token, where the application can be reached from other machines."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from joulemap.web.answers import Answer, Asked, respond
from joulemap.web.guard import COOKIE, Sessions

router = APIRouter(include_in_schema=False)


class AskedPage(Asked):
    """Where to go after signing in."""

    next: str = "/"


@router.get("/sign-in")
async def sign_in_page(request: Request, asked: Annotated[AskedPage, Query()]) -> Response:
    """Ask for the token."""
    shown = {"next": _own_path(asked.next), "was_wrong": False}
    return await respond(request, asked, lambda _store: Answer(payload={}, template="sign_in.html", shown=shown))


@router.post("/sign-in")
async def sign_in(
    request: Request,
    token: Annotated[str, Form(max_length=1000)],
    next: Annotated[str, Form(max_length=8000)] = "/",
) -> Response:
    """Give a cookie for the right token; a form of another site never comes this far."""
    sessions: Sessions = request.app.state.sessions
    if not sessions.is_token(token):
        answer = Answer(
            payload={},
            template="sign_in.html",
            shown={"next": _own_path(next), "was_wrong": True},
            status=HTTPStatus.FORBIDDEN,
        )
        return await respond(request, Asked(format="html"), lambda _store: answer)
    response = RedirectResponse(_own_path(next), HTTPStatus.SEE_OTHER)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, sessions.session, httponly=True, samesite="strict", secure=secure, path="/")
    return response


def _own_path(path: str) -> str:
    """Return a path of this application; anything that could lead elsewhere becomes the first page."""
    leads_elsewhere = not path.startswith("/") or path.startswith(("//", "/\\")) or any(ord(c) < 32 for c in path)
    return "/" if leads_elsewhere else path
