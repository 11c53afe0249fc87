"""The charts of a document as SVG and PNG files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from joulemap.report.document import WIDE_PX, Document
from joulemap.report.renderers.extra import require_plots

PNG_SCALE = 2.0
"""Pixels of a PNG a unit of the chart: sharp in print at the size of a column."""


def pictures_of(document: Document, path: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield a file name and its content for each chart: ``report.svg`` becomes ``report-ledger.svg`` and so on.

    Args:
        document: The document.
        path: Ends in ``.svg`` or ``.png``.

    Raises:
        MissingExtraError: The extra ``plots`` is not installed.
    """
    require_plots()
    import vl_convert

    from joulemap.report.renderers.svg import svg_of

    for drawing in document.drawings():
        svg = svg_of(drawing.draw(WIDE_PX))
        target = path.with_name(f"{path.stem}-{drawing.name}{path.suffix}")
        png = path.suffix.lower() == ".png"
        yield target, vl_convert.svg_to_png(svg, scale=PNG_SCALE) if png else svg.encode()
