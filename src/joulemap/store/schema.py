"""The table in which runs are kept: one column a field of the records, one row a run.

The columns are read off the record types, so that a field added there is a column here. A file written
under an older schema is brought up to date by :func:`upgraded`; one under a newer schema is refused.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import polars as pl

from joulemap.errors import StoreError
from joulemap.records import (
    Annotations,
    Basis,
    Deployment,
    LengthDistribution,
    Measured,
    Modality,
    OutputUnit,
    Provenance,
    Run,
    Validity,
    Workload,
)

SCHEMA_VERSION = 1

Table = TypeVar("Table", pl.DataFrame, pl.LazyFrame)

_UTC_TIME = pl.Datetime("us", "UTC")
_PLAIN_TYPES: dict[type, pl.DataType] = {
    float: pl.Float64(),
    int: pl.Int64(),
    str: pl.String(),
    bool: pl.Boolean(),
    datetime: _UTC_TIME,
}


def _plain_columns(record: type) -> dict[str, pl.DataType]:
    """Return name and column type of the fields of ``record`` that hold one plain value."""
    columns: dict[str, pl.DataType] = {}
    for name, hint in typing.get_type_hints(record).items():
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        kind = next(option for option in options if option is not types.NoneType)
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            columns[name] = pl.String()
        elif kind in _PLAIN_TYPES:
            columns[name] = _PLAIN_TYPES[kind]
    return columns


WORKLOAD_COLUMNS = _plain_columns(Workload)
DEPLOYMENT_COLUMNS = _plain_columns(Deployment)
MEASURED_COLUMNS = _plain_columns(Measured)
PROVENANCE_COLUMNS = _plain_columns(Provenance)

COLUMNS: dict[str, pl.DataType] = {
    "run_id": pl.String(),
    **WORKLOAD_COLUMNS,
    **DEPLOYMENT_COLUMNS,
    **MEASURED_COLUMNS,
    "valid": pl.Boolean(),
    "validity_reasons": pl.List(pl.String),
    "output_length_edges": pl.List(pl.Float64),
    "output_length_counts": pl.List(pl.Int64),
    "annotations": pl.String(),
    **PROVENANCE_COLUMNS,
    "notes": pl.List(pl.String),
    "stored_at": _UTC_TIME,
}
"""Every column of the run table, with its Polars type."""


def runs_to_frame(runs: Sequence[Run], *, stored_at: datetime) -> pl.DataFrame:
    """Return the runs as a table of shape (runs, ``COLUMNS``).

    Args:
        runs: The runs, in order.
        stored_at: The UTC-aware time to note as that of storing.
    """
    data: dict[str, list[Any]] = {"run_id": [run.run_id for run in runs]}
    for part, columns in (
        ("workload", WORKLOAD_COLUMNS),
        ("deployment", DEPLOYMENT_COLUMNS),
        ("measured", MEASURED_COLUMNS),
        ("provenance", PROVENANCE_COLUMNS),
    ):
        records = [getattr(run, part) for run in runs]
        for name in columns:
            data[name] = [getattr(record, name) for record in records]
    lengths = [run.workload.output_lengths for run in runs]
    data["valid"] = [run.validity.valid for run in runs]
    data["validity_reasons"] = [list(run.validity.reasons) for run in runs]
    data["output_length_edges"] = [None if x is None else list(x.edges) for x in lengths]
    data["output_length_counts"] = [None if x is None else list(x.counts) for x in lengths]
    data["annotations"] = [_annotations_to_text(run.annotations) for run in runs]
    data["notes"] = [list(run.provenance.notes) for run in runs]
    data["stored_at"] = [stored_at] * len(runs)
    return pl.DataFrame({name: data[name] for name in COLUMNS}, schema=COLUMNS, strict=False)


def energy_basis(frame: pl.DataFrame) -> list[str]:
    """Return what each run's energy per output rests on, ``–`` without one; a run says so only if not measured."""
    told = pl.col("annotations").str.json_path_match("$.basis.energy_per_output_j").fill_null(Basis.MEASURED.value)
    basis = pl.when(pl.col("energy_per_output_j").is_null()).then(pl.lit("–")).otherwise(told)
    return frame.select(basis).to_series().to_list()


def frame_to_runs(frame: pl.DataFrame) -> list[Run]:
    """Return the runs of a table that has the columns of ``COLUMNS``."""
    return [row_to_run(row) for row in frame.iter_rows(named=True)]


def row_to_run(row: Mapping[str, Any]) -> Run:
    """Return one row of the run table as a run."""
    edges, counts = row["output_length_edges"], row["output_length_counts"]
    lengths = None if edges is None else LengthDistribution(edges=tuple(edges), counts=tuple(counts))
    workload = {name: row[name] for name in WORKLOAD_COLUMNS}
    workload["output_unit"] = OutputUnit(workload["output_unit"])
    workload["input_modality"] = Modality(workload["input_modality"])
    return Run(
        workload=Workload(**workload, output_lengths=lengths),
        deployment=Deployment(**{name: row[name] for name in DEPLOYMENT_COLUMNS}),
        measured=Measured(**{name: row[name] for name in MEASURED_COLUMNS}),
        provenance=Provenance(**{name: row[name] for name in PROVENANCE_COLUMNS}, notes=tuple(row["notes"] or ())),
        validity=Validity(valid=row["valid"], reasons=tuple(row["validity_reasons"] or ())),
        annotations=_annotations_from_text(row["annotations"]),
    )


def upgraded(frame: Table, version: int, source: str) -> Table:
    """Return a table of an older schema version with today's columns, in today's order.

    Args:
        frame: The table as read.
        version: The schema version that it was written under.
        source: The file, for messages.

    Raises:
        StoreError: The version is newer than this joulemap knows, or a needed column is missing.
    """
    if version > SCHEMA_VERSION:
        msg = f"{source} was written under run schema {version}; this joulemap reads up to {SCHEMA_VERSION}"
        raise StoreError(
            msg,
            fix="pip install --upgrade joulemap",
        )
    columns = set(frame.lazy().collect_schema())
    missing = {"run_id", "model_id", "output_unit", "input_modality", "source"} - columns
    if missing:
        msg = f"{source} lacks the columns {', '.join(sorted(missing))}"
        raise StoreError(msg)
    # A column that is younger than the file is simply unknown for its runs.
    return frame.select(
        (pl.col(name) if name in columns else pl.lit(None)).cast(kind).alias(name) for name, kind in COLUMNS.items()
    )


def empty_frame() -> pl.DataFrame:
    """Return the run table without rows."""
    return pl.DataFrame(schema=COLUMNS)


def utc_now() -> datetime:
    """Return the UTC-aware time."""
    return datetime.now(UTC)


def _annotations_to_text(annotations: Annotations) -> str | None:
    parts = {f.name: value for f in fields(annotations) if (value := getattr(annotations, f.name))}
    return json.dumps(parts, sort_keys=True) if parts else None


def _annotations_from_text(text: str | None) -> Annotations:
    if not text:
        return Annotations()
    parts: dict[str, dict[str, Any]] = json.loads(text)
    return Annotations(
        basis={name: Basis(value) for name, value in parts.get("basis", {}).items()},
        intervals={name: _pair(value) for name, value in parts.get("intervals", {}).items()},
        missing=parts.get("missing", {}),
    )


def _pair(values: Iterable[float]) -> tuple[float, float]:
    low, high = values
    return low, high
