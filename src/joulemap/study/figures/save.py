"""Write charts to files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import polars as pl

from joulemap.errors import InputError
from joulemap.study.figures.registry import FIGURES
from joulemap.study.figures.theme import Chart
from joulemap.study.runs import MissingRunsError, study_runs

Format = Literal["svg", "png", "html"]
FORMATS: tuple[str, ...] = get_args(Format)
_PNG_SCALE = 2
"""Pixels of a PNG a unit of the chart: sharp in print at the size of a column."""


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
        # Inlining makes an HTML file that needs no network; the other formats ignore it.
        chart.save(str(path), format=cast("Format", format), scale_factor=_PNG_SCALE, inline=format == "html")
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg, fix="give a folder that you may write") from error
    return path
