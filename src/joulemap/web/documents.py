"""Reports in a page: their blocks as the report has them, their charts drawn by the browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request
from markupsafe import Markup

from joulemap.errors import EmptyStoreError, JoulemapError
from joulemap.report.document import Document, Drawing
from joulemap.web.answers import Answer, status_of
from joulemap.web.runs_at_hand import RunsAtHand


def document_answer(request: Request, template: str, make: Callable[[], Document], **more: Any) -> Answer:
    """Return a page that shows a document; where none can be made, the page with its form and the reason.

    Args:
        request: The request; under its address the document is kept, for the charts are asked for later.
        template: The page's template.
        make: Makes the document.
        more: What the template needs beside it.
    """
    runs: RunsAtHand = request.app.state.runs
    try:
        document = runs.kept(("document", request.url.path, request.url.query), lambda _store: make())
    except EmptyStoreError:
        raise
    except JoulemapError as error:
        return Answer(payload=None, template=template, shown={"problem": error, **more}, status=status_of(error))
    figures = {drawing.name: _place_of(drawing) for drawing in document.drawings()}
    shown = {"document": document, "figures": figures, "problem": None, **more}
    return Answer(payload=None, template=template, shown=shown)


def _place_of(drawing: Drawing) -> Markup:
    fixed = Markup(" data-fixed") if drawing.fixed else ""
    place = Markup('<div data-chart="{}"{} role="img" aria-label="chart: {}"></div>')
    return place.format(drawing.name, fixed, drawing.name.replace("-", " "))
