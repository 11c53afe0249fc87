"""The time–energy frontier of points that cost two things, its knee, and the area that it dominates."""

from __future__ import annotations

import numpy as np

from joulemap.errors import UsageError
from joulemap.physics.arrays import Floats
from joulemap.predict.frames import Index


def frontier_of(x: Floats, y: Floats) -> Index:
    """Return the positions of the points that no other point beats, by rising x.

    A point is beaten by another that is no worse in both and better in one; of equal points the first counts.

    Args:
        x: One cost of each point, lower is better.
        y: The other.
    """
    order = np.lexsort((np.arange(len(x)), y, x))
    lowest_before = np.concatenate([[np.inf], np.minimum.accumulate(y[order])[:-1]])
    return np.asarray(order[y[order] < lowest_before], dtype=np.intp)


def knee_of(x: Floats, y: Floats) -> int | None:
    """Return the position of the frontier's knee: the point furthest below the chord between its ends.

    Both costs are taken as logarithms and scaled to the frontier's extent, so that the knee is the same in any
    unit: beyond it, each per cent of time saves less energy than the whole frontier does on average.

    Reference: Satopää et al. 2011, Finding a "Kneedle" in a Haystack (for a decreasing convex curve).

    Args:
        x: One cost of the frontier's points, rising.
        y: The other, falling.

    Returns:
        ``None`` for fewer than three points, or where none lies below the chord.
    """
    if len(x) < 3:
        return None
    across, down = np.log(x / x[0]) / np.log(x[-1] / x[0]), np.log(y / y[-1]) / np.log(y[0] / y[-1])
    below = 1.0 - across - down
    best = int(np.argmax(below))
    return best if below[best] > 1e-12 else None


def hypervolume(x: Floats, y: Floats, reference: tuple[float, float]) -> float:
    """Return the area that points dominate up to a reference point, both costs as natural logarithms.

    An area of 1 is one factor of e in both costs. Points beyond the reference add nothing.

    Reference: Zitzler and Thiele 1998, Multiobjective Optimization Using Evolutionary Algorithms.

    Args:
        x: One cost of each point, positive.
        y: The other.
        reference: Costs of the reference point, which every useful point beats in both.

    Raises:
        UsageError: A cost or the reference is not positive.
    """
    if min(reference) <= 0 or (len(x) and min(x.min(), y.min()) <= 0):
        msg = "a hypervolume in logarithms needs positive costs"
        raise UsageError(msg)
    right, top = np.log(reference[0]), np.log(reference[1])
    inside = (np.log(x) < right) & (np.log(y) < top)
    a, b = np.log(x[inside]), np.log(y[inside])
    kept = frontier_of(a, b)
    if kept.size == 0:
        return 0.0
    a, b = a[kept], b[kept]
    widths = np.diff(np.concatenate([a, [right]]))
    return float(np.sum(widths * (top - b)))
