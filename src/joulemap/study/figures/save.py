"""Write charts to files."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from joulemap.errors import InputError
from joulemap.study.figures.registry import FIGURES
from joulemap.study.figures.theme import Chart
from joulemap.study.runs import MissingRunsError, study_runs

Format = Literal["svg", "png", "html"]
FORMATS: tuple[str, ...] = get_args(Format)
_PNG_SCALE = 2
"""Pixels of a PNG a unit of the chart: sharp in print at the size of a column."""
_NO_WIDER = "max-width: 100%; height: auto"
_HEAD = f"""<head>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <style>#vis svg {{ {_NO_WIDER} }}</style>"""
"""What makes a page's chart shrink with a narrow screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What drawing the figures did."""

    written: tuple[Path, ...]
    left_out: dict[str, str]
    """Each figure that could not be drawn, with the reason."""


def save_figures(frame: pl.DataFrame, folder: Path, format: Format = "svg") -> Saved:
    """Draw every figure of the study that the runs allow, as ``<folder>/<name>.<format>``.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
        folder: Where to write; created if need be. Older figures of the same names are replaced.
        format: ``svg``, ``png``, or ``html`` (one file that opens offline).

    Raises:
        InputError: The folder cannot be written.
    """
    runs = study_runs(frame)
    written: list[Path] = []
    left_out: dict[str, str] = {}
    for name, function in FIGURES.items():
        try:
            chart = function(runs)
        except MissingRunsError as missing:
            left_out[name] = str(missing)
            continue
        written.append(save_chart(chart, folder / f"{name}.{format}"))
    return Saved(written=tuple(written), left_out=left_out)


def save_chart(chart: Chart, path: Path) -> Path:
    """Write a chart in the format that the file's ending names, and return the path.

    Raises:
        InputError: The ending names no known format, or the file cannot be written.
    """
    format = path.suffix.removeprefix(".").lower()
    if format not in FORMATS:
        msg = f"{path} does not end in {', '.join('.' + f for f in FORMATS)}"
        raise InputError(msg, fix="name the file for example breakdown.svg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if format == "png":
            chart.save(str(path), format="png", scale_factor=_PNG_SCALE)
        else:
            path.write_text(_markup(chart, "svg" if format == "svg" else "html"), encoding="utf-8")
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg, fix="give a folder that you may write") from error
    return path


def _markup(chart: Chart, format: Literal["svg", "html"]) -> str:
    """Return a chart as text that a screen narrower than it shows whole."""
    drawn = StringIO()
    # Inlining makes an HTML file that needs no network; the other format ignores it.
    chart.save(drawn, format=format, inline=format == "html", embed_options={"renderer": "svg"})
    if format == "svg":
        return drawn.getvalue().replace("<svg ", f'<svg style="{_NO_WIDER}" ', 1)
    return drawn.getvalue().replace("<head>", _HEAD, 1)
