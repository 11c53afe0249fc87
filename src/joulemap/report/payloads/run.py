"""Everything that a report on one run rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from joulemap.catalog import load_catalog
from joulemap.diagnose.completed import completed
from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Diagnosis
from joulemap.diagnose.explain import label
from joulemap.diagnose.series import Curves, with_series_columns
from joulemap.errors import UsageError
from joulemap.predict.predict import predict_many
from joulemap.records import Basis, Quantity, Run
from joulemap.records.run import unit_of
from joulemap.report.payloads.curves import Curve, curves_of
from joulemap.report.payloads.run_record import run_json
from joulemap.report.payloads.timeline import RunTimeline, run_timeline
from joulemap.store.run_store import RunStore
from joulemap.store.schema import COLUMNS, row_to_run
from joulemap.store.selector import find_run

COMPARED = (
    *("energy_per_output_j", "power_w", "output_throughput_per_s", "itl_median_s", "ttft_median_s"),
    *("latency_mean_s", "latency_median_s"),
)
"""Quantities that are shown both as measured and as predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One quantity as the run has it, and as the calibrated model predicts it."""

    name: str
    measured: Quantity
    predicted: Quantity

    @property
    def ratio(self) -> float:
        """The measured value over the predicted one."""
        return self.measured.value / self.predicted.value

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "measured": self.measured.to_json(),
            "predicted": self.predicted.to_json(),
            "ratio": self.ratio,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunPayload:
    """A run, where its joules went, the batch curve that it lies on, and what the model would have said."""

    run: Run
    label: str
    diagnosis: Diagnosis | None
    not_diagnosed: str
    """Why there is no diagnosis; empty where there is one."""
    curve: Curve | None
    """The runs that differ from it only in batch; ``None`` where it is alone."""
    timeline: RunTimeline | None
    """What was sampled while it ran; ``None`` where nothing was kept."""
    compared: tuple[Compared, ...]
    not_compared: str
    """Why nothing is predicted; empty where something is."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "run": run_json(self.run),
            "diagnosis": None if self.diagnosis is None else self.diagnosis.to_json(),
            "not_diagnosed": self.not_diagnosed or None,
            "batch_curve": None if self.curve is None else self.curve.to_json(),
            "timeline": None if self.timeline is None else self.timeline.to_json(),
            "measured_and_predicted": [c.to_json() for c in self.compared],
            "not_predicted": self.not_compared or None,
        }


def run_payload(run: str | Mapping[str, Any], *, store: RunStore, curves: Curves | None = None) -> RunPayload:
    """Compute what a report on a run rests on.

    Args:
        run: A run id, a selector, or a row of the run table.
        store: The run store.
        curves: The store's batch curves, where they are at hand.

    Raises:
        SelectorError: A selector matches no run, or several.
        UnknownNameError: There is no such run.
    """
    row = find_run(store, run) if isinstance(run, str) else run
    around = curves or Curves(store.frame)
    frame = pl.DataFrame([{name: row[name] for name in COLUMNS}], schema=COLUMNS, strict=False)
    diagnosis, why = None, ""
    if row["energy_per_output_j"]:
        diagnosis = diagnose_frame(frame, curves=around)[0]
    else:
        why = "the run has no energy per output to account for"
    compared, unpredicted = compared_of(frame)
    series = around.of(with_series_columns(frame).row(0, named=True))
    return RunPayload(
        run=row_to_run(row),
        label=label(row),
        diagnosis=diagnosis,
        not_diagnosed=why,
        curve=curves_of([series])[0] if series is not None and len(series.rows) > 1 else None,
        timeline=run_timeline(store.timelines.of_run(row["run_id"]), row["output_unit"]),
        compared=compared.get(row["run_id"], ()),
        not_compared=unpredicted,
    )


def compared_of(frame: pl.DataFrame) -> tuple[dict[str, tuple[Compared, ...]], str]:
    """Return what was both measured and can be predicted of each run, by its id; or why nothing can.

    Args:
        frame: Rows of the run table.
    """
    try:
        predicted = predict_many(completed(frame, load_catalog())).to_dicts()
    except UsageError as error:
        return {}, error.message
    rows = zip(frame.iter_rows(named=True), predicted, strict=True)
    found = {row["run_id"]: tuple(_pairs(row_to_run(row), told)) for row, told in rows}
    return found, "" if any(found.values()) else "nothing that was measured can be predicted"


def _pairs(run: Run, predicted: Mapping[str, Any]) -> Iterator[Compared]:
    for name in COMPARED:
        measured, value = run.quantity(name), predicted.get(name)
        if measured is None or not measured.value or not value:
            continue
        quantity = Quantity(
            value=value,
            unit=unit_of(name, run.workload.output_unit),
            basis=Basis(predicted["basis"]),
            low=predicted[f"{name}_low"],
            high=predicted[f"{name}_high"],
        )
        yield Compared(name=name, measured=measured, predicted=quantity)
