"""Which measurement would most reduce the uncertainty of the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.errors import InfeasibleError, UsageError
from joulemap.optimize.belief import Belief, belief_of
from joulemap.optimize.candidates import Candidates, candidates
from joulemap.optimize.command import measure_command
from joulemap.optimize.constraints import Check, Constraints, checks_of, feasible, within_stock
from joulemap.optimize.scope import Scope
from joulemap.optimize.tradeoff import candidate_json
from joulemap.physics.arrays import Floats
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import Models
from joulemap.store.run_store import RunStore, open_store

POSSIBLE = 0.1
"""A candidate that may break a limit is worth a look if it keeps all of them at least this likely."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement:
    """A measurement that could be made, and what it is worth."""

    row: Mapping[str, Any]
    """The candidate to measure."""
    worth_fraction: float
    """Expected relative saving of energy by choosing after the measurement rather than before."""
    change_probability: float
    """Probability that the choice changes."""
    keeps_probability: float
    """Probability that the candidate keeps every limit, as far as is known now."""
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "candidate": candidate_json(self.row),
            "worth_fraction": self.worth_fraction,
            "change_probability": self.change_probability,
            "keeps_probability": self.keeps_probability,
            "command": self.command,
        }


def next_measurements(
    scope: Scope,
    constraints: Constraints | None = None,
    *,
    count: int = 10,
    store: RunStore | None = None,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> tuple[Measurement, ...]:
    """Return the measurements most worth making before a configuration is chosen.

    Args:
        scope: Model, task and what may be chosen.
        constraints: Limits; none if ``None``.
        count: How many.
        store: The run store; the default one if ``None``.
        calibration: The calibrated model; the shipped one if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id that the catalog lacks.

    Raises:
        InfeasibleError: No candidate is likely enough to keep every limit.
        UnknownNameError: A model, task, GPU or precision is unknown.
        UsageError: The count is not positive.
    """
    if count < 1:
        msg = f"a count of {count} lists nothing"
        raise UsageError(msg, fix="give a count of 1 or more")
    runs = store if store is not None else open_store()
    facts = catalog or load_catalog()
    wanted, limits = within_stock(scope, constraints or Constraints(), runs.frame, facts)
    found = candidates(runs.frame, wanted, calibration=calibration, catalog=facts, models=models)
    ranked = ranked_measurements(found, found.table, checks_of(found.table, limits))
    if not ranked:
        msg = f"none of the {found.table.height} candidates is {POSSIBLE:.0%} likely to keep every limit"
        raise InfeasibleError(msg, fix="'joulemap recommend' with the same limits names the binding one")
    return ranked[:count]


def ranked_measurements(found: Candidates, table: pl.DataFrame, checks: Sequence[Check]) -> tuple[Measurement, ...]:
    """Return every candidate's measurement that may matter, the most worth first.

    Candidates that keep every limit are judged together by the knowledge gradient. One that may break a limit is
    judged with them as if it kept all, times the probability that it does: measuring it also tells that.

    Args:
        found: Where the candidates come from.
        table: The candidates.
        checks: Their checks.
    """
    kept = np.flatnonzero(feasible(list(checks)))
    likely: Floats = np.asarray(np.prod([c.probability for c in checks], axis=0))
    maybe = np.setdiff1d(np.flatnonzero(likely >= POSSIBLE), kept)
    which = np.concatenate([kept, maybe])
    if which.size == 0:
        return ()
    belief = belief_of(found, table[which.tolist()])
    worth, changes = _worth(belief, kept.size)
    chance = np.concatenate([np.ones(kept.size), likely[maybe]])
    worth, changes = worth * chance, changes * chance
    # Of equal worth, what is least known comes first: it is what might surprise.
    order = np.lexsort((-np.diag(belief.covariance), -changes.round(9), -worth.round(9)))
    return tuple(
        Measurement(
            row=row,
            worth_fraction=float(-np.expm1(-worth[i])),
            change_probability=float(changes[i]),
            keeps_probability=float(likely[which[i]]),
            command=measure_command(row, found.model.catalog),
        )
        for i in order
        for row in [table.row(int(which[i]), named=True)]
    )


def _worth(belief: Belief, kept: int) -> tuple[Floats, Floats]:
    """Return worth and probability of change: of the kept among themselves, of each other with the kept."""
    total = len(belief.mean)
    if kept == 0:
        # Nothing can be chosen yet: what is likely to keep the limits is judged as if it did.
        return belief.information()
    worth, changes = np.zeros(total), np.zeros(total)
    base = np.arange(kept)
    worth[:kept], changes[:kept] = belief.taken(base).information()
    for i in range(kept, total):
        (worth[i],), (changes[i],) = belief.taken(np.append(base, i)).information([kept])
    return worth, changes
