"""The frontier against brute force, the knee and the hypervolume against hand-worked values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.errors import UsageError
from joulemap.optimize.pareto import frontier_of, hypervolume, knee_of
from joulemap.physics.arrays import Floats

# Few distinct values, so that equal costs occur.
COSTS = st.lists(st.tuples(st.integers(1, 12).map(float), st.integers(1, 12).map(float)), min_size=1, max_size=40)


def arrays(points: list[tuple[float, float]]) -> tuple[Floats, Floats]:
    x, y = np.array(points, dtype=float).T
    return x, y


def beaten(points: list[tuple[float, float]], i: int) -> bool:
    a = points[i]
    return any(
        (b[0] <= a[0] and b[1] <= a[1] and b != a) or (b == a and j < i) for j, b in enumerate(points) if j != i
    )


@given(COSTS)
def test_the_frontier_is_what_brute_force_finds(points: list[tuple[float, float]]) -> None:
    found = frontier_of(*arrays(points))
    assert set(found.tolist()) == {i for i in range(len(points)) if not beaten(points, i)}
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


@given(COSTS)
def test_the_hypervolume_is_the_area_that_counting_cells_finds(points: list[tuple[float, float]]) -> None:
    # On a grid of whole logarithms the dominated area is the number of dominated unit cells.
    reference = (math.exp(13.0), math.exp(13.0))
    cells = sum(any(p[0] <= a and p[1] <= b for p in points) for a in range(1, 13) for b in range(1, 13))
    x, y = arrays(points)
    assert hypervolume(np.exp(x), np.exp(y), reference) == pytest.approx(cells)


def test_hypervolume_by_hand() -> None:
    x, y = np.array([1.0, math.e]), np.array([math.e, 1.0])
    # Two rectangles of 2 × 1 and 1 × 2 share one of 1 × 1.
    assert hypervolume(x, y, (math.exp(2.0), math.exp(2.0))) == pytest.approx(3.0)
    assert hypervolume(x, y, (1.0, 1.0)) == 0.0
    assert hypervolume(x[:0], y[:0], (2.0, 2.0)) == 0.0


def test_a_hypervolume_needs_positive_costs() -> None:
    with pytest.raises(UsageError, match="positive"):
        hypervolume(np.array([0.0]), np.array([1.0]), (2.0, 2.0))


@given(COSTS, st.floats(0.01, 100.0))
def test_the_hypervolume_has_no_unit(points: list[tuple[float, float]], factor: float) -> None:
    x, y = arrays(points)
    before = hypervolume(x, y, (13.0, 13.0))
    assert hypervolume(x * factor, y, (13.0 * factor, 13.0)) == pytest.approx(before, abs=1e-9)


@given(COSTS, st.tuples(st.floats(1.0, 12.0), st.floats(1.0, 12.0)))
def test_another_point_never_lowers_the_hypervolume(
    points: list[tuple[float, float]], more: tuple[float, float]
) -> None:
    assert hypervolume(*arrays([*points, more]), (13.0, 13.0)) >= hypervolume(*arrays(points), (13.0, 13.0)) - 1e-12


def test_the_knee_by_hand() -> None:
    # In logarithms to base ten: (0, 2), (0.5, 0.5), (2, 0); the middle one is 0.5 below the chord.
    x, y = 10.0 ** np.array([0.0, 0.5, 2.0]), 10.0 ** np.array([2.0, 0.5, 0.0])
    assert knee_of(x, y) == 1
    assert knee_of(x * 7.0, y / 3.0) == 1


def test_no_knee_without_a_bend() -> None:
    straight = 10.0 ** np.array([0.0, 1.0, 2.0])
    assert knee_of(straight, straight[::-1]) is None
    assert knee_of(straight[:2], straight[:2][::-1]) is None
    bulging = 10.0 ** np.array([2.0, 1.8, 0.0])
    assert knee_of(straight, bulging) is None
