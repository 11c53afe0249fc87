r"""Which configuration of a grid to measure next, so that the time–energy frontiers are known soonest.

The grid falls into frontiers, one a model (all its precisions) and task. What is believed of the logarithms of
energy per output and of time (median inter-token latency; for diffusion a batch's latency) is a normal
distribution: the calibrated model's prediction, with the deviations of its 90 % intervals (so that kinds of runs
that it predicts less well are looked at more), corrected by what the search has measured as
:mod:`joulemap.predict.few_shot` describes. Where the measurements deviate more than the calibration foresees, the
deviations are widened by the ratio, ``max(1, (ν + rᵀC⁻¹r) / (ν + n))``, as in the posterior of a
scale with ν prior observations.

The regret of a set of measured configurations at a latency limit is the energy of the best of them that keeps the
limit over that of the best of the whole grid, less 1. It is taken at the latency of every point of the frontier
and averaged; where nothing measured keeps the limit, the grid's dearest configuration counts. What measuring a
configuration is worth is the expected fall of that mean, over draws from the belief (a knowledge gradient for
frontiers). A frontier is done when its expected regret is below the goal.

References: Frazier et al. 2009, The Knowledge-Gradient Policy for Correlated Normal Beliefs; Emmerich et al. 2011,
Hypervolume-based expected improvement (the same gain, with latency limits weighted by their distance).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.diagnose.series import base_model
from joulemap.errors import UsageError
from joulemap.optimize.quantities import Z90
from joulemap.physics.arrays import Floats
from joulemap.predict.calibration import ENERGY, Calibration
from joulemap.predict.few_shot import Kernel, covariance, kinship
from joulemap.predict.forms import FormName, Models, form_of
from joulemap.predict.frames import Index, coded
from joulemap.predict.intervals import factors_of, kinds
from joulemap.predict.predict import predict_many, shipped_calibration

TIME: Mapping[FormName, str] = {"language": "itl_median_s", "diffusion": "latency_median_s"}
_TIME_KERNEL: Mapping[FormName, str] = {"language": "itl_median_s", "diffusion": "output_throughput_per_s"}
"""A diffusion batch's latency is the batch over its throughput, and errs as that does."""
DRAWS = 256
SEED = 20260123
PRIOR_OBSERVATIONS = 4.0
FILLED = 0.8
"""Share of the ceiling that the achieved batch falls below where a curve has saturated."""
JITTER = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """When a search has seen enough."""

    regret_fraction: float = 0.013
    budget_fraction: float = 1.0
    """Share of the grid that may be measured at most."""
    saturation_fraction: float = 0.02
    """Gain of throughput from one batch to the next below which larger ones are left out."""


