"""What other levers would do to a configuration: predicted changes, never part of the choice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from joulemap.diagnose.alternatives import numbered, predicted_changes
from joulemap.diagnose.diagnosis import Change
from joulemap.optimize.levers.registry import RegisteredLever, registered_levers
from joulemap.optimize.modelled import Corrected
from joulemap.optimize.scope import SYSTEM_COLUMNS, WORK_COLUMNS

_SHOWN = ("kv_cache_precision", "gpu_memory_utilization", "power_limit_w", *WORK_COLUMNS[5:], "tensor_parallel")
_COLUMNS = ("base_model", *WORK_COLUMNS, *SYSTEM_COLUMNS, "max_num_seqs", "batch_ceiling", "batch_size")
WORTH = 0.99
"""Energy ratio above which a change is not worth telling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One option of a lever that was not part of the choice."""

    lever: str
    option: str
    """The setting to change, for example ``kv_cache_precision=fp8``."""
    change: Change
    costs: str
    evidence: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "lever": self.lever,
            "option": self.option,
            "change": self.change.to_json(),
            "costs": self.costs,
            "evidence": self.evidence,
        }


def advice_on(row: pl.DataFrame, model: Corrected, searched: Collection[str]) -> tuple[Advice, ...]:
    """Return what the levers that were not searched would do to one candidate, largest saving first.

    Args:
        row: The candidate, a table of one row.
        model: The calibrated model.
        searched: Levers whose options were candidates already.
    """
    if not model.known(row, []).height:
        return ()
    base = row.select(_COLUMNS)
    found = [
        advice
        for lever in registered_levers().values()
        if lever.NAME not in searched and lever.applies(base.row(0, named=True))
        for advice in _of(lever, base, model)
    ]
    saving = [a for a in found if a.change.energy_ratio is not None and a.change.energy_ratio < WORTH]
    return tuple(sorted(saving, key=lambda a: a.change.energy_ratio or 1.0))


def _of(lever: RegisteredLever, base: pl.DataFrame, model: Corrected) -> Iterator[Advice]:
    options = lever.options(numbered(base))
    if lever.change is not None:
        changes: list[Change | None] = lever.change(options)
    else:
        tables = {str(i): options[i : i + 1] for i in range(options.height)}
        (told,) = predicted_changes(
            numbered(base), tables, calibration=model.calibration, catalog=model.catalog, models=model.models
        )
        changes = [told.get(str(i)) for i in range(options.height)]
    own = base.row(0, named=True)
    for option, change in zip(options.iter_rows(named=True), changes, strict=True):
        if change is not None:
            yield Advice(
                lever=lever.NAME,
                option=_setting(own, option) or "twice as fast",
                change=change,
                costs=lever.COSTS,
                evidence=lever.EVIDENCE,
            )


def _setting(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    names = [n for n in (*_SHOWN, "max_num_seqs") if before[n] != after[n]]
    return " ".join(f"{n}={after[n]:g}" if isinstance(after[n], float) else f"{n}={after[n]}" for n in names)
