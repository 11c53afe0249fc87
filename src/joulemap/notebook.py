"""How the main values show themselves in notebooks.

The values lie below the reports, and may not know them; so a function that makes HTML of a value is named here by
whoever sits above both, and loaded when a notebook first shows something.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable

_TARGET: list[str] = []


def show_by(target: str) -> None:
    """Name the function that makes HTML of a value, as ``"module:function"``; it may return ``None``."""
    _TARGET[:] = [target]


class ShownInNotebooks:
    """A value that a notebook shows as HTML; where that cannot be made, as its ``repr``."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        """Return the value as HTML, in the form that Jupyter and its kin ask for."""
        if not _TARGET:
            return None
        html_of: Callable[[object], str | None] = pkgutil.resolve_name(_TARGET[0])
        return html_of(self)
