"""A document as HTML: a fragment for pages of the web application, or a file of its own that opens offline."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from joulemap import __version__
from joulemap.report.document import NARROW_PX, WIDE_PX, Document, Drawing
from joulemap.report.renderers.extra import require_plots

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
"""Folder of the templates: ``blocks.html`` and ``blocks.css`` are shared with the web application."""


def html_page(document: Document, *, made_at: datetime | None = None) -> str:
    """Return a document as one HTML file: no script, no request, every text escaped.

    Args:
        document: The document.
        made_at: UTC-aware time to state in the footer.

    Raises:
        MissingExtraError: The extra ``plots`` is not installed.
    """
    require_plots()
    from markupsafe import Markup

    style = stylesheet("blocks.css") + stylesheet("page.css")
    return (
        _environment()
        .get_template("page.html")
        .render(
            document=document,
            figures=figures_of(document),
            prefix="",
            # Ours, and free of '<'; its hash is what the policy lets through.
            style=Markup(style),
            policy=_policy(style),
            version=__version__,
            made_at=None if made_at is None else made_at.strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def html_fragment(document: Document) -> Markup:
    """Return the sections of a document as HTML to stand in a page that loads ``blocks.css``.

    Raises:
        MissingExtraError: The extra ``plots`` is not installed.
    """
    require_plots()
    return blocks_html(document, figures_of(document))


def blocks_html(document: Document, figures: Mapping[str, Markup], prefix: str = "") -> Markup:
    """Return the sections of a document as HTML, with the given charts in their places.

    Args:
        document: The document.
        figures: The HTML of each chart by its name.
        prefix: Stands before every id, where one page shows several documents.
    """
    from markupsafe import Markup

    template = _environment().get_template("blocks.html")
    # Rendered with every text escaped.
    return Markup(template.render(document=document, figures=figures, prefix=prefix))


def figures_of(document: Document) -> dict[str, Markup]:
    """Return the HTML of every chart of a document by its name."""
    return {drawing.name: figure_html(drawing) for drawing in document.drawings()}


def figure_html(drawing: Drawing) -> Markup:
    """Return a chart as inline SVG, once for a desk and once for a telephone; a style sheet shows one of them."""
    from markupsafe import Markup

    from joulemap.report.renderers.svg import inline_svg

    sizes = (("fixed", WIDE_PX),) if drawing.fixed else (("wide", WIDE_PX), ("narrow", NARROW_PX))
    parts = [
        Markup('<div class="{}">').format(size)
        # A serialised tree in which every text is escaped and only shapes are left.
        + Markup(inline_svg(drawing.draw(width_px), f"{drawing.name}-{size}"))
        + Markup("</div>")
        for size, width_px in sizes
    ]
    return Markup("").join(parts)


def stylesheet(name: str) -> str:
    """Return a style sheet of the reports: ``blocks.css`` or ``page.css``."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment
