"""The charts of a page as Vega-Lite specifications, which the browser asks for and draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joulemap.report.document import NARROW_PX, Document
from joulemap.report.document import WIDE_PX as FIXED_PX

WIDE_PX = 960
"""Width of a chart on a page at a desk."""


def charts_of(shown: Mapping[str, Any], *, narrow: bool) -> dict[str, Any]:
    """Return the Vega-Lite specification of each chart of a page by its name, at one of two widths."""
    from altair.utils.schemapi import debug_mode

    document: Document | None = shown.get("document")
    px = NARROW_PX if narrow else WIDE_PX
    drawings = () if document is None else document.drawings()
    # The charts are checked by the tests; checking each again would take most of the time.
    with debug_mode(False):
        return {d.name: d.draw(FIXED_PX if d.fixed else px).to_dict(validate=False) for d in drawings}
