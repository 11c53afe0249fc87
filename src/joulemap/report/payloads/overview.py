"""What is in a store, and what stands out in it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Diagnosis, Finding, FindingKind
from joulemap.diagnose.series import Curves
from joulemap.records import Basis

EXAMPLES = 3
"""Runs named for each finding."""
NOTABLE = 0.98
"""Ratio of energy above which pulling a lever is not worth naming."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOverview:
    """The runs of one task."""

    task: str
    output_unit: str
    runs: int
    models: int
    gpu_models: tuple[str, ...]
    least_j_per_output: float | None
    """``None`` where no run has an energy."""
    most_j_per_output: float | None
    median_j_per_request: float | None
    least_run_id: str | None
    """The run of least energy per output."""
    least_label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The runs of a store."""

    runs: int
    invalid_runs: int
    models: int
    gpu_models: tuple[str, ...]
    sources: tuple[str, ...]
    tasks: tuple[TaskOverview, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def overview(frame: pl.DataFrame) -> Overview:
    """Return what a run table holds; energies are those of valid runs.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
    """
    valid = frame.filter("valid")
    return Overview(
        runs=frame.height,
        invalid_runs=frame.height - valid.height,
        models=frame["model_id"].n_unique(),
        gpu_models=_names(frame, "gpu_model"),
        sources=_names(frame, "source"),
        tasks=tuple(
            _task(str(task), rows)
            for (task,), rows in valid.group_by(["task"], maintain_order=True)
            if task is not None
        ),
    )


def _task(task: str, rows: pl.DataFrame) -> TaskOverview:
    with_energy = rows.filter(pl.col("energy_per_output_j") > 0).sort("energy_per_output_j")
    best = with_energy.row(0, named=True) if with_energy.height else None
    energy = with_energy["energy_per_output_j"]
    median = with_energy["energy_per_request_j"].median()
    return TaskOverview(
        task=task,
        output_unit=rows["output_unit"][0],
        runs=rows.height,
        models=rows["model_id"].n_unique(),
        gpu_models=_names(rows, "gpu_model"),
        least_j_per_output=energy[0] if best else None,
        most_j_per_output=energy[-1] if best else None,
        median_j_per_request=float(median) if isinstance(median, float) else None,
        least_run_id=best["run_id"] if best else None,
        least_label="" if best is None else _label(best),
    )


def _label(row: dict[str, Any]) -> str:
    name = row["nickname"] or row["model_id"]
    return f"{name} on {row['num_gpus'] or '?'} × {row['gpu_model'] or 'unknown GPU'}"


def _names(frame: pl.DataFrame, column: str) -> tuple[str, ...]:
    return tuple(frame[column].drop_nulls().unique().sort())


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A run that shows a finding well."""

    run_id: str
    label: str
    cause: str
    lever: str
    energy_ratio: float
    """Energy after the change over that before."""
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingOut:
    """One finding over all runs."""

    name: str
    kind: FindingKind
    runs: int
    """Runs that show it, with a saving worth naming."""
    median_energy_ratio: float
    """Of these runs: energy after pulling the lever over that before."""
    examples: tuple[Example, ...]
    """Those with most to gain, one a model."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def standing_out(frame: pl.DataFrame) -> list[StandingOut]:
    """Return what the diagnosis of every valid run finds: defects before choices, what concerns most energy first.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
    """
    found: dict[str, list[tuple[Diagnosis, Finding, float]]] = defaultdict(list)
    for diagnosis in diagnose_frame(frame.filter("valid"), curves=Curves(frame)):
        for finding in diagnosis.findings:
            ratio = finding.change.energy_ratio
            if ratio is not None and ratio < NOTABLE and finding.lever:
                found[finding.name].append((diagnosis, finding, ratio))
    told = [_standing_out(name, cases) for name, cases in found.items()]
    return sorted(told, key=lambda s: (s.kind is FindingKind.CHOICE, -s.runs * (1.0 - s.median_energy_ratio)))


def _standing_out(name: str, cases: list[tuple[Diagnosis, Finding, float]]) -> StandingOut:
    by_model: dict[str, Example] = {}
    for diagnosis, finding, ratio in sorted(cases, key=lambda case: case[2]):
        example = Example(
            run_id=diagnosis.run_id or "",
            label=diagnosis.label,
            cause=finding.cause,
            lever=finding.lever,
            energy_ratio=ratio,
            basis=finding.change.basis,
        )
        by_model.setdefault(diagnosis.label.split(" · ")[0], example)
    return StandingOut(
        name=name,
        kind=cases[0][1].kind,
        runs=len(cases),
        median_energy_ratio=statistics.median(ratio for *_, ratio in cases),
        examples=tuple(by_model.values())[:EXAMPLES],
    )
