"""The study's figures: each chart declared once, as a function from the study's runs to an Altair chart.

This package needs the extra ``plots``.
"""

from importlib.util import find_spec

from joulemap.errors import MissingExtraError

_EXTRA = "plots"
for _module in ("altair", "vl_convert"):
    if find_spec(_module) is None:
        raise MissingExtraError(_EXTRA, "drawing figures", _module)

from joulemap.study.figures.registry import FIGURES, draw  # noqa: E402
from joulemap.study.figures.save import FORMATS, Saved, save_chart, save_figures  # noqa: E402

__all__ = ["FIGURES", "FORMATS", "Saved", "draw", "save_chart", "save_figures"]
