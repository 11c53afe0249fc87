"""How the main values show themselves in notebooks.

The values lie below the reports, which alone can arrange them; so the function that does is named here by text, as
the command line names its verbs, and loaded when a notebook first shows something.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable

SHOWN_BY = "joulemap.report.renderers.notebook:html_of"
"""Takes a value, and returns its HTML; ``None`` where it cannot be made."""


class ShownInNotebooks:
    """A value that a notebook shows as HTML; where that cannot be made, as its ``repr``."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        """Return the value as HTML, in the form that Jupyter and its kin ask for."""
        html_of: Callable[[object], str | None] = pkgutil.resolve_name(SHOWN_BY)
        return html_of(self)
