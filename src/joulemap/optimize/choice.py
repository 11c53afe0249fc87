"""Recommend the configuration of least energy under constraints, and what to measure next to be surer of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtr

from joulemap.catalog import Catalog, load_catalog
from joulemap.errors import SelectorError
from joulemap.notebook import ShownInNotebooks
from joulemap.optimize.advice import Advice, advice_on
from joulemap.optimize.belief import Belief, belief_of
from joulemap.optimize.candidates import Candidates, candidates
from joulemap.optimize.constraints import Constraints, checks_of, feasible, infeasible, within_stock
from joulemap.optimize.information import Measurement, ranked_measurements
from joulemap.optimize.levers.registry import registered_levers
from joulemap.optimize.quantities import Z90
from joulemap.optimize.scope import Scope
from joulemap.optimize.steps import Step, Way, way_between
from joulemap.optimize.tradeoff import candidate_json
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import Models
from joulemap.store.run_store import RunStore, open_store
from joulemap.store.selector import condition, find_run, parse_selector

ALTERNATIVES = 5
"""Runners-up that are shown."""
_COST_OF_KNOB = {
    "precision": "precision",
    "weight_precision": "precision",
    "kv_cache_precision": "kv_cache_precision",
    "num_gpus": "gpu_count",
    "gpu_model": "gpu_generation",
    "diffusion_work": "diffusion_work",
    "batch": "batch",
}
_KNOB_COLUMNS = {
    "precision": "weight_precision",
    "gpu_model": "gpu_model",
    "num_gpus": "num_gpus",
    "kv_cache_precision": "kv_cache_precision",
    "diffusion_work": "inference_steps",
    "batch": "batch_ceiling",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recommendation(ShownInNotebooks):
    """The configuration of least expected energy that keeps every limit."""

    constraints: Constraints
    choice: Mapping[str, Any]
    """A row of the candidates."""
    current: Mapping[str, Any] | None
    way: Way | None
    """From the current configuration to the choice; ``None`` without a current one."""
    energy_ratio_min: float | None
    """Lower end of the 90 % interval of the choice's energy over the current one's."""
    energy_ratio_max: float | None
    least_probability: float
    """Probability that no other configuration which keeps the limits takes less energy."""
    keeps_probability: float
    """Probability that the choice keeps every limit; errors of different quantities are taken as independent."""
    saves_probability: float | None
    """Probability that the choice takes less energy than the current configuration."""
    replicas_needed: int
    """Copies of the choice that the asked throughput needs."""
    runners_up: tuple[Mapping[str, Any], ...]
    costs: Mapping[str, str]
    """What each turned knob may cost beside energy, by lever."""
    next_measurement: Measurement | None
    advice: tuple[Advice, ...]
    """What levers that were not searched would do to the choice."""
    candidates: int
    feasible_candidates: int
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps from the current configuration to the choice."""
        return self.way.steps if self.way else ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        way = self.way
        return {
            "choice": candidate_json(self.choice),
            "current": None if self.current is None else candidate_json(self.current),
            "saving": None
            if way is None
            else {
                "energy_ratio": way.energy_ratio,
                "low": self.energy_ratio_min,
                "high": self.energy_ratio_max,
                "saves_probability": self.saves_probability,
            },
            "steps": [step.to_json() for step in self.steps],
            "unexplained_ratio": None if way is None else way.unexplained_ratio,
            "confidence": self.constraints.confidence,
            "least_probability": self.least_probability,
            "keeps_probability": self.keeps_probability,
            "replicas_needed": self.replicas_needed,
            "runners_up": [candidate_json(row) for row in self.runners_up],
            "costs": dict(self.costs),
            "next_measurement": None if self.next_measurement is None else self.next_measurement.to_json(),
            "advice": [advice.to_json() for advice in self.advice],
            "candidates": self.candidates,
            "feasible_candidates": self.feasible_candidates,
            "notes": list(self.notes),
        }


