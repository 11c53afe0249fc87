r"""What is believed of the candidates' energies together: a normal distribution of their logarithms.

Means and intervals are those shown for the candidates. What their errors have in common comes from three sources:

- a measurement repeats on other nodes of a GPU model only to its repeatability; of that variance, all but the
  kernel's noise is taken to be the node's, shared by all candidates on the GPU model;
- the kernel's noise of each candidate, independent;
- what interpolation or the model adds to that, correlated as the few-shot posterior of the prediction is.

References: Rasmussen and Williams 2006, equation 2.26 (posterior covariance); Frazier et al. 2009, The
Knowledge-Gradient Policy for Correlated Normal Beliefs (what one observation is worth).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from joulemap.optimize.candidates import Candidates
from joulemap.optimize.modelled import Corrected
from joulemap.optimize.quantities import deviations_of, repeatability
from joulemap.physics.arrays import Floats
from joulemap.predict.calibration import ENERGY, usable_runs
from joulemap.predict.few_shot import Kernel, Kinship, covariance, kinship
from joulemap.predict.forms import form_of
from joulemap.predict.prepare import prepare

DRAWS = 4_096
SEED = 20260123
QUADRATURE = 48
"""Gauss–Hermite nodes for the expectation over one observation."""
OBSERVATION_DEVIATION = 0.014
"""Relative deviation of a repeated measurement on one machine: the study's B200 runs repeat to 1.4 %."""
DEFAULT_NOISE = 0.04
"""Independent part of a measurement's deviation where no calibrated form tells it."""


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """Joint belief on the logarithms of energy per output."""

    mean: Floats
    """Shape (candidates,)."""
    covariance: Floats
    """Shape (candidates, candidates)."""

    def expected(self) -> Floats:
        """Return each candidate's expected energy, whose logarithm is normal: ``exp(μ + σ²/2)``."""
        return np.asarray(np.exp(self.mean + np.diag(self.covariance) / 2.0))

    def taken(self, which: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Belief:
        """Return the belief on some of the candidates."""
        return Belief(self.mean[which], self.covariance[np.ix_(which, which)])

    def draws(self) -> Floats:
        """Return draws of the logarithms, shape (DRAWS, candidates); the same at every call."""
        random = np.random.default_rng(SEED)
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        return np.asarray(self.mean + random.standard_normal((DRAWS, len(self.mean))) @ root.T)

    def least_probability(self) -> Floats:
        """Return each candidate's probability of having the least energy."""
        return np.bincount(np.argmin(self.draws(), axis=1), minlength=len(self.mean)) / DRAWS

    def information(self, which: Iterable[int] | None = None) -> tuple[Floats, Floats]:
        """Return what measuring candidates is worth, and how likely it changes the choice.

        Measuring candidate j moves every mean by ``Σ_ij / √(Σ_jj + s²) · Z`` with Z standard normal. The worth is
        the knowledge gradient: the expected fall of the least mean of the logarithms, so about the expected
        relative saving of energy by choosing after the measurement rather than before.

        Args:
            which: Positions of the candidates to measure; all if ``None``.

        Returns:
            Worth (logarithm of energy) and probability, in the order of ``which``.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE)
        weights = weights / weights.sum()
        now = int(np.argmin(self.mean))
        worth, changes = [], []
        for j in range(len(self.mean)) if which is None else which:
            scale = np.sqrt(self.covariance[j, j] + OBSERVATION_DEVIATION**2)
            moved = self.mean[:, None] + (self.covariance[:, j] / scale)[:, None] * nodes
            worth.append(max(self.mean[now] - float(moved.min(axis=0) @ weights), 0.0))
            changes.append(float((np.argmin(moved, axis=0) != now) @ weights))
        return np.array(worth), np.array(changes)


def belief_of(found: Candidates, table: pl.DataFrame) -> Belief:
    """Return the joint belief on the energies of candidates.

    Args:
        found: Where they come from.
        table: Some or all of its candidates.
    """
    own = deviations_of(table, ENERGY)
    kernel, correlation = _posterior(found.model, table)
    noise = DEFAULT_NOISE if kernel is None else kernel.deviations["noise"]
    repeat = repeatability(found.curves, ENERGY)
    noise = min(noise, repeat)
    node = np.sqrt(repeat**2 - noise**2)
    names = table["gpu_model"].fill_null("").to_numpy()
    shared = (names[:, None] == names[None, :]) * node**2
    added = np.sqrt(np.maximum(own**2 - repeat**2, 0.0))
    total = shared + np.eye(table.height) * noise**2 + added[:, None] * correlation * added[None, :]
    return Belief(np.log(table[ENERGY].to_numpy()), np.asarray(total))


def _posterior(model: Corrected, table: pl.DataFrame) -> tuple[Kernel | None, Floats]:
    """Return the prediction's kernel of energy and the correlation of its posterior; none where it knows no row."""
    none = np.eye(table.height)
    if model.known(table.select("model_id", "weight_precision", "gpu_model", "num_gpus"), []).height < table.height:
        return None, none
    asked = prepare(table, model.catalog, model.models)
    form = form_of(next(iter(asked.models.values())))
    kernel = model.calibration.forms[form].kernels[ENERGY]
    runs = usable_runs(model.given, form, model.catalog, {**model.catalog.models, **asked.models})
    if runs.is_empty():
        (kin,) = kinship([asked.frame], asked.backbones)
        return kernel, _as_correlation(covariance(kernel, kin, kin))
    given = prepare(runs, model.catalog, asked.models)
    known, kin = kinship([given.frame, asked.frame], {**given.backbones, **asked.backbones})
    return kernel, _as_correlation(_conditioned(kernel, known, kin))


def _conditioned(kernel: Kernel, known: Kinship, asked: Kinship) -> Floats:
    """Return the covariance of the asked rows once the known are measured."""
    noisy = covariance(kernel, known, known)
    noisy = noisy + np.eye(len(noisy)) * kernel.deviations["noise"] ** 2
    across = covariance(kernel, known, asked)
    return np.asarray(covariance(kernel, asked, asked) - across.T @ np.linalg.solve(noisy, across))


def _as_correlation(matrix: Floats) -> Floats:
    deviations = np.sqrt(np.maximum(np.diag(matrix), 1e-12))
    scaled = matrix / deviations[:, None] / deviations[None, :]
    np.fill_diagonal(scaled, 1.0)
    return np.asarray(np.clip(scaled, -1.0, 1.0))
