"""Everything that a report on many runs rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Diagnosis
from joulemap.diagnose.series import Curves
from joulemap.errors import UsageError
from joulemap.report.payloads.curves import Curve, curves_of, shared_words
from joulemap.report.payloads.run import Compared, compared_of
from joulemap.store.run_store import RunStore
from joulemap.store.schema import COLUMNS

MOST_RUNS = 200
"""Runs of one report; more cannot be looked at."""
MOST_CURVES = 8
"""Curves of one chart; more cannot be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPayload:
    """Runs, the batch curves that they form, and what bound each."""

    shared: str
    """What all runs have in common, in words."""
    curves: tuple[Curve, ...]
    diagnoses: Mapping[str, Diagnosis]
    """By run id; a run without energy per output has none."""
    compared: Mapping[str, tuple[Compared, ...]]
    """What was measured and predicted, by run id."""

    @property
    def rows(self) -> list[tuple[Curve, Mapping[str, Any]]]:
        """Return every run with its curve."""
        return [(curve, row) for curve in self.curves for row in curve.rows]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "shared": self.shared,
            "curves": [curve.to_json() for curve in self.curves],
            "diagnoses": {run_id: d.to_json() for run_id, d in self.diagnoses.items()},
            "measured_and_predicted": {
                run_id: [c.to_json() for c in compared] for run_id, compared in self.compared.items()
            },
        }


def sweep_payload(frame: pl.DataFrame, *, store: RunStore) -> SweepPayload:
    """Compute what a report on several runs rests on.

    Args:
        frame: The runs, rows of the run table.
        store: The run store, whose other runs are the neighbours in diagnoses.

    Raises:
        UsageError: There are too many runs, or too many kinds of them, for one report.
    """
    own = frame.filter(pl.col("batch_size").is_not_null()).select(COLUMNS.keys())
    series = Curves(own.with_columns(valid=pl.lit(value=True))).series
    if own.is_empty():
        msg = f"none of the {frame.height} runs states the batch that it achieved"
        raise UsageError(msg, fix="report on one run: joulemap report RUN")
    if own.height > MOST_RUNS or len(series) > MOST_CURVES:
        msg = f"{own.height} runs that form {len(series)} batch curves are too many for one report"
        raise UsageError(msg, fix="narrow the selector, for example by task=…, gpu=…, gpus=…, precision=…")
    kept = [row["run_id"] for one in series for row in one.rows]
    shown = own.filter(pl.col("run_id").is_in(kept))
    with_energy = shown.filter(pl.col("energy_per_output_j") > 0)
    found = diagnose_frame(with_energy, curves=Curves(store.frame))
    return SweepPayload(
        shared=shared_words(series),
        curves=curves_of(_by_name(series)),
        diagnoses={str(d.run_id): d for d in found},
        compared=compared_of(shown)[0],
    )


def _by_name(series: Sequence[Any]) -> list[Any]:
    return sorted(series, key=lambda s: [str(value) for value in s.knobs.values()])
