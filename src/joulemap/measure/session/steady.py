"""Where the steady state begins, and whether it lasts: pure functions on evenly binned series.

The transient's end is found by MSER-5 (K. P. White, "An effective truncation heuristic for bias reduction in
simulation output", Simulation 69(6), 1997), the trend on batch means large enough that neighbours no longer
correlate (A. M. Law, "Simulation Modeling and Analysis", 5th ed., ch. 9), so that a slow wobble does not pass
for a trend, nor a trend for noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

FULL_SHARE = 0.97
"""The batch counts as full when so much of the intended concurrency is in flight."""
SIGNIFICANCE = 0.01
"""Odds of calling a steady series drifting, for each test."""
TOLERATED_DRIFT = 0.05
"""A drift over the whole series smaller than this share of its mean is not worth refusing it."""
MSER_BATCH = 5
FEWEST_MSER_BATCHES = 4
FEWEST_BATCHES = 8
"""Batch means below which no larger batches are formed."""
INDEPENDENT = 0.2
"""Lag-1 autocorrelation under which batch means count as independent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A change in the course of a series."""

    drift_fraction: float
    """Change from the series' begin to its end, as a share of the mean."""
    p_value: float
    """Odds of a change this large in a series without any, autocorrelation respected."""
    batches: int
    """Batch means on which the test stands."""

    @property
    def drifting(self) -> bool:
        """Whether the trend is both real and large enough to matter."""
        return self.p_value < SIGNIFICANCE and abs(self.drift_fraction) > TOLERATED_DRIFT


def bin_edges(begin_s: float, width_s: float, count: int) -> Series:
    """Return the ``count + 1`` edges of bins of equal width."""
    return np.asarray(begin_s + width_s * np.arange(count + 1), dtype=np.float64)


def bin_rate(times_s: Series, cumulated: Series, edges_s: Series) -> Series:
    """Return the mean rate of a cumulated quantity in each bin; ``edges_s`` are the bins' n + 1 edges.

    >>> bin_rate(np.array([0.0, 2.0]), np.array([0.0, 10.0]), np.array([0.0, 1.0, 2.0]))
    array([5., 5.])
    """
    return np.diff(np.interp(edges_s, times_s, cumulated)) / np.diff(edges_s)


def bin_mean(times_s: Series, values: Series, edges_s: Series) -> Series:
    """Return the time average of a quantity sampled at ``times_s`` in each bin, by trapezoids.

    >>> bin_mean(np.array([0.0, 2.0]), np.array([0.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    array([0.5, 1.5])
    """
    steps = 0.5 * (values[1:] + values[:-1]) * np.diff(times_s)
    area = np.concatenate(([0.0], np.cumsum(steps)))
    # Inside a sample interval the area under a straight line is a parabola, which interpolating would miss.
    at = np.interp(edges_s, times_s, values)
    left = np.clip(np.searchsorted(times_s, edges_s, side="right") - 1, 0, len(times_s) - 1)
    under = area[left] + 0.5 * (values[left] + at) * np.clip(edges_s - times_s[left], 0.0, None)
    return np.diff(under) / np.diff(edges_s)


def batch_full_at(times_s: Series, in_flight: Series, target: float, *, hold: int = 3) -> float | None:
    """Return when the batch became full: the first of ``hold`` samples in a row at 97 % of the target or more.

    Args:
        times_s: Rising times.
        in_flight: Requests in flight at those times.
        target: Requests that are meant to be in flight.
        hold: Samples that must agree; one alone may be chance.
    """
    full = (in_flight >= FULL_SHARE * target - 1e-9).astype(np.int64)
    if len(full) < hold:
        return None
    runs = np.convolve(full, np.ones(hold, dtype=np.int64), mode="valid")
    found = np.flatnonzero(runs == hold)
    return float(times_s[found[0]]) if found.size else None


