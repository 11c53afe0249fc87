"""What pictures and pages need beside joulemap itself."""

from __future__ import annotations

from importlib.util import find_spec

from joulemap.errors import MissingExtraError


def require_plots() -> None:
    """Refuse to go on without the extra ``plots``.

    Raises:
        MissingExtraError: A library of it is not installed.
    """
    for module in ("altair", "vl_convert", "jinja2"):
        if find_spec(module) is None:
            extra = "plots"
            raise MissingExtraError(extra, "drawing a report", module)
