"""Robust regression of a model form's coefficients on logarithms of measured quantities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from joulemap.physics.arrays import Floats

NOISE = 0.08
"""Scale of residuals (logarithms) beyond which they count by their size rather than its square."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted vector and how well it is known."""

    vector: Floats
    covariance: Floats
    """Of the vector (logarithms), from the Jacobian at the solution and the priors."""
    cost: float
    evaluations: int


def fit_vector(
    residuals: Callable[[Floats], Floats],
    mean: Floats,
    spread: Floats,
    *,
    start: Floats | None = None,
    limit: int = 40,
    tolerance: float = 1e-8,
) -> Fit:
    """Fit a vector by soft-L1 least squares with normal priors.

    Args:
        residuals: Returns residuals in units of their noise, for a vector.
        mean: Prior mean.
        spread: Prior standard deviations.
        start: Where to begin; the prior mean if ``None``.
        limit: Most evaluations of the Jacobian.
        tolerance: Relative fall of the cost at which to stop.
    """
    from scipy.optimize import least_squares  # slow to import, and prediction has no use for it

    def objective(vector: Floats) -> Floats:
        plain = residuals(vector)
        # Soft L1 as in scipy, but for the data alone: priors stay quadratic.
        softened = np.sign(plain) * np.sqrt(2.0 * (np.sqrt(1.0 + plain**2) - 1.0))
        return np.concatenate([softened, (vector - mean) / spread])

    found = least_squares(
        objective, mean if start is None else start, x_scale=spread, max_nfev=limit, ftol=tolerance
    )
    jacobian: Floats = np.asarray(found.jac, dtype=np.float64)
    information = jacobian.T @ jacobian
    return Fit(
        vector=np.asarray(found.x),
        covariance=np.asarray(np.linalg.inv(information)),
        cost=float(found.cost),
        evaluations=int(found.nfev),
    )