class FrontierSearch:
    """A search over a grid of configurations.

    Args:
        ids: The configurations' names.
        grid: One row each, with ``model_id``, ``gpu_model``, ``num_gpus``, ``task`` and ``batch_ceiling``; further
            columns of the run table as far as known.
        goal: When it has seen enough.
        calibration: The calibrated model; the shipped one if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id that the catalog lacks.
    """

    def __init__(
        self,
        ids: Sequence[str],
        grid: pl.DataFrame,
        *,
        goal: Goal | None = None,
        calibration: Calibration | None = None,
        catalog: Catalog | None = None,
        models: Models | None = None,
    ) -> None:
        self._goal = goal or Goal()
        self._at = {name: position for position, name in enumerate(ids)}
        self._ids = list(ids)
        self._why: dict[int, str] = {}
        self._fields: dict[int, _Field] = {}
        self._unknown: dict[int, str] = {}
        """Configurations that the model cannot describe, which are measured whatever they are worth."""
        self._asked = 0
        facts = catalog or load_catalog()
        fitted = calibration or shipped_calibration()
        known = {**facts.models, **(models or {})}
        table = grid.with_row_index("position").with_columns(
            pl.col("batch_ceiling").cast(pl.Float64).alias("batch_size"),
            pl.Series("base_model", [base_model(i) for i in grid["model_id"]]),
            pl.Series("backbone", [known[i].backbone if i in known else i for i in grid["model_id"]]),
        )
        # What is measured of a backbone corrects all models that are made of it.
        for group in table.partition_by("backbone", maintain_order=True):
            try:
                field = _Field(group, fitted, facts, models)
            except UsageError as error:
                self._unknown |= dict.fromkeys(group["position"], f"cannot be predicted: {error.message}")
                continue
            self._fields |= dict.fromkeys(group["position"], field)

    def next(self, ready: Sequence[str], running: Collection[str]) -> str | None:
        """Return the configuration most worth measuring, ``None`` if none is worth it.

        Args:
            ready: Configurations that could be measured now.
            running: Configurations that are being measured.
        """
        candidates = {self._at[name] for name in ready} - set(self._why)
        unknown = sorted(candidates & set(self._unknown))
        if unknown:
            return self._ids[unknown[0]]
        if self._asked + len(running) >= self._goal.budget_fraction * len(self._ids):
            return None
        begun = {self._at[name] for name in running}
        best, most = None, 0.0
        for field in dict.fromkeys(self._fields[p] for p in sorted(candidates)):
            position, worth = field.best(candidates, begun, self._goal.regret_fraction)
            if position is not None and worth > most:
                best, most = position, worth
        return None if best is None else self._ids[best]

    def measured(self, name: str, row: Mapping[str, Any]) -> None:
        """Take note of what was measured; ``row`` has columns of the run table."""
        self._asked += 1
        position = self._at[name]
        field = self._fields.get(position)
        if field is None:
            return
        field.measured(position, row)
        for other, why in field.saturated(position, row, self._goal.saturation_fraction).items():
            self._leave_out(other, why)

    def failed(self, name: str, *, fits: bool) -> None:
        """Take note that a configuration gave no run; where it did not fit, larger batches do not either."""
        self._asked += 1
        position = self._at[name]
        self._leave_out(position, "gave no run")
        field = self._fields.get(position)
        if field is not None and not fits:
            for other in field.larger(position):
                self._leave_out(other, f"a smaller batch ({field.batch(position):g}) did not fit into memory")

    def _leave_out(self, position: int, why: str) -> None:
        self._why.setdefault(position, why)
        if position in self._fields:
            self._fields[position].leave_out(position)

    def left_out(self) -> Mapping[str, str]:
        """Return why configurations that were not measured are not worth it."""
        goal = self._goal
        spent = self._asked >= goal.budget_fraction * len(self._ids)
        enough = f"the expected regret of its frontier is below {goal.regret_fraction:.2%}"
        usual = f"the budget of {goal.budget_fraction:.0%} of the grid is spent" if spent else enough
        return {name: self._why.get(position, usual) for name, position in self._at.items()}

    def expected_regret(self) -> dict[tuple[str, str], float]:
        """Return the expected regret of each frontier, by base model and task."""
        found: dict[tuple[str, str], float] = {}
        for field in dict.fromkeys(self._fields.values()):
            found |= field.expected_regret()
        return found


