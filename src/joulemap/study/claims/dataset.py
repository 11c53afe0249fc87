"""Claims about the dataset as a whole."""

from __future__ import annotations

import polars as pl

from joulemap.study.claim import ClaimDefinition, Outcome
from joulemap.study.runs import MissingRunsError, StudyRuns

CONFIGURATIONS = 1_858
_IDENTITY_TOLERANCE = 1e-9


def _size(runs: StudyRuns) -> Outcome:
    counts = {
        "configurations": runs.all.height,
        "models": runs.all["model_id"].n_unique(),
        "tasks": runs.all["task"].drop_nulls().n_unique(),
    }
    return Outcome(computed=" · ".join(f"{count:,}" for count in counts.values()), values=counts)


def _throughput_per_watt(runs: StudyRuns) -> Outcome:
    # Throughput per watt × energy per output is one where throughput per watt = 1 / energy per output.
    product = pl.col("output_throughput_per_s") / pl.col("power_w") * pl.col("energy_per_output_j")
    deviations = runs.all.select((product - 1).abs().alias("deviation"))["deviation"].drop_nulls()
    if deviations.is_empty():
        msg = "there is no run with throughput, power and energy per output"
        raise MissingRunsError(msg)
    held = int((deviations < _IDENTITY_TOLERANCE).sum())
    every = held == runs.all.height
    return Outcome(
        computed="identity on every configuration" if every else f"identity on {held:,} of {runs.all.height:,}",
        values={"held": held, "largest_deviation": float(deviations.to_numpy().max())},
        note=f"throughput per watt × energy per output is 1 within {_IDENTITY_TOLERANCE:g}",
    )


SIZE = ClaimDefinition(
    id="size",
    statement="Configurations, models, tasks",
    published="1,858 · 46 · 7",
    compute=_size,
)
THROUGHPUT_PER_WATT = ClaimDefinition(
    id="tpw",
    statement="Throughput per watt is 1 / energy per output",
    published="identity on every configuration",
    compute=_throughput_per_watt,
)
