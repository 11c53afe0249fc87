"""A run's JSON form."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from joulemap.records import Run
from joulemap.records.measured import present


def run_json(run: Run) -> dict[str, Any]:
    """Return a run's JSON form: its plain parts, and every measured quantity with unit, basis and interval."""
    quantities = {name: run.quantity(name) for name in present(run.measured)}
    return {
        "run_id": run.run_id,
        "workload": stated(run.workload),
        "deployment": stated(run.deployment),
        "measured": {name: q.to_json() for name, q in quantities.items() if q is not None},
        "missing": run.annotations.missing,
        "validity": {"valid": run.validity.valid, "reasons": list(run.validity.reasons)},
        "provenance": stated(run.provenance),
    }


def stated(record: Any) -> dict[str, Any]:
    """Return the fields of a part of a run that its source states, without the distribution of lengths."""
    values = ((f.name, getattr(record, f.name)) for f in fields(record) if f.name != "output_lengths")
    return {name: value for name, value in values if value is not None}
