"""Reports to keep: one file that opens offline, Markdown, or JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from joulemap.report.document import Document
from joulemap.store.run_store import RunStore
from joulemap.web.answers import Fields, documented
from joulemap.web.runs_at_hand import RunsAtHand
from joulemap.web.work import Work

_FORMS: dict[str, tuple[str, str]] = {
    "html": ("text/html; charset=utf-8", "html"),
    "markdown": ("text/markdown; charset=utf-8", "md"),
    "json": ("application/json", "json"),
}
"""Media type and ending by form."""


class Download(Fields):
    """In which form a report is wanted."""

    format: Literal["html", "markdown", "json"] = Field(
        "html", description="One HTML file that needs no network, Markdown, or the payload as JSON."
    )


async def download(
    request: Request, asked_format: str, document: Callable[[RunStore], Document], name: str
) -> Response:
    """Return a report as a file.

    Args:
        request: The request.
        asked_format: A key of the forms: ``html``, ``markdown`` or ``json``.
        document: Makes the report from the store, in a thread.
        name: The file's name without its ending.
    """
    runs: RunsAtHand = request.app.state.runs

    def work() -> Response:
        from joulemap.report.renderers.html import html_page
        from joulemap.report.renderers.markdown import markdown_of
        from joulemap.report.renderers.write import json_of

        render = {"html": html_page, "markdown": markdown_of, "json": json_of}[asked_format]
        kind, ending = _FORMS[asked_format]
        file = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.')}.{ending}"
        headers = {"Content-Disposition": f'attachment; filename="{file}"'}
        return Response(render(document(runs.store())), media_type=kind, headers=headers)

    worker: Work = request.app.state.work
    return await worker.run(work)


def report_documented(same_as: str) -> dict[str, Any]:
    """Return what OpenAPI says of a report's answers.

    Args:
        same_as: The command that writes the same report.
    """
    told = documented(same_as)
    content = {
        "text/html": {"schema": {"type": "string"}},
        "text/markdown": {"schema": {"type": "string"}},
        "application/json": {"schema": {"type": "object"}},
    }
    told["responses"][200] = {"description": f"A file; the same as `{same_as}`.", "content": content}
    return told
