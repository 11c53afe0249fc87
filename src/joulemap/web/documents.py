"""Reports in a page: their blocks as the report has them, their charts drawn by the browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from joulemap.errors import EmptyStoreError, JoulemapError
from joulemap.report.document import NARROW_PX, Document, Drawing
from joulemap.web.answers import Answer, status_of

WIDE_PX = 960
"""Width of a chart on a page at a desk."""


def document_answer(template: str, make: Callable[[], Document], **more: Any) -> Answer:
    """Return a page that shows a document; where none can be made, the page with its form and the reason.

    Args:
        template: The page's template.
        make: Makes the document.
        more: What the template needs beside it.
    """
    try:
        return Answer(payload=None, template=template, shown={**shown(make()), **more})
    except EmptyStoreError:
        raise
    except JoulemapError as error:
        return Answer(payload=None, template=template, shown={"problem": error, **more}, status=status_of(error))


def shown(document: Document) -> dict[str, Any]:
    """Return what a page that shows a document needs."""
    figures = {drawing.name: chart_html(drawing) for drawing in document.drawings()}
    return {"document": document, "figures": figures, "problem": None}


def chart_html(drawing: Drawing) -> Markup:
    """Return a chart's specifications for a desk and for a telephone, of which the browser draws one."""
    specs = {size: drawing.draw(width_px).to_dict() for size, width_px in _SIZES.items()}
    label = specs["wide"].get("description", drawing.name)
    scripts = [
        Markup('<script type="application/json" data-size="{}">').format(n) + _data(s) for n, s in specs.items()
    ]
    content = Markup("").join(script + Markup("</script>") for script in scripts)
    return Markup('<div data-chart role="img" aria-label="{}">').format(label) + content + Markup("</div>")


_SIZES = {"wide": WIDE_PX, "narrow": NARROW_PX}


def _data(spec: dict[str, Any]) -> Markup:
    # A '<' could end the script element, or begin a comment, whatever its place in the JSON.
    return Markup(json.dumps(spec, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))
