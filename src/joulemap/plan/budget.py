"""Energy budgets: which models fit a task within so many joules, and what must change for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.errors import JoulemapError, UsageError
from joulemap.notebook import ShownInNotebooks
from joulemap.plan.options import OptionRequest, find_options
from joulemap.plan.overhead import server_power
from joulemap.predict.calibration import Calibration
from joulemap.records import Basis, Quantity, weakest

Scope = Literal["gpu", "facility"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyBudget:
    """How much energy one response may take."""

    energy_j: float
    """For one response."""
    scope: Scope = "gpu"
    """Whose energy: the GPUs', or the facility's, with servers and PUE."""
    pue: float = 1.0
    itl_limit_s: float | None = None
    """Limit on the median inter-token latency of text."""
    latency_limit_s: float | None = None
    """Limit on the latency of a batch of images or videos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """A model for a task, at its configuration of least energy per response."""

    task: str
    model_id: str
    label: str
    output_unit: str
    gpu_model: str
    num_gpus: int
    weight_precision: str | None
    batch_ceiling: float
    energy_per_request_j: Quantity
    """In the scope of the budget."""
    share_of_budget_ratio: float
    fits: bool
    changes: tuple[str, ...]
    """What would make it fit; empty where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetReport(ShownInNotebooks):
    """Every pairing of a model and a task against a budget, the cheapest first in each task."""

    budget: EnergyBudget
    pairings: tuple[Pairing, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "budget": asdict(self.budget),
            "pairings": [
                {**asdict(p), "energy_per_request_j": p.energy_per_request_j.to_json()} for p in self.pairings
            ],
            "notes": list(self.notes),
        }


def energy_budget(
    frame: pl.DataFrame,
    budget: EnergyBudget,
    *,
    tasks: Sequence[str] = (),
    models: Sequence[str] = (),
    gpu_models: Sequence[str] = (),
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
) -> BudgetReport:
    """Rank models by the energy of a response against a budget.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
        budget: Energy for one response, its scope, limits on latency.
        tasks: Which tasks; all that the store has if empty.
        models: Which models, by id; all measured ones if empty.
        gpu_models: Which GPU models; all measured ones if empty.
        calibration: Coefficients of the prediction; the shipped ones if ``None``.
        catalog: Facts; the shipped ones if ``None``.

    Raises:
        UsageError: The budget is not positive, or nothing is known of a task.
    """
    if not budget.energy_j > 0:
        msg = f"an energy budget must be positive, not {budget.energy_j:g} J"
        raise UsageError(msg, fix="give for example --joules 500")
    facts = catalog or load_catalog()
    notes: list[str] = []
    pairings: list[Pairing] = []
    asked = tasks or sorted(frame.filter(pl.col("valid"))["task"].drop_nulls().unique())
    if not asked:
        msg = f"none of the {frame.height} runs is valid and states its task"
        raise UsageError(msg, fix="name one that the catalog knows, for example --task gpqa")
    for task in asked:
        request = OptionRequest(
            task=task, models=tuple(models), gpu_models=tuple(gpu_models), predict_between=bool(gpu_models)
        )
        options = find_options(frame, request, calibration=calibration, catalog=facts)
        notes += options.notes
        scoped = _scoped(options.frame, budget, facts, notes)
        own = [_pairing(group, budget) for _, group in scoped.group_by("model_id", maintain_order=True)]
        own.sort(key=lambda p: p.energy_per_request_j.value)
        pairings += _with_other_models(own)
    return BudgetReport(budget=budget, pairings=tuple(pairings), notes=tuple(dict.fromkeys(notes)))


def _scoped(options: pl.DataFrame, budget: EnergyBudget, catalog: Catalog, notes: list[str]) -> pl.DataFrame:
    """Return options with ``cost_j`` (and ``_low``, ``_high``): energy of a response in the budget's scope."""
    ends = ("", "_low", "_high")
    if budget.scope == "gpu":
        return options.with_columns(pl.col(f"energy_per_request_j{e}").alias(f"cost_j{e}") for e in ends)
    beside: dict[str, float] = {}
    for gpu in options["gpu_model"].unique(maintain_order=True):
        try:
            power = server_power(catalog, gpu)
        except JoulemapError as error:
            notes.append(error.message)
            continue
        beside[gpu] = power.per_gpu.value
        notes.append(f"{power.per_gpu.value:.0f} W counted beside each {gpu} ({power.per_gpu.basis.value})")
    known = options.filter(pl.col("gpu_model").is_in(list(beside)))
    watts = pl.col("gpu_model").replace_strict(beside, default=None, return_dtype=pl.Float64) * pl.col("num_gpus")
    shared = watts / pl.col("request_throughput_per_s")
    return known.with_columns(
        *(((pl.col(f"energy_per_request_j{e}") + shared) * budget.pue).alias(f"cost_j{e}") for e in ends),
        basis=pl.when(pl.col("gpu_model").is_in([g for g in beside if g in _assumed(catalog, beside)]))
        .then(pl.lit(Basis.ASSUMED.value))
        .otherwise(pl.col("basis")),
    )