def transient_end(values: Series) -> int | None:
    """Return how many leading values belong to the transient, by MSER-5; ``None`` if it does not seem over.

    The truncation that minimises the squared standard error of the remaining mean is chosen; a minimum in the
    second half means that the series has not settled long enough to tell.
    """
    batches = len(values) // MSER_BATCH
    if batches < FEWEST_MSER_BATCHES:
        return None
    means = values[: batches * MSER_BATCH].reshape(batches, MSER_BATCH).mean(axis=1)
    # Sums over every suffix at once; the mean is taken off first, lest squares of large values cancel badly.
    centred = means - means.mean()
    count = np.arange(batches, 0, -1)
    total = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum((centred**2)[::-1])[::-1]
    spread = np.clip(squares - total**2 / count, 0.0, None)
    candidates = spread[: batches - 1] / count[: batches - 1] ** 2
    # Values that differ by rounding only are equal: the earliest of them is meant.
    best = float(np.min(candidates))
    cut = int(np.flatnonzero(candidates <= best + 1e-12 * float(np.max(means**2)))[0])
    return None if 2 * cut >= batches else cut * MSER_BATCH


def trend(values: Series) -> Trend:
    """Return how an evenly spaced series changes: along a line, or by a step in its middle, whichever fits better.

    Each is tested on batch means that no longer correlate; the p-value allows for there being two tests. Too short
    a series (fewer than four values) shows no trend: its p-value is 1.
    """
    level = float(np.mean(values)) if len(values) else 0.0
    found = [_fit(values, shape, level) for shape in (_line, _step)]
    best = min(found, key=lambda t: t.p_value)
    return replace(best, p_value=min(1.0, len(found) * best.p_value))


def _line(n: int) -> Series:
    """Return a centred line that rises by one from the series' begin to its end."""
    return (np.arange(n, dtype=np.float64) - (n - 1) / 2) / n


def _step(n: int) -> Series:
    """Return a centred step by one in the middle."""
    step = (np.arange(n) >= n / 2).astype(np.float64)
    return np.asarray(step - step.mean(), dtype=np.float64)


def _fit(values: Series, shape: Callable[[int], Series], level: float) -> Trend:
    """Fit a shape to batch means and test its height."""
    means = _independent_batches(values, shape)
    n = len(means)
    if n < 4 or level == 0.0:
        return Trend(drift_fraction=0.0, p_value=1.0, batches=n)
    x = shape(n)
    height = float(x @ means / (x @ x))
    residuals = means - means.mean() - height * x
    # What correlation the batches could not remove shrinks the number of values that count.
    rho = min(0.9, max(0.0, autocorrelation(residuals)))
    freedom = max(3.0, n * (1 - rho) / (1 + rho)) - 2
    error2 = float(residuals @ residuals) / freedom / float(x @ x)
    if error2 <= (1e-9 * level) ** 2:
        p_value = 1.0 if abs(height) < 1e-9 * abs(level) else 0.0
    else:
        from scipy.special import stdtr

        p_value = float(2.0 * stdtr(freedom, -abs(height) / math.sqrt(error2)))
    return Trend(drift_fraction=height / level, p_value=p_value, batches=n)


def autocorrelation(values: Series) -> float:
    """Return the lag-1 autocorrelation of a series about its mean; 0 for one that does not vary."""
    centred = values - values.mean()
    power = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / power if power > 0 else 0.0


def _independent_batches(values: Series, shape: Callable[[int], Series]) -> Series:
    """Return batch means whose residuals about a shape hardly correlate, or as few as the test can stand on."""
    size = 1
    while True:
        n = len(values) // size
        means = values[len(values) - n * size :].reshape(n, size).mean(axis=1) if n else values
        if n < 2 * FEWEST_BATCHES:
            return means
        x = shape(n)
        residuals = means - means.mean() - (x @ means / (x @ x)) * x
        if autocorrelation(residuals) < INDEPENDENT:
            return means
        size *= 2