class _Field:
    """The configurations of one backbone: their frontiers, and one joint belief."""

    def __init__(
        self, rows: pl.DataFrame, calibration: Calibration, catalog: Catalog, models: Models | None
    ) -> None:
        said = predict_many(rows, calibration, catalog=catalog, models=models)
        known = {**catalog.models, **(models or {})}
        architectures = {i: known.get(i) or catalog.model(i) for i in rows["model_id"].unique()}
        form = form_of(next(iter(architectures.values())))
        (kin,) = kinship([rows], {i: a.backbone for i, a in architectures.items()})
        fitted, levels = calibration.forms[form], kinds(rows)
        random = np.random.default_rng(SEED)
        count = rows.height
        self._positions = rows["position"].to_list()
        self._row_of = {position: i for i, position in enumerate(self._positions)}
        self._batches = rows["batch_ceiling"].to_numpy().astype(float)
        self._series = kin.series
        # Weights of other precisions are other models, so that a series has one precision; not so a user's own.
        if "weight_precision" in rows.columns:
            _, precision = coded(rows["weight_precision"].fill_null(""))
            self._series = kin.series * (rows.height + 1) + precision
        self._open = np.ones(count, dtype=bool)
        self._rates = np.full(count, np.nan)
        self._time = TIME[form]
        self._quantities = tuple(
            _Quantity(
                np.log(said[name].to_numpy()),
                fitted.kernels[kernel],
                covariance(fitted.kernels[kernel], kin, kin),
                factors_of(levels, fitted.factors[kernel]) / Z90,
                random.standard_normal((DRAWS, count)),
            )
            for name, kernel in ((ENERGY, ENERGY), (self._time, _TIME_KERNEL[form]))
        )
        names = list(zip(rows["base_model"], rows["task"].fill_null(""), strict=True))
        self._frontiers = {key: np.flatnonzero([name == key for name in names]) for key in dict.fromkeys(names)}
        self._draws: tuple[Floats, Floats] | None = None
        self._answers: dict[bytes, tuple[float, Floats]] = {}

    def batch(self, position: int) -> float:
        """Return the batch of a configuration."""
        return float(self._batches[self._row_of[position]])

    def measured(self, position: int, row: Mapping[str, Any]) -> None:
        """Take note of a measurement; one without energy or time leaves the configuration out."""
        i = self._row_of[position]
        energy, duration = row[ENERGY], row[self._time]
        if not energy or not duration:
            self.leave_out(position)
            return
        for quantity, value in zip(self._quantities, (energy, duration), strict=True):
            quantity.known[i] = np.log(value)
        self._rates[i] = row["output_throughput_per_s"] or np.nan
        self._draws = None

    def leave_out(self, position: int) -> None:
        """Take a configuration out of the grid."""
        self._open[self._row_of[position]] = False

    def larger(self, position: int) -> list[int]:
        """Return the configurations of the same series with larger batches, that were not measured."""
        i = self._row_of[position]
        later = (self._series == self._series[i]) & (self._batches > self._batches[i])
        return [
            self._positions[j] for j in np.flatnonzero(later & self._open & np.isnan(self._quantities[0].known))
        ]

    def saturated(self, position: int, row: Mapping[str, Any], least: float) -> dict[int, str]:
        """Return the larger batches that bring nothing after a measurement, and why."""
        i = self._row_of[position]
        achieved = row["batch_size"]
        if achieved and achieved < FILLED * self._batches[i]:
            why = f"{achieved:.0f} requests ran together at a ceiling of {self._batches[i]:g}"
            return dict.fromkeys(self.larger(position), f"larger batches do not fill: {why}")
        before = (self._series == self._series[i]) & (self._batches < self._batches[i]) & ~np.isnan(self._rates)
        if not before.any():
            return {}
        j = int(np.flatnonzero(before)[np.argmax(self._batches[before])])
        gain = self._rates[i] / self._rates[j] - 1.0
        if gain >= least:
            return {}
        why = f"throughput saturates: {gain:+.1%} from batch {self._batches[j]:g} to {self._batches[i]:g}"
        return dict.fromkeys(self.larger(position), why)

    def best(self, candidates: Collection[int], begun: Collection[int], goal: float) -> tuple[int | None, float]:
        """Return the candidate most worth measuring, and what it is worth; none if every frontier is done."""
        allowed = np.array([p in candidates for p in self._positions]) & self._open
        pending = np.array([p in begun for p in self._positions])
        best, most = None, 0.0
        for members in self._frontiers.values():
            own = members[self._open[members]]
            if not allowed[own].any():
                continue
            rest, worth = self._regret_and_worth(own, pending)
            if rest <= goal:
                continue
            worth = np.where(allowed[own], worth, -1.0)
            at = int(np.argmax(worth))
            if worth[at] > most:
                best, most = self._positions[own[at]], float(worth[at])
        return best, most

    def expected_regret(self) -> dict[tuple[str, str], float]:
        """Return the expected regret of each frontier."""
        none = np.zeros(len(self._positions), dtype=bool)
        return {
            key: self._regret_and_worth(own, none)[0]
            for key, members in self._frontiers.items()
            if (own := members[self._open[members]]).size
        }

    def _regret_and_worth(
        self, own: Index, pending: np.ndarray[tuple[int], np.dtype[np.bool_]]
    ) -> tuple[float, Floats]:
        if self._draws is None:
            energy, time = (quantity.draws() for quantity in self._quantities)
            self._draws = energy, time
            self._answers.clear()
        energy, time = self._draws
        # What is being measured counts as if it were: its value will be known.
        known = ~np.isnan(self._quantities[0].known[own]) | pending[own]
        # A sweep asks twice a second, and most frontiers are as they were.
        asked = own.tobytes() + known.tobytes()
        if asked not in self._answers:
            self._answers[asked] = regret_and_worth(energy[:, own], time[:, own], known)
        return self._answers[asked]