def _assumed(catalog: Catalog, beside: dict[str, float]) -> set[str]:
    return {g for g in beside if server_power(catalog, g).per_gpu.basis is Basis.ASSUMED}


def _pairing(options: pl.DataFrame, budget: EnergyBudget) -> Pairing:
    within = _within(options, budget)
    chosen = (within if not within.is_empty() else options).sort("cost_j", maintain_order=True)
    row = chosen.row(0, named=True)
    fits = not within.is_empty() and row["cost_j"] <= budget.energy_j
    return Pairing(
        **{n: row[n] for n in ("task", "model_id", "label", "output_unit", "gpu_model", "num_gpus")},
        weight_precision=row["weight_precision"],
        batch_ceiling=row["batch_ceiling"],
        energy_per_request_j=Quantity(
            value=row["cost_j"],
            unit="J/request",
            basis=weakest(Basis(row["basis"])),
            low=min(row["cost_j_low"], row["cost_j"]),
            high=max(row["cost_j_high"], row["cost_j"]),
        ),
        share_of_budget_ratio=row["cost_j"] / budget.energy_j,
        fits=fits,
        changes=() if fits else tuple(_changes(row, options, within, budget)),
    )


def _within(options: pl.DataFrame, budget: EnergyBudget) -> pl.DataFrame:
    is_token = pl.col("output_unit") == "token"
    left = options
    if budget.itl_limit_s is not None:
        left = left.filter(~is_token | (pl.col("itl_median_s") <= budget.itl_limit_s))
    if budget.latency_limit_s is not None:
        left = left.filter(is_token | (pl.col("latency_s") <= budget.latency_limit_s))
    return left


def _changes(row: dict[str, Any], options: pl.DataFrame, within: pl.DataFrame, budget: EnergyBudget) -> list[str]:
    """Return what would bring a response within the budget, in words."""
    said = []
    latency = "itl_median_s" if row["output_unit"] == "token" else "latency_s"
    fitting = options.filter(pl.col("cost_j") <= budget.energy_j, pl.col(latency).is_not_null())
    limited = within.height < options.height
    if limited and not fitting.is_empty():
        fastest = fitting.sort(latency).row(0, named=True)
        said.append(
            f"allow {fastest[latency]:.3g} s of latency: {fastest['num_gpus']} × {fastest['gpu_model']} at batch "
            f"{fastest['batch_ceiling']:.0f} takes {fastest['cost_j']:.3g} J"
        )
    if within.is_empty():
        fastest_s = options[latency].cast(pl.Float64).to_numpy().min()
        said.insert(0, f"no configuration holds the limit on latency: the fastest has {fastest_s:.3g} s")
    ratio = row["cost_j"] / budget.energy_j
    tokens = row["mean_output_tokens"]
    if ratio > 1 and row["output_unit"] == "token" and tokens:
        said.append(f"replies of at most {tokens / ratio:,.0f} tokens on average instead of {tokens:,.0f}")
    elif ratio > 1 and row["inference_steps"]:
        steps = row["inference_steps"] / ratio
        if steps >= 1:
            said.append(f"at most {steps:.0f} denoising steps instead of {row['inference_steps']:.0f}")
    if ratio > 1:
        said.append(f"{ratio:.2g} times the budget")
    return said


def _with_other_models(own: list[Pairing]) -> list[Pairing]:
    """Add the cheapest model that fits to what the others could change."""
    best = next((p for p in own if p.fits), None)
    if best is None:
        return own
    cheaper = f"use {best.label}: {best.energy_per_request_j.value:.3g} J"
    return [p if p.fits else replace(p, changes=(*p.changes, cheaper)) for p in own]
