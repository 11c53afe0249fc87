"""From a question to an answer: a page, the part of a page that changes, or JSON; and errors as either."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from joulemap import __version__
from joulemap.errors import EmptyStoreError, JoulemapError, UnknownNameError
from joulemap.report.numbers import figure, plain, span
from joulemap.report.renderers.html import TEMPLATES
from joulemap.report.renderers.svg import VARIABLES
from joulemap.store.run_store import RunStore
from joulemap.web.assets import address
from joulemap.web.charts import charts_of
from joulemap.web.runs_at_hand import RunsAtHand
from joulemap.web.work import BusyError, Work

PART_HEADER = "X-Joulemap-Part"
"""Sent by our script, that wants a part: the ``answer`` that changes, or the charts ``wide`` or ``narrow``."""
RETRY_AFTER_S = 2


class Fields(BaseModel):
    """Fields of a query; a form sends empty ones too, which ask nothing."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {name: v for name, v in values.items() if v not in ("", [""], [])}


class Asked(Fields):
    """What every page may be asked."""

    format: Literal["html", "json"] = Field(default="html", description="A page, or the same as JSON.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a page shows, and its JSON twin."""

    payload: Any
    template: str
    shown: Mapping[str, Any] = field(default_factory=dict)
    """What the template needs beside the payload."""
    status: HTTPStatus = HTTPStatus.OK


_INKS = {colour.lower(): name for colour, name in VARIABLES.items()}


def environment() -> Environment:
    """Return the templates; every text is escaped, and a name that is not given is an error."""
    found = Environment(
        loader=ChoiceLoader([PackageLoader("joulemap.web"), FileSystemLoader(TEMPLATES)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(figure=figure, plain=plain, kind=lambda block: type(block).__name__)
    found.globals.update(span=span, version=__version__, asset=address, inks=json.dumps(_INKS))
    return found


async def respond(
    request: Request, asked: Asked, answer: Callable[[RunStore], Answer], *, keep_as: str | None = None
) -> Response:
    """Compute an answer and return it in the form asked for.

    Args:
        request: The request.
        asked: Its query.
        answer: Computes the answer from the store, in a thread.
        keep_as: Keep the answer under this name until the store's runs change.
    """
    runs: RunsAtHand = request.app.state.runs
    templates: Environment = request.app.state.templates
    part = request.headers.get(PART_HEADER)

    def work() -> Response:
        found = answer(runs.store()) if keep_as is None else runs.kept(keep_as, answer)
        if asked.format == "json":
            return json_response(found.payload, found.status)
        if part in ("wide", "narrow"):
            key = ("charts", request.url.path, request.url.query, part)
            return json_response(runs.kept(key, lambda _store: charts_of(found.shown, narrow=part == "narrow")))
        return _page(request, templates, found, part=part is not None)

    worker: Work = request.app.state.work
    return await worker.run(work)


def _page(request: Request, templates: Environment, answer: Answer, *, part: bool) -> Response:
    template = templates.get_template(answer.template)
    twin = str(request.url.include_query_params(format="json"))
    context = {"path": request.url.path, "twin": twin, "payload": answer.payload, **answer.shown}
    if part:
        rendered = "".join(template.blocks["answer"](template.new_context(context)))
    else:
        rendered = template.render(context)
    return HTMLResponse(rendered, answer.status, headers={"Vary": PART_HEADER})


def json_response(payload: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return a payload as the command line prints it, without its blanks."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, default=str)
    return Response(text, status, media_type="application/json")


async def tell_error(request: Request, error: Exception) -> Response:
    """Return an error as a page or as JSON, with what mends it."""
    status, message, fix = _told(error)
    if request.query_params.get("format") == "json" or "text/html" not in request.headers.get("accept", "*/*"):
        response = json_response({"error": {"message": message, "fix": fix}}, status)
    else:
        answer = Answer(
            payload=None,
            template="error.html",
            shown={
                "problem": {"message": message, "fix": fix},
                "is_empty": isinstance(error, EmptyStoreError),
            },
            status=status,
        )
        response = _page(request, request.app.state.templates, answer, part=PART_HEADER in request.headers)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _told(error: Exception) -> tuple[HTTPStatus, str, str | None]:
    if isinstance(error, RequestValidationError):
        told = "; ".join(f"{'.'.join(map(str, e['loc'][1:])) or 'query'}: {e['msg']}" for e in error.errors())
        return HTTPStatus.UNPROCESSABLE_ENTITY, told, None
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return status, str(error.detail), "the pages are listed at /api" if status == HTTPStatus.NOT_FOUND else None
    if isinstance(error, BusyError):
        return HTTPStatus.SERVICE_UNAVAILABLE, str(error), f"try again in {RETRY_AFTER_S} s"
    if isinstance(error, JoulemapError):
        return status_of(error), error.message, error.fix
    raise error


def status_of(error: JoulemapError) -> HTTPStatus:
    """Return the status of an answer that tells an error."""
    if isinstance(error, EmptyStoreError):
        return HTTPStatus.CONFLICT
    if isinstance(error, UnknownNameError) and error.kind in {"run", "session", "asset"}:
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.UNPROCESSABLE_ENTITY


ERRORS = (JoulemapError, RequestValidationError, HTTPException, BusyError)
"""What :func:`tell_error` knows how to tell."""

_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "fix"],
            "properties": {
                "message": {"type": "string", "description": "What happened, and why."},
                "fix": {"type": ["string", "null"], "description": "What mends it."},
            },
        }
    },
}
_STATUSES = {
    400: "The Host header names something else.",
    401: "A token is needed.",
    403: "Another site asked.",
    404: "There is no such run, session or page.",
    409: "The store holds no runs.",
    414: "The query is too long.",
    422: "What was asked cannot be answered; says why.",
    503: "Too much is under way, or the answer took too long.",
}


def documented(same_as: str, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what OpenAPI says of a page's answers.

    Args:
        same_as: The command whose JSON ``?format=json`` gives.
        schema: JSON schema of that JSON; an object if ``None``.
    """
    shown = {"text/html": {"schema": {"type": "string"}}}
    error = {"application/json": {"schema": _ERROR_SCHEMA}, **shown}
    body = {"application/json": {"schema": dict(schema or {"type": "object"})}, **shown}
    ok = {"description": f"The page; with format=json the same as `{same_as}`.", "content": body}
    told: dict[int, Any] = {status: {"description": text, "content": error} for status, text in _STATUSES.items()}
    return {"response_class": HTMLResponse, "responses": {200: ok, **told}}
