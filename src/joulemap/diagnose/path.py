"""From one run to another, one knob at a time, over configurations that were measured.

Two runs may differ in several knobs at once. Their energies' ratio is split along a path whose every stop is a
configuration that was measured, or that lies between measured ones; each step then turns as few knobs as the
data allow, one if it can.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from joulemap.diagnose.series import KNOB_COLUMNS, PARALLELISM, Curves, Point, Series, differing, point_of

KNOB_ORDER = ("task", "model", "precision", "gpu_model", "num_gpus", "parallelism", "engine", "batch")

_SEVERAL_KNOBS_COST = 10.0
_INTERPOLATION_COST = 0.1
# A tie is broken for paths that change the batch first: both other sides are then compared at one batch.
_LATE_BATCH_COST = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A configuration on the path."""

    series: Series
    ceiling: float | None
    batch: float | None
    """The achieved batch; ``None`` where a run does not state it."""
    value: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the path, from nearer the second run to nearer the first."""

    knobs: tuple[str, ...]
    """The knobs turned, in ``KNOB_ORDER``."""
    before: Stop
    after: Stop


def changed_knobs(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the knobs in which two runs differ.

    Parallelism follows from model, precision, GPU and GPU count in any sensible deployment; it counts as a
    knob of its own only between runs that agree in those.
    """
    knobs = [k for k, columns in KNOB_COLUMNS.items() if k != "parallelism" and differing(a, b, columns)]
    if not {"model", "precision", "gpu_model", "num_gpus"} & set(knobs) and differing(a, b, PARALLELISM):
        knobs.append("parallelism")
    same_ceiling = a["batch_ceiling"] == b["batch_ceiling"]
    if not same_ceiling or not _about_equal(a["batch_size"], b["batch_size"]):
        knobs.append("batch")
    return tuple(k for k in KNOB_ORDER if k in knobs)


def find_path(curves: Curves, a: Mapping[str, Any], b: Mapping[str, Any], quantity: str) -> list[Step]:
    """Return the steps that lead from run ``b`` to run ``a``, turning as few knobs at once as the data allow.

    Args:
        curves: The batch curves of the store.
        a: The run to explain, a row with series columns (``with_series_columns``).
        b: The run to compare with, likewise.
        quantity: The column to read at each stop.

    Returns:
        The steps in walking order; none if the runs differ in no knob.
    """
    knobs = changed_knobs(a, b)
    goal = (1 << len(knobs)) - 1
    stops: dict[int, Stop | None] = {0: _endpoint(curves, b, quantity), goal: _endpoint(curves, a, quantity)}

    batches_known = bool(a["batch_size"] and b["batch_size"])

    def stop(turned: int) -> Stop | None:
        if turned not in stops and not batches_known:
            return None
        if turned not in stops:
            mine = {k for i, k in enumerate(knobs) if turned >> i & 1}
            stops[turned] = _find_stop(curves, a, b, mine, quantity)
        return stops[turned]

    queue: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, (0,))]
    done: set[int] = set()
    while queue:
        cost, here, route = heapq.heappop(queue)
        if here == goal:
            return _steps(knobs, stops, route)
        if here in done:
            continue
        done.add(here)
        remaining = [i for i in range(len(knobs)) if not here >> i & 1]
        for count in range(1, len(remaining) + 1):
            for chosen in combinations(remaining, count):
                there = here | sum(1 << i for i in chosen)
                if there in done or (reached := stop(there)) is None:
                    continue
                step_cost = 1.0 + _SEVERAL_KNOBS_COST * (count - 1)
                step_cost += _INTERPOLATION_COST * (len(reached.value.run_ids) > 1)
                step_cost += _LATE_BATCH_COST * here.bit_count() * any(knobs[i] == "batch" for i in chosen)
                heapq.heappush(queue, (cost + step_cost, there, (*route, there)))
    return []


def _steps(knobs: tuple[str, ...], stops: Mapping[int, Stop | None], route: tuple[int, ...]) -> list[Step]:
    steps = []
    for here, there in pairwise(route):
        before, after = stops[here], stops[there]
        if before is None or after is None:  # the search only walks over stops that exist
            msg = "a path led over a configuration that is not there"
            raise AssertionError(msg)
        turned = tuple(k for i, k in enumerate(knobs) if (here ^ there) >> i & 1)
        steps.append(Step(knobs=turned, before=before, after=after))
    return steps


def _endpoint(curves: Curves, row: Mapping[str, Any], quantity: str) -> Stop:
    series = curves.of(row) or Series({c: row[c] for columns in KNOB_COLUMNS.values() for c in columns}, (row,))
    return Stop(
        series=series,
        ceiling=row["batch_ceiling"],
        batch=row["batch_size"],
        value=point_of(row, quantity),
    )


def _find_stop(
    curves: Curves, a: Mapping[str, Any], b: Mapping[str, Any], turned: set[str], quantity: str
) -> Stop | None:
    side = {knob: a if knob in turned else b for knob in (*KNOB_COLUMNS, "batch")}
    wanted = {c: side[k][c] for k, cs in KNOB_COLUMNS.items() if k != "parallelism" for c in cs}
    batch_side = side["batch"]
    best: Stop | None = None
    for series in _by_parallelism(curves.find(wanted), side["parallelism"], a, b):
        value = series.at(quantity, batch_side["batch_ceiling"], batch_side["batch_size"])
        if value is None:
            continue
        stop = Stop(series=series, ceiling=batch_side["batch_ceiling"], batch=batch_side["batch_size"], value=value)
        if best is None or len(value.run_ids) < len(best.value.run_ids):
            best = stop
    return best


def _by_parallelism(found: list[Series], *preferred: Mapping[str, Any]) -> list[Series]:
    """Order series by how near their parallelism is to the endpoints', then by how much was measured."""

    def rank(series: Series) -> tuple[int, int]:
        for position, row in enumerate(preferred):
            if not differing(series.knobs, row, PARALLELISM):
                return position, -len(series.rows)
        return len(preferred), -len(series.rows)

    return sorted(found, key=rank)


def _about_equal(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and abs(a - b) <= 0.02 * max(a, b)
