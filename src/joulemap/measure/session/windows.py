"""Windows of steady work, and what they tell together: power, throughput and energy per output with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from joulemap.measure.session.steady import autocorrelation

CONFIDENCE = 0.90
"""Coverage of every interval that joulemap states."""
FEWEST_WINDOWS = 3
"""Windows without which no spread can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One complete window: what it cost, and what came out."""

    begin_s: float
    """Monotonic time."""
    end_s: float
    begin_unix_s: float
    """Wall-clock time of the begin, as seconds since 1970, for alignment with other logs."""
    energy_j: float
    """Energy of the devices that do the work: the GPUs or, without any, the CPUs."""
    outputs: float
    """Tokens, images or videos that came out."""
    completed_requests: float
    in_flight: float
    """Requests under way, averaged over the window."""

    @property
    def duration_s(self) -> float:
        """Length of the window."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio of two sums over windows, with its 90 % interval."""

    value: float
    half_width: float | None
    """Half the interval; ``None`` for fewer than three windows."""

    @property
    def half_width_fraction(self) -> float | None:
        """The half-width as a share of the value."""
        return None if self.half_width is None or self.value == 0 else self.half_width / self.value


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    r"""Return Σ numerators ÷ Σ denominators with the interval of the ratio estimator.

    With windows as batches, :math:`s^2 = \sum (y_i - R x_i)^2 / (n - 1)` and
    :math:`h = t_{0.95, n-1} \, s / (\sqrt{n} \, \bar x)`. Where neighbouring windows correlate, the interval is
    widened by :math:`\sqrt{(1 + \rho) / (1 - \rho)}`.

    Source: A. M. Law, "Simulation Modeling and Analysis", 5th ed., ch. 9 (batch means, ratio estimator).

    >>> ratio([10.0, 10.0, 10.0], [2.0, 2.0, 2.0])
    Ratio(value=5.0, half_width=0.0)
    """
    y: NDArray[np.float64] = np.asarray(numerators, dtype=np.float64)
    x: NDArray[np.float64] = np.asarray(denominators, dtype=np.float64)
    total = float(x.sum())
    if total <= 0:
        msg = f"a ratio needs a positive denominator, not {total!r}"
        raise ValueError(msg)
    value = float(y.sum()) / total
    n = len(y)
    if n < FEWEST_WINDOWS:
        return Ratio(value=value, half_width=None)
    residuals = y - value * x
    error = math.sqrt(float(residuals @ residuals) / (n - 1) / n) / (total / n)
    # A few windows cannot tell correlation from chance.
    rho = max(0.0, min(0.9, autocorrelation(residuals))) if n >= 10 else 0.0
    widened = math.sqrt((1 + rho) / (1 - rho))
    from scipy.special import stdtrit

    t = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2))
    return Ratio(value=value, half_width=t * error * widened)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a number of windows tell together."""

    windows: int
    energy_per_output_j: Ratio | None
    """``None`` as long as nothing came out."""
    power_w: Ratio
    output_throughput_per_s: Ratio

    @property
    def half_width_fraction(self) -> float | None:
        """The widest of the relative half-widths; ``None`` while there are too few windows."""
        ratios = (self.energy_per_output_j, self.power_w, self.output_throughput_per_s)
        widths = [None if r is None else r.half_width_fraction for r in ratios]
        return None if None in widths else max(w for w in widths if w is not None)


def estimate(windows: Sequence[Window]) -> Estimate | None:
    """Return what the windows tell; ``None`` for none."""
    if not windows:
        return None
    energy = [w.energy_j for w in windows]
    outputs = [w.outputs for w in windows]
    durations = [w.duration_s for w in windows]
    return Estimate(
        windows=len(windows),
        energy_per_output_j=ratio(energy, outputs) if sum(outputs) > 0 else None,
        power_w=ratio(energy, durations),
        output_throughput_per_s=ratio(outputs, durations),
    )
