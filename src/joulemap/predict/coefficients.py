"""Coefficients that calibration fits: their prior, their meaning, and their values for each GPU model.

A coefficient is fitted in the logarithm. One that differs between GPU models is a shared value times a factor
for each GPU model; the factors have a prior around 1, so that a GPU that was never measured takes the shared
value (or that of its generation, see :meth:`CoefficientSet.column_of`) and loses little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from joulemap.catalog import GpuModel
from joulemap.physics.arrays import Floats

GPU_SPREAD = 0.25
"""Prior standard deviation of the logarithm of a GPU model's factor, where nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """One fitted number and what was known of it beforehand."""

    name: str
    prior: float
    """Median of the log-normal prior."""
    spread: float
    """Standard deviation of the prior's logarithm."""
    by_gpu: bool
    """Whether each GPU model has a factor of its own."""
    gpu_spread: float
    meaning: str


def shared(name: str, prior: float, spread: float, meaning: str) -> Coefficient:
    """Return a coefficient that is one for all GPU models."""
    return Coefficient(name=name, prior=prior, spread=spread, by_gpu=False, gpu_spread=0.0, meaning=meaning)


def by_gpu(name: str, prior: float, spread: float, meaning: str, gpu_spread: float = GPU_SPREAD) -> Coefficient:
    """Return a coefficient with a factor for each GPU model."""
    return Coefficient(name=name, prior=prior, spread=spread, by_gpu=True, gpu_spread=gpu_spread, meaning=meaning)


@dataclass(frozen=True, slots=True)
class CoefficientSet:
    """Coefficients of one model form, laid out as one vector: shared values, then factors for each GPU model."""

    coefficients: tuple[Coefficient, ...]
    gpus: tuple[str, ...]
    """GPU models that have factors, in the order of the layout."""

    @property
    def prior_mean(self) -> Floats:
        """The vector's prior mean (logarithms)."""
        base = [np.log(c.prior) for c in self.coefficients]
        return np.array(base + [0.0] * (self._factors * len(self.gpus)))

    @property
    def prior_spread(self) -> Floats:
        """The vector's prior standard deviations."""
        factors = [c.gpu_spread for c in self.coefficients if c.by_gpu]
        return np.array([c.spread for c in self.coefficients] + factors * len(self.gpus))

    @property
    def _factors(self) -> int:
        return sum(c.by_gpu for c in self.coefficients)

    def names(self) -> list[str]:
        """Return the name of each entry of the vector, such as ``bandwidth`` or ``bandwidth@H100``."""
        own = [c.name for c in self.coefficients if c.by_gpu]
        return [c.name for c in self.coefficients] + [f"{name}@{gpu}" for gpu in self.gpus for name in own]

    def table(self, vector: Floats) -> Floats:
        """Return values of shape (coefficients, GPU models + 1); the last column is for GPUs without factors."""
        count, factors = len(self.coefficients), self._factors
        own = np.flatnonzero([c.by_gpu for c in self.coefficients])
        logs = np.repeat(vector[:count, None], len(self.gpus) + 1, axis=1)
        for column in range(len(self.gpus)):
            start = count + column * factors
            logs[own, column] += vector[start : start + factors]
        return np.exp(logs)

    def values(self, vector: Floats, columns: np.ndarray[tuple[int], np.dtype[np.intp]]) -> dict[str, Floats]:
        """Return each coefficient by name, as an array over rows.

        Args:
            vector: The fitted vector.
            columns: For each row, its column of :meth:`table`.
        """
        table = self.table(vector)
        constant = len(set(columns.tolist())) == 1 if columns.size < _FEW else False
        if constant:
            return {c.name: table[i, columns[:1]] for i, c in enumerate(self.coefficients)}
        return {c.name: table[i, columns] if c.by_gpu else table[i, :1] for i, c in enumerate(self.coefficients)}

    def column_of(self, gpu: GpuModel, known: Mapping[str, GpuModel]) -> int:
        """Return the column for a GPU: its own, else that of its generation or maker, else the shared values."""
        if gpu.id in self.gpus:
            return self.gpus.index(gpu.id)
        kin = [g for g in self.gpus if g in known and known[g].generation == gpu.generation]
        kin = kin or [g for g in self.gpus if g in known and known[g].vendor == gpu.vendor]
        if not kin:
            return len(self.gpus)
        nearest = min(kin, key=lambda g: (abs(known[g].release_year - gpu.release_year), g))
        return self.gpus.index(nearest)


_FEW = 64


def coefficient_set(coefficients: Sequence[Coefficient], gpus: Sequence[str]) -> CoefficientSet:
    """Return the layout of the given coefficients for the given GPU models."""
    return CoefficientSet(tuple(coefficients), tuple(gpus))