class _Quantity:
    """What is believed of the logarithm of one quantity over a field."""

    def __init__(self, predicted: Floats, kernel: Kernel, shared: Floats, wide: Floats, normal: Floats) -> None:
        self._predicted = predicted
        whole = shared + np.eye(len(predicted)) * kernel.deviations["noise"] ** 2
        self._covariance = wide[:, None] * whole * wide[None, :]
        self._normal = normal
        self.known = np.full(len(predicted), np.nan)
        """Measured logarithms; not a number where nothing is."""

    def draws(self) -> Floats:
        """Return draws of all configurations, shape (DRAWS, configurations); the measured ones as they are."""
        have, lack = np.flatnonzero(~np.isnan(self.known)), np.flatnonzero(np.isnan(self.known))
        made = np.broadcast_to(self.known, (DRAWS, len(self.known))).copy()
        if lack.size == 0:
            return made
        mean, spread = self._predicted[lack], self._covariance[np.ix_(lack, lack)]
        if have.size:
            own = self._covariance[np.ix_(have, have)] + np.eye(have.size) * JITTER
            across = self._covariance[np.ix_(have, lack)]
            residual = self.known[have] - self._predicted[have]
            solved = np.linalg.solve(own, np.column_stack([across, residual]))
            mean = mean + across.T @ solved[:, -1]
            surprise = (PRIOR_OBSERVATIONS + residual @ solved[:, -1]) / (PRIOR_OBSERVATIONS + have.size)
            spread = (spread - across.T @ solved[:, :-1]) * max(1.0, float(surprise))
        root = np.linalg.cholesky(spread + np.eye(lack.size) * JITTER)
        made[:, lack] = mean + self._normal[:, lack] @ root.T
        return made


def regret_and_worth(
    energy: Floats, time: Floats, known: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[float, Floats]:
    """Return the expected regret of the known configurations, and its expected fall by measuring each.

    Args:
        energy: Draws of the logarithm of energy, shape (draws, configurations).
        time: Draws of the logarithm of time, likewise.
        known: Which configurations are measured.

    Returns:
        Regret and its falls, in logarithms of energy.
    """
    draw = np.arange(len(energy))[:, None]
    order = np.argsort(time, axis=1, kind="stable")
    e = energy[draw, order]
    best = np.minimum.accumulate(e, axis=1)
    on_frontier = np.concatenate([np.ones((len(e), 1), dtype=bool), e[:, 1:] < best[:, :-1]], axis=1)
    weight = on_frontier / on_frontier.sum(axis=1, keepdims=True)
    dearest = e.max(axis=1, keepdims=True)
    had = np.minimum(np.minimum.accumulate(np.where(known[order], e, np.inf), axis=1), dearest)
    regret = float(((had - best) * weight).sum(axis=1).mean())
    # A configuration at place p helps at every limit from its own time on.
    count = e.shape[1]
    helped = np.maximum(had[:, None, :] - e[:, :, None], 0.0) * weight[:, None, :] * np.tri(count).T
    falls = np.empty_like(e)
    falls[draw, order] = helped.sum(axis=2)
    return regret, np.asarray(falls.mean(axis=0))


def true_regret(energy: Floats, time: Floats, known: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
    """Return the regret of the known configurations at each point of the true frontier, fastest first.

    Args:
        energy: Measured energy per output of every configuration, shape (configurations,).
        time: Measured time, likewise.
        known: Which of them count as known.
    """
    order = np.lexsort((energy, time))
    e = energy[order]
    best = np.minimum.accumulate(e)
    on_frontier = np.concatenate([[True], e[1:] < best[:-1]])
    had = np.minimum(np.minimum.accumulate(np.where(known[order], e, np.inf)), e.max())
    return np.asarray(had[on_frontier] / best[on_frontier] - 1.0)
