"""Measured batch curves that differ from a run's own in one knob."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from joulemap.diagnose.series import KNOB_COLUMNS, SAME_BATCH_TOLERANCE, SETTING, Curves, Series

KNOBS = ("precision", "num_gpus", "gpu_model", "model")


def siblings_of(row: Mapping[str, Any], curves: Curves) -> dict[str, tuple[Series, ...]]:
    """Return the batch curves of the same task by the one knob in which they differ from a run's own."""
    found: dict[str, list[Series]] = {knob: [] for knob in KNOBS}
    for series in curves.of_task(row["task"]):
        differing = {c for c in SETTING if series.knobs[c] != row[c]}
        for knob in KNOBS:
            if differing and differing <= set(KNOB_COLUMNS[knob]):
                found[knob].append(series)
    return {knob: tuple(series) for knob, series in found.items() if series}


def nearest_in_batch(series: Series, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the run of a curve at about a run's batch, ``None`` where the nearest is further off.

    About means within ``SAME_BATCH_TOLERANCE`` in the logarithm.
    """
    if not row["batch_size"]:
        return None
    near = [r for r in series.rows if r["batch_size"] and _distance(r, row) < SAME_BATCH_TOLERANCE]
    return min(near, key=lambda r: _distance(r, row)) if near else None


def _distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    return abs(math.log(a["batch_size"] / b["batch_size"]))
