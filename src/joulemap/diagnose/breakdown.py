"""Where the joules go by task, model, GPU, precision, batch or modality, for any runs.

Each model counts with its configuration of least energy per output, as the study counts it; a row of the
breakdown is the mean over the configurations of its models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import polars as pl

from joulemap.diagnose.series import base_model
from joulemap.errors import InfeasibleError, UnknownNameError
from joulemap.notebook import ShownInNotebooks
from joulemap.records import Basis, weakest
from joulemap.store.schema import row_to_run
from joulemap.store.selector import BATCH_CEILING, latest

By = Literal["task", "model", "gpu", "precision", "batch", "modality"]
Per = Literal["response", "output"]
DIMENSIONS: tuple[str, ...] = get_args(By)

INTERVAL = "lowest and highest of the configurations behind a row"
"""What ``low`` and ``high`` of a breakdown are."""
NOT_STATED = "not stated"

_GROUPS = {
    "task": pl.col("task"),
    "model": pl.col("model"),
    "gpu": pl.col("gpu_model"),
    "precision": pl.col("weight_precision"),
    "batch": pl.col("batch_ceiling").round().cast(pl.Int64).cast(pl.String),
    "modality": pl.when(pl.col("output_unit") == "token")
    .then(pl.concat_str("input_modality", pl.lit(" to text")))
    .otherwise(pl.concat_str("input_modality", pl.lit(" to "), "output_unit")),
}
_SPANS_TASKS = ("task", "modality")
"""Dimensions that tell tasks apart; along the others, only rows of one task are compared."""
_RANKED = {"response": "energy_per_request_j", "output": "energy_per_output_j"}
_UNITS = {
    "energy_per_request_j": "J/response",
    "energy_per_output_j": "J/{output}",
    "throughput_per_watt": "{output}/s/W",
    "mean_output_tokens": "token",
    "batch_size": "request",
    "itl_median_s": "s",
    "latency_median_s": "s",
    "power_w": "W",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """The mean of a quantity over the configurations behind a row."""

    value: float
    unit: str
    basis: Basis
    low: float | None
    """The lowest of the configurations; ``None`` where there is only one."""
    high: float | None
    configurations: int
    """Configurations that state the quantity."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: ``{"value", "unit", "basis", "low", "high", "configurations"}``."""
        return {
            "value": self.value,
            "unit": self.unit,
            "basis": self.basis.value,
            "low": self.low,
            "high": self.high,
            "configurations": self.configurations,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakdownRow:
    """One group of a breakdown."""

    group: str
    """The task, model, GPU, precision, batch or modality."""
    task: str | None
    """The task within which this row is compared; ``None`` where rows of all tasks are."""
    output_unit: str
    quantities: Mapping[str, Statistic | None]
    """By name; ``None`` where no configuration states the quantity."""
    ratio: float | None
    """The compared energy over that of the cheapest row; ``None`` where it is not stated."""
    same_models_ratio: float | None
    """The same over the models that both rows have (geometric mean of their ratios); ``None`` where none are."""
    same_models: int
    models: int
    runs: int
    """Configurations that these were chosen from."""
    run_ids: tuple[str, ...]
    """The runs of the chosen configurations, cheapest per output first."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: the fields, with each quantity by its name."""
        return {
            "group": self.group,
            "task": self.task,
            "output_unit": self.output_unit,
            "ratio": self.ratio,
            "same_models_ratio": self.same_models_ratio,
            "same_models": self.same_models,
            "models": self.models,
            "runs": self.runs,
            "run_ids": list(self.run_ids),
            **{name: s.to_json() if s else None for name, s in self.quantities.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown(ShownInNotebooks):
    """A breakdown: its rows, cheapest first within a task (batches: smallest first), and what was left out."""

    by: str
    compared: str
    """The quantity that ratios and order are of."""
    itl_limit_s: float | None
    latency_limit_s: float | None
    rows: tuple[BreakdownRow, ...]
    left_out: Mapping[str, int]
    """Runs left out, by reason."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "by": self.by,
            "compared": self.compared,
            "at": "lowest energy per output of each model",
            "itl_limit_s": self.itl_limit_s,
            "latency_limit_s": self.latency_limit_s,
            "interval": INTERVAL,
            "rows": [row.to_json() for row in self.rows],
            "left_out": dict(self.left_out),
        }


def breakdown(
    frame: pl.DataFrame,
    *,
    by: By,
    per: Per = "response",
    itl_limit_s: float | None = None,
    latency_limit_s: float | None = None,
) -> Breakdown:
    """Break the energy of runs down along one dimension.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``). Invalid runs are left out; of
            repeated configurations the latest counts.
        by: The dimension.
        per: Compare energy per ``response`` (request, image, video) or per ``output`` (token, image, video).
        itl_limit_s: For text, only configurations with at most this median inter-token latency, in s.
        latency_limit_s: For images and videos, only configurations with at most this latency of a batch, in s.

    Raises:
        UnknownNameError: The dimension is none.
        InfeasibleError: No run is left.
    """
    if by not in DIMENSIONS:
        kind = "dimension"
        raise UnknownNameError(kind, by, DIMENSIONS)
    left_out: dict[str, int] = {}
    usable = _keep(frame, pl.col("valid").fill_null(value=True), "invalid", left_out)
    usable = _keep(usable, pl.col("energy_per_output_j") > 0, "no energy per output is known", left_out)
    newest = latest(usable)
    if replaced := usable.height - newest.height:
        left_out["replaced by a later run of the same configuration"] = replaced
    within = _within(newest, itl_limit_s, latency_limit_s, left_out)
    if within.is_empty():
        reasons = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
        msg = f"no run is left to break down: {reasons or 'there are none'}"
        raise InfeasibleError(msg, fix=_loosened(newest, itl_limit_s, latency_limit_s))
    rows = _rows(_with_groups(within, by), by, _RANKED[per])
    return Breakdown(
        by=by,
        compared=_RANKED[per],
        itl_limit_s=itl_limit_s,
        latency_limit_s=latency_limit_s,
        rows=tuple(rows),
        left_out=left_out,
    )


def _keep(frame: pl.DataFrame, condition: pl.Expr, reason: str, left_out: dict[str, int]) -> pl.DataFrame:
    kept = frame.filter(condition)
    if kept.height < frame.height:
        left_out[reason] = frame.height - kept.height
    return kept


def _within(
    frame: pl.DataFrame, itl_limit_s: float | None, latency_limit_s: float | None, left_out: dict[str, int]
) -> pl.DataFrame:
    is_text = pl.col("output_unit") == "token"
    if itl_limit_s is not None:
        # A limit on one kind of output says nothing of the others: leave those out, rather than unlimited.
        if latency_limit_s is None:
            frame = _keep(frame, is_text, "have no inter-token latency to limit (--latency-limit does)", left_out)
        frame = _keep(
            frame,
            ~is_text | (pl.col("itl_median_s") <= itl_limit_s),
            f"above a median inter-token latency of {itl_limit_s:g} s, or not stating it",
            left_out,
        )
    if latency_limit_s is not None:
        if itl_limit_s is None:
            frame = _keep(frame, ~is_text, "are text, which --itl-limit limits", left_out)
        frame = _keep(
            frame,
            is_text | (pl.col("latency_median_s") <= latency_limit_s),
            f"above a latency of {latency_limit_s:g} s, or not stating it",
            left_out,
        )
    return frame


def _loosened(frame: pl.DataFrame, itl_limit_s: float | None, latency_limit_s: float | None) -> str | None:
    """Return which limits would leave something."""
    parts = []
    for limit, option, column in (
        (itl_limit_s, "--itl-limit", "itl_median_s"),
        (latency_limit_s, "--latency-limit", "latency_median_s"),
    ):
        lowest = frame[column].drop_nulls().sort().head(1).to_list()
        if limit is not None and lowest:
            parts.append(f"{option} {math.ceil(lowest[0] * 1e4) / 1e4:g}s or more")
    return " and ".join(parts) or None


def _with_groups(frame: pl.DataFrame, by: str) -> pl.DataFrame:
    names = {name: base_model(name) for name in frame["model_id"].unique()}
    return (
        frame.with_columns(
            BATCH_CEILING,
            pl.col("task").fill_null(NOT_STATED),
            model=pl.coalesce("nickname", pl.col("model_id").str.split("/").list.last()),
            throughput_per_watt=1 / pl.col("energy_per_output_j"),
            # What "the same model" means: along precision, the model without its precision.
            same_model=pl.col("model_id").replace_strict(names, return_dtype=pl.String)
            if by == "precision"
            else pl.col("model_id"),
        )
        .with_columns(group=_GROUPS[by].fill_null(NOT_STATED))
        .with_columns(section=pl.lit("") if by in _SPANS_TASKS else pl.col("task"))
    )


def _rows(frame: pl.DataFrame, by: str, compared: str) -> list[BreakdownRow]:
    key = ["section", "output_unit", "group"]
    chosen = frame.sort("energy_per_output_j", maintain_order=True).unique(
        [*key, "task", "model_id"], keep="first", maintain_order=True
    )
    counts = {tuple(k): n for *k, n in frame.group_by(key).len().iter_rows()}
    groups = {
        tuple(map(str, k)): rows.to_dicts()
        for k, rows in chosen.partition_by(key, as_dict=True, maintain_order=True).items()
    }
    means = {k: _mean(rows, compared) for k, rows in groups.items()}
    result = []
    for k, rows in groups.items():
        cheapest = _cheapest(means, k, compared)
        energy = means[k]
        ratio = energy / means[cheapest] if cheapest and energy else None  # type: ignore[operator]
        same = _same_models(rows, groups[cheapest], compared) if cheapest and by != "model" else []
        result.append(
            BreakdownRow(
                group=k[2],
                task=k[0] or None,
                output_unit=k[1],
                quantities={name: _statistic(rows, name, k[1]) for name in _UNITS},
                ratio=ratio,
                same_models_ratio=math.exp(sum(map(math.log, same)) / len(same)) if same else None,
                same_models=len(same),
                models=len({row["model_id"] for row in rows}),
                runs=counts[k],
                run_ids=tuple(row["run_id"] for row in rows),
            )
        )
    if by == "batch":
        return sorted(result, key=lambda row: (row.task or "", row.output_unit, _batch(row.group)))
    return sorted(result, key=lambda row: (row.task or "", row.ratio is None, row.ratio or 0.0, row.group))


def _batch(group: str) -> float:
    return float(group) if group != NOT_STATED else math.inf


def _cheapest(
    means: Mapping[tuple[str, ...], float | None], of: tuple[str, ...], compared: str
) -> tuple[str, ...] | None:
    """Return the cheapest group among those that may be compared with one."""
    width = 2 if compared == "energy_per_output_j" else 1  # a joule per token is none per image
    among = {k: mean for k, mean in means.items() if mean is not None and k[:width] == of[:width]}
    return min(among, key=among.__getitem__, default=None)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return sum(values) / len(values) if values else None


def _statistic(rows: Sequence[Mapping[str, Any]], name: str, output_unit: str) -> Statistic | None:
    stated = [row for row in rows if row[name] is not None]
    mean = _mean(stated, name)
    if mean is None:
        return None
    values = [row[name] for row in stated]
    source = "energy_per_output_j" if name == "throughput_per_watt" else name
    return Statistic(
        value=mean,
        unit=_UNITS[name].format(output=output_unit),
        basis=weakest(*(_basis(row, source) for row in stated)),
        low=min(values) if len(values) > 1 else None,
        high=max(values) if len(values) > 1 else None,
        configurations=len(values),
    )


def _basis(row: Mapping[str, Any], name: str) -> Basis:
    if row["annotations"] is None:
        return Basis.MEASURED
    return row_to_run(row).annotations.basis.get(name, Basis.MEASURED)


def _same_models(
    rows: Sequence[Mapping[str, Any]], cheapest: Sequence[Mapping[str, Any]], compared: str
) -> list[float]:
    """Return the ratio of the compared energy for each model that both groups have."""
    here, there = _by_model(rows, compared), _by_model(cheapest, compared)
    return [here[model] / there[model] for model in here if model in there]


def _by_model(rows: Sequence[Mapping[str, Any]], compared: str) -> dict[str, float]:
    energies: dict[str, list[float]] = {}
    for row in rows:
        if row[compared]:
            energies.setdefault(row["same_model"], []).append(row[compared])
    return {model: sum(values) / len(values) for model, values in energies.items()}