def recommend(
    scope: Scope,
    constraints: Constraints | None = None,
    *,
    current: str | None = None,
    store: RunStore | None = None,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> Recommendation:
    """Recommend the configuration of least energy per output that keeps every limit.

    Ranked is the expected energy, so that of two candidates with one value the surer comes first.

    Args:
        scope: Model, task and what may be chosen.
        constraints: Limits; none if ``None``.
        current: What runs now: a run id, or a selector such as ``gpu=H100,gpus=1,batch=64``.
        store: The run store; the default one if ``None``.
        calibration: The calibrated model; the shipped one if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id that the catalog lacks.

    Raises:
        InfeasibleError: Nothing keeps every limit; the message names the binding one and the nearest candidate.
        UnknownNameError: A model, task, GPU, precision or run is unknown.
        SelectorError: ``current`` matches no candidate, or several.
    """
    runs = store if store is not None else open_store()
    facts = catalog or load_catalog()
    wanted, limits = within_stock(scope, constraints or Constraints(), runs.frame, facts)
    options = {"calibration": calibration, "catalog": facts, "models": models}
    found = candidates(runs.frame, wanted, **options)  # type: ignore[arg-type]
    now = None if current is None else _current(runs, scope, current, options)
    if now is not None and (now["base_model"], now["task"]) != (found.measured.base_model, found.table["task"][0]):
        ran = f"{now['model_id']} at {now['task']}"
        msg = f"the current configuration runs {ran}, not {scope.model} at {scope.task}"
        raise SelectorError(msg, fix="leave out --model and --task to take those of the current configuration")
    return recommend_among(found, limits, now)


def recommend_among(
    found: Candidates, constraints: Constraints, now: Mapping[str, Any] | None = None
) -> Recommendation:
    """Recommend among given candidates; see :func:`recommend`.

    Args:
        found: The candidates.
        constraints: Limits.
        now: The current configuration, a row of candidates of the same model and task.
    """
    table = found.table
    checks = checks_of(table, constraints)
    kept = np.flatnonzero(feasible(checks))
    if kept.size == 0:
        raise infeasible(table, checks, words)
    own = table[kept.tolist()]
    belief = belief_of(found, own)
    order = np.argsort(belief.expected(), kind="stable")
    best = int(order[0])
    choice = own.row(best, named=True)
    way = None if now is None else way_between(found, now, choice)
    low, high, saves = _saving(found, own[best : best + 1], now)
    measured = ranked_measurements(found, table, checks)
    return Recommendation(
        constraints=constraints,
        choice=choice,
        current=now,
        way=way,
        energy_ratio_min=low,
        energy_ratio_max=high,
        least_probability=float(belief.least_probability()[best]),
        keeps_probability=float(math.prod(float(c.probability[kept[best]]) for c in checks)),
        saves_probability=saves,
        replicas_needed=_replicas(choice, constraints),
        runners_up=tuple(own.row(int(i), named=True) for i in order[1 : ALTERNATIVES + 1]),
        costs=_costs(now, choice),
        next_measurement=measured[0] if measured else None,
        advice=advice_on(own[best : best + 1], found.model, found.scope.levers),
        candidates=table.height,
        feasible_candidates=int(kept.size),
        notes=(*found.notes, *_broken_now(now, found, constraints)),
    )


def words(row: Mapping[str, Any]) -> str:
    """Return a candidate in words, for example ``2x H100, mxfp4, batch 128``."""
    parts = [f"{row['num_gpus']}x {row['gpu_model']}", str(row["weight_precision"] or "precision unknown")]
    parts.append(f"batch {row['batch_ceiling']:g}")
    if (row["ring_degree"] or 1) > 1:
        parts.append(f"ulysses {row['ulysses_degree'] or 1} × ring {row['ring_degree']}")
    if row["inference_steps"]:
        parts.append(f"{row['inference_steps']} steps")
    if row["kv_cache_precision"]:
        parts.append(f"{row['kv_cache_precision']} KV cache")
    return ", ".join(parts)


def _current(runs: RunStore, scope: Scope, text: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the candidate that is served now."""
    if "=" not in text:
        run = find_run(runs, text)
        wide = Scope(model=run["model_id"], task=run["task"], measured_only=True)
        table = candidates(runs.frame, wide, **options).table
        hits = table.filter(pl.col("run_ids").list.contains(run["run_id"]))
        if hits.is_empty():
            msg = f"run {run['run_id']} is invalid, has no energy, or was replaced by a later one"
            raise SelectorError(msg, fix=f"'joulemap show {run['run_id']}' says what is known of it")
        return hits.row(0, named=True)
    parsed = parse_selector(text)
    if "source" in parsed.values or ("task" in parsed.values and parsed.values["task"] != scope.task):
        msg = f"the current configuration {text!r} may name no source and no other task"
        raise SelectorError(msg, fix="give gpu, gpus, batch and, for several, precision")
    asked = parsed.values.get("batch", "")
    batches = (float(asked),) if asked and asked not in ("max", "best") else ()
    wide = Scope(
        model=parsed.values.get("model", scope.model),
        task=scope.task,
        gpu_models=(parsed.values["gpu"],) if "gpu" in parsed.values else (),
        batches=batches,
    )
    table = candidates(runs.frame, wide, **options).table
    for key, value in parsed.values.items():
        if key not in ("batch", "model") or (batches and key == "batch"):
            table = table.filter(condition(table, key, value)) if table.height else table
    if asked in ("max", "best") and (table["basis"] == "measured").any():
        table = table.filter(pl.col("basis") == "measured")
    if asked == "max":
        table = table.filter(pl.col("batch_ceiling") == pl.col("batch_ceiling").max())
    if asked == "best":
        table = table.filter(pl.col("energy_per_output_j") == pl.col("energy_per_output_j").min())
    return _one(table, text)


def _one(table: pl.DataFrame, text: str) -> Mapping[str, Any]:
    """Return the one candidate of a table, a measured one before others."""
    if table.is_empty():
        msg = f"the current configuration {text!r} is no candidate: unknown, or it does not fit into memory"
        raise SelectorError(msg, fix="give gpu, gpus, batch and, for several, precision")
    measured = table.filter(pl.col("basis") == "measured")
    chosen = measured if measured.height else table
    if chosen.height > 1:
        keys = {"gpu": "gpu_model", "gpus": "num_gpus", "precision": "weight_precision", "batch": "batch_ceiling"}
        keys |= {"ulysses": "ulysses_degree", "ring": "ring_degree"}
        differing = [key for key, column in keys.items() if chosen[column].n_unique() > 1]
        msg = f"the current configuration {text!r} matches {chosen.height} candidates"
        raise SelectorError(msg, fix="add " + " and ".join(f"{key}=…" for key in differing))
    return chosen.row(0, named=True)


def _saving(
    found: Candidates, choice: pl.DataFrame, now: Mapping[str, Any] | None
) -> tuple[float | None, float | None, float | None]:
    """Return the interval of the choice's energy over the current one's, and the probability that it is below 1."""
    if now is None:
        return None, None, None
    pair = pl.concat([choice, pl.DataFrame([dict(now)], schema=choice.schema)])
    belief = belief_of(found, pair)
    same = choice.row(0, named=True)["run_ids"] == now["run_ids"] and bool(now["run_ids"])
    deviation = 0.0 if same else _difference(belief)
    middle = float(belief.mean[0] - belief.mean[1])
    saves = 0.0 if same else float(ndtr(-middle / max(deviation, 1e-12)))
    spread = math.exp(Z90 * deviation)
    return math.exp(middle) / spread, math.exp(middle) * spread, saves


def _difference(belief: Belief) -> float:
    c = belief.covariance
    return math.sqrt(max(float(c[0, 0] + c[1, 1] - 2.0 * c[0, 1]), 0.0))


def _broken_now(now: Mapping[str, Any] | None, found: Candidates, constraints: Constraints) -> Iterator[str]:
    """Say which limits the current configuration breaks."""
    if now is None:
        return
    table = pl.DataFrame([dict(now)], schema=found.table.schema)
    broken = [c.name for c in checks_of(table, constraints) if not c.kept[0]]
    if broken:
        yield f"the current configuration does not surely keep: {', '.join(broken)}"


def _replicas(choice: Mapping[str, Any], constraints: Constraints) -> int:
    asked = constraints.output_throughput_per_s
    return 1 if asked is None else max(math.ceil(asked / choice["output_throughput_per_s"] - 1e-9), 1)


def _costs(now: Mapping[str, Any] | None, choice: Mapping[str, Any]) -> dict[str, str]:
    if now is None:
        return {}
    levers = registered_levers()
    turned = [knob for knob, column in _KNOB_COLUMNS.items() if now[column] != choice[column]]
    return {_COST_OF_KNOB[knob]: levers[_COST_OF_KNOB[knob]].COSTS for knob in turned}
