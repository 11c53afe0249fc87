"""The runs that the study's claims and figures are computed from, and how they are picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from joulemap.store.importers.leaderboard import SOURCE
from joulemap.store.selector import BATCH_CEILING, latest

RELEASE = "2026-02-16"
"""The release of the study's data that its claims are checked against."""

TASK_NAMES = {
    "gpqa": "Problem Solving",
    "lm-arena-chat": "Text Conversation",
    "sourcegraph-fim": "Code Completion",
    "image-chat": "Image Chat",
    "video-chat": "Video Chat",
    "text-to-image": "Text to Image",
    "text-to-video": "Text to Video",
}
"""The study's name of each task."""
TEXT_TASKS = ("gpqa", "lm-arena-chat", "sourcegraph-fim")

_WORDS = {
    "task": "task",
    "model_id": "model",
    "gpu_model": "GPU",
    "num_gpus": "number of GPUs",
    "weight_precision": "precision",
    "batch_ceiling": "batch",
}


class MissingRunsError(Exception):
    """The runs that a claim or figure needs are not in the store; the message says which."""


@dataclass(frozen=True, slots=True, eq=False)
class StudyRuns:
    """The study's runs in a run table."""

    all: pl.DataFrame
    """Every valid run, repeated configurations too."""
    configurations: pl.DataFrame
    """The latest run of each configuration, with ``batch_ceiling`` (configured batch) and ``model`` (its name)."""

    @property
    def of_release(self) -> bool:
        """Whether these are runs of the release that the claims are about."""
        return self.all["source"].unique().to_list() == [f"{SOURCE} {RELEASE}"]

    def pick(self, **values: object) -> pl.DataFrame:
        """Return the configurations whose columns have the given values.

        Args:
            values: By column, the value wanted, or a tuple of values of which each is fit.

        Raises:
            MissingRunsError: There are none.
        """
        found = self.configurations.filter(
            pl.col(column).is_in(value if isinstance(value, tuple) else (value,))
            for column, value in values.items()
        )
        if found.is_empty():
            raise MissingRunsError("there is no run with " + describe(values))
        return found


def study_runs(frame: pl.DataFrame, *, every_source: bool = False) -> StudyRuns:
    """Return the study's runs in a run table.

    Runs that were read from the study's data are taken where there are any, and of several releases the one
    that the claims are about; otherwise every valid run is.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
        every_source: Take every valid run, whatever its source.
    """
    runs = frame.filter(pl.col("valid").fill_null(value=True))
    whose = (
        ()
        if every_source
        else (pl.col("source").str.starts_with(SOURCE), pl.col("source") == f"{SOURCE} {RELEASE}")
    )
    for is_meant in whose:
        meant = runs.filter(is_meant)
        runs = runs if meant.is_empty() else meant
    configurations = (
        # Within one file the later row counts, in whichever order the rows were stored.
        latest(runs.sort("source_row", nulls_last=False, maintain_order=True))
        .with_columns(
            BATCH_CEILING,
            # Of a diffusion batch, whose requests end together, some sources give only the mean.
            latency_median_s=pl.coalesce("latency_median_s", "latency_mean_s"),
            model=pl.coalesce("nickname", pl.col("model_id").str.split("/").list.last()),
        )
        .filter(pl.col("energy_per_output_j") > 0)
    )
    return StudyRuns(all=runs, configurations=configurations)


def stated(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Return the configurations that state every one of some numbers, above zero.

    Raises:
        MissingRunsError: None does.
    """
    found = frame.filter(pl.col(column) > 0 for column in columns)
    if found.is_empty():
        msg = f"no run that is needed here states {' and '.join(columns)}"
        raise MissingRunsError(msg)
    return found


def minimum_energy(frame: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Return the configuration with the lowest energy per output of each group, in the order of the frame.

    Args:
        frame: Configurations.
        by: The columns that make a group, for example ``["task", "model_id"]``.
    """
    lowest = pl.col("energy_per_output_j") == pl.col("energy_per_output_j").min().over(by)
    return frame.filter(lowest).unique(by, keep="first", maintain_order=True)


def describe(values: dict[str, object]) -> str:
    """Return wanted column values in words, for messages."""
    parts = []
    for column, value in values.items():
        text = " or ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        parts.append(f"{_WORDS.get(column, column)} {text}")
    return ", ".join(parts)
