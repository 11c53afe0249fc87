"""Compare GPU models: least energy at matched latency, and what a fleet of each would serve under a cap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.diagnose.series import base_model
from joulemap.errors import InfeasibleError, UsageError
from joulemap.notebook import ShownInNotebooks
from joulemap.plan.fleet import plan_fleet
from joulemap.plan.options import OptionRequest, find_options
from joulemap.plan.spec import PlanSpec, Pool
from joulemap.predict.calibration import Calibration
from joulemap.records import Basis, weakest
from joulemap.units import S_PER_HOUR, S_PER_YEAR

LIMITS_S: dict[str, tuple[float, ...]] = {
    "token": (0.05, 0.1, 0.25),
    "image": (10, 30, 60),
    "video": (100, 500, 1000),
}
"""Limits on latency at which GPUs are compared unless others are asked for: the study's (arXiv 2601.22076)."""
ENOUGH_GPUS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The configuration of least energy of one GPU model within a limit."""

    gpu_model: str
    num_gpus: int
    batch_ceiling: float
    energy_per_output_j: float
    basis: Basis
    run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """GPU models compared for one model, task and limit on latency."""

    task: str
    model_id: str
    label: str
    weight_precision: str | None
    output_unit: str
    limit_s: float
    """On the median inter-token latency; for images and videos, on the latency of a batch."""
    sides: tuple[Side, ...]
    """In the order asked for; a GPU model that holds the limit nowhere is not among them."""

    @property
    def best(self) -> str:
        """The GPU model that takes least energy."""
        return min(self.sides, key=lambda s: s.energy_per_output_j).gpu_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """How often the newer of two GPU models takes less energy at matched latency."""

    task: str
    newer: str
    older: str
    wins: int
    pairs: int
    median_change_ratio: float
    """Energy of the newer over that of the older, minus one."""
    least_change_ratio: float
    most_change_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAdvice:
    """The number of GPUs at which a model takes least energy on a GPU model."""

    task: str
    label: str
    model_id: str
    gpu_model: str
    num_gpus: int
    fewest_gpus: int
    """The fewest that the model was seen on."""
    saved_fraction: float
    """Energy saved against the fewest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionPoint:
    """FP8 against 16-bit weights at one batch."""

    batch: float
    pairs: int
    wins: int
    median_change_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOfOne:
    """A fleet of one GPU model under the plan's caps."""

    gpu_model: str
    slo_scale: float
    """Factor on every limit on latency."""
    served_fraction: float
    value: float
    facility_j_per_output: float | None
    gpus: int
    capital_usd: float | None
    electricity_usd_per_year: float | None
    ownership_usd_per_year: float | None
    """Electricity, and purchases written off."""
    basis: Basis
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(ShownInNotebooks):
    """GPU models compared."""

    gpu_models: tuple[str, ...]
    matches: tuple[Match, ...]
    duels: tuple[Duel, ...]
    counts: tuple[CountAdvice, ...]
    precisions: tuple[PrecisionPoint, ...]
    fp8_first_wins_at_batch: float | None
    """The smallest batch at which FP8 takes less energy than 16 bits in any pair; below it never does."""
    fp8_wins_most_from_batch: float | None
    """The smallest batch at which it does so in most pairs."""
    fleets: tuple[FleetOfOne, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"matches": [{**asdict(m), "best": m.best} for m in self.matches]}


def compare_gpus(
    frame: pl.DataFrame,
    gpu_models: Sequence[str],
    *,
    tasks: Sequence[str] = (),
    limits_s: Sequence[float] = (),
    spec: PlanSpec | None = None,
    slo_scales: Sequence[float] = (1.0,),
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
) -> Comparison:
    """Compare GPU models.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
        gpu_models: Two or more, by catalog name.
        tasks: Which tasks; all that the store has if empty.
        limits_s: Limits on latency; :data:`LIMITS_S` if empty.
        spec: A plan, to fill its caps with each GPU model alone; ``None`` for none.
        slo_scales: Factors on the plan's limits on latency.
        calibration: Coefficients of the prediction; the shipped ones if ``None``.
        catalog: Facts; the shipped ones if ``None``.

    Raises:
        UsageError: Fewer than two GPU models are given, or nothing is known of a task.
    """
    facts = catalog or load_catalog()
    names = tuple(dict.fromkeys(facts.gpu(g).id for g in gpu_models))
    if len(names) < 2:
        msg = "a comparison needs two GPU models"
        raise UsageError(msg, fix="--gpus H100,B200")
    wanted = list(tasks) or sorted(frame.filter(pl.col("valid"))["task"].drop_nulls().unique())
    notes: list[str] = []
    options = _options(frame, wanted, names, calibration, facts, notes)
    matches = _matches(options, names, tuple(limits_s))
    points = _precisions(options)
    return Comparison(
        gpu_models=names,
        matches=matches,
        duels=_duels(matches, names, facts),
        counts=_counts(options),
        precisions=points,
        fp8_first_wins_at_batch=next((p.batch for p in points if p.wins), None),
        fp8_wins_most_from_batch=next((p.batch for p in points if 2 * p.wins > p.pairs), None),
        fleets=_fleets(spec, frame, names, slo_scales, calibration, facts) if spec is not None else (),
        notes=tuple(dict.fromkeys(notes)),
    )


def _options(
    frame: pl.DataFrame,
    tasks: Sequence[str],
    gpus: tuple[str, ...],
    calibration: Calibration | None,
    catalog: Catalog,
    notes: list[str],
) -> pl.DataFrame:
    """Return measured options, and predicted ones on GPU models that no run of the task has."""
    pieces = []
    for task in tasks:
        there = set(frame.filter(task=task)["gpu_model"].drop_nulls().unique())
        measured = tuple(g for g in gpus if g in there)
        lacking = [g for g in gpus if g not in there]
        if measured:
            request = OptionRequest(task=task, gpu_models=measured, predict_between=False)
            pieces.append(find_options(frame, request, calibration=calibration, catalog=catalog).frame)
        if lacking and measured:
            predicted = find_options(
                frame, OptionRequest(task=task, gpu_models=tuple(lacking)), calibration=calibration, catalog=catalog
            )
            pieces.append(predicted.frame)
            notes.append(f"{', '.join(lacking)} was not measured: predicted ({Basis.MODELLED.value})")
    if not pieces:
        msg = f"the store has no run of {', '.join(tasks) or 'any task'} on {' or '.join(gpus)}"
        raise UsageError(msg, fix="'joulemap import study' brings runs on H100 and B200")
    return pl.concat(pieces, how="diagonal_relaxed")


def _matches(options: pl.DataFrame, gpus: tuple[str, ...], limits_s: tuple[float, ...]) -> tuple[Match, ...]:
    made = []
    keys = ["task", "model_id", "label", "weight_precision", "output_unit"]
    for key, own in options.group_by(keys, maintain_order=True):
        task, model_id, label, precision, unit = map(str, key)
        latency = own["itl_median_s"] if unit == "token" else own["latency_s"]
        for limit in limits_s or LIMITS_S.get(unit, ()):
            within = own.filter(latency <= limit)
            sides = tuple(side for g in gpus if (side := _least(within.filter(gpu_model=g))) is not None)
            if len(sides) > 1:
                made.append(
                    Match(
                        task=task,
                        model_id=model_id,
                        label=label,
                        weight_precision=precision,
                        output_unit=unit,
                        limit_s=limit,
                        sides=sides,
                    )
                )
    return tuple(made)


def _least(options: pl.DataFrame) -> Side | None:
    if options.is_empty():
        return None
    row = options.sort("energy_per_output_j", maintain_order=True).row(0, named=True)
    return Side(
        basis=Basis(row["basis"]),
        **{n: row[n] for n in ("gpu_model", "num_gpus", "batch_ceiling", "energy_per_output_j", "run_id")},
    )


def _duels(matches: tuple[Match, ...], gpus: tuple[str, ...], catalog: Catalog) -> tuple[Duel, ...]:
    by_age = sorted(gpus, key=lambda g: (catalog.gpus[g].release_year, gpus.index(g)))
    found = []
    for i, older in enumerate(by_age):
        for newer in by_age[i + 1 :]:
            for task in dict.fromkeys(m.task for m in matches):
                changes = [
                    energies[newer] / energies[older] - 1
                    for m in matches
                    if m.task == task
                    for energies in [{s.gpu_model: s.energy_per_output_j for s in m.sides}]
                    if newer in energies and older in energies
                ]
                if changes:
                    series = pl.Series(changes)
                    found.append(
                        Duel(
                            task=task,
                            newer=newer,
                            older=older,
                            wins=int((series < 0).sum()),
                            pairs=len(changes),
                            median_change_ratio=float(series.quantile(0.5, "linear") or 0.0),
                            least_change_ratio=min(changes),
                            most_change_ratio=max(changes),
                        )
                    )
    return tuple(found)


def _counts(options: pl.DataFrame) -> tuple[CountAdvice, ...]:
    """Return where more GPUs than the fewest take least energy: they unlock batch."""
    found = []
    keys = ["task", "model_id", "label", "weight_precision", "gpu_model"]
    for key, own in options.group_by(keys, maintain_order=True):
        task, model_id, label, _, gpu = map(str, key)
        least = own.group_by("num_gpus").agg(pl.col("energy_per_output_j").min()).sort("num_gpus")
        best = least.sort("energy_per_output_j").row(0, named=True)
        fewest = least.row(0, named=True)
        if best["num_gpus"] > fewest["num_gpus"]:
            found.append(
                CountAdvice(
                    task=task,
                    label=label,
                    model_id=model_id,
                    gpu_model=gpu,
                    num_gpus=int(best["num_gpus"]),
                    fewest_gpus=int(fewest["num_gpus"]),
                    saved_fraction=1.0 - best["energy_per_output_j"] / fewest["energy_per_output_j"],
                )
            )
    return tuple(sorted(found, key=lambda c: -c.saved_fraction))


def _precisions(options: pl.DataFrame) -> tuple[PrecisionPoint, ...]:
    """Return FP8 against 16 bits by batch; models served attention data-parallel in FP8 alone are left out."""
    measured = options.filter(pl.col("basis") == Basis.MEASURED.value, pl.col("output_unit") == "token")
    if measured.is_empty():
        return ()
    names = {name: base_model(name) for name in measured["model_id"].unique()}
    table = measured.with_columns(
        base=pl.col("model_id").replace_strict(names, return_dtype=pl.String),
        replicas=pl.col("data_parallel").fill_null(1),
    )
    key = ["base", "task", "gpu_model", "num_gpus", "batch_ceiling", "replicas"]
    sides = [
        table.filter(weight_precision=precision).group_by(key).agg(pl.col("energy_per_output_j").min())
        for precision in ("fp8", "bfloat16")
    ]
    pairs = (
        sides[0]
        .join(sides[1], on=key, suffix="_16")
        .with_columns(change=pl.col("energy_per_output_j") / pl.col("energy_per_output_j_16") - 1)
    )
    by_batch = (
        pairs.group_by("batch_ceiling")
        .agg(pairs=pl.len(), wins=(pl.col("change") < 0).sum(), median=pl.col("change").median())
        .sort("batch_ceiling")
    )
    return tuple(
        PrecisionPoint(batch=batch, pairs=count, wins=wins, median_change_ratio=median)
        for batch, count, wins, median in by_batch.iter_rows()
    )


def _fleets(
    spec: PlanSpec,
    frame: pl.DataFrame,
    gpus: tuple[str, ...],
    slo_scales: Sequence[float],
    calibration: Calibration | None,
    catalog: Catalog,
) -> tuple[FleetOfOne, ...]:
    found = []
    for scale in slo_scales:
        for gpu in gpus:
            alone = _with_one_gpu(_with_slo_scaled(spec, scale), gpu)
            found.append(_fleet(alone, frame, gpu, scale, calibration, catalog))
    return tuple(found)


def _with_one_gpu(spec: PlanSpec, gpu: str) -> PlanSpec:
    """Return the plan with one GPU model in every site: as many as power (and money) allow."""
    known = {p.gpu_model: p for s in spec.sites for p in s.pools}
    own = known.get(gpu)
    price = own.price_usd if own else None
    pool = Pool(
        gpu_model=gpu,
        num_gpus=None if spec.money_usd is not None and price is not None else ENOUGH_GPUS,
        price_usd=price,
        server_power_w=own.server_power_w if own else None,
    )
    sites = tuple(replace(site, pools=(pool,)) for site in spec.sites)
    return replace(spec, sites=sites, objective="value")


def _with_slo_scaled(spec: PlanSpec, scale: float) -> PlanSpec:
    demands = tuple(
        replace(d, slo=replace(d.slo, **{n: v * scale for n, v in d.slo.limits().items()})) for d in spec.demands
    )
    return replace(spec, demands=demands)


def _fleet(
    spec: PlanSpec,
    frame: pl.DataFrame,
    gpu: str,
    scale: float,
    calibration: Calibration | None,
    catalog: Catalog,
) -> FleetOfOne:
    try:
        plan = plan_fleet(spec, frame, calibration=calibration, catalog=catalog, marginals=False)
    except InfeasibleError as error:
        return FleetOfOne(
            gpu_model=gpu,
            slo_scale=scale,
            served_fraction=0.0,
            value=0.0,
            gpus=0,
            facility_j_per_output=None,
            capital_usd=None,
            electricity_usd_per_year=None,
            ownership_usd_per_year=None,
            basis=Basis.MODELLED,
            note=error.message,
        )
    asked = sum(s.asked_per_s for s in plan.services)
    served = sum(s.served_per_s for s in plan.services)
    gpus = sum(plan.gpus.values())
    price = spec.sites[0].pools[0].price_usd
    capital = None if price is None else gpus * price
    years = spec.hours * S_PER_HOUR / S_PER_YEAR
    per_year = None if plan.electricity_usd is None else plan.electricity_usd / years
    owned = None if capital is None or per_year is None else capital * S_PER_YEAR / spec.lifetime_s + per_year
    outputs = sum(a.replicas * a.output_throughput_per_s for a in plan.assignments) * S_PER_HOUR
    lacking = [n for n, v in (("price_usd of the pool", price), ("electricity_usd_per_kwh", per_year)) if v is None]
    return FleetOfOne(
        gpu_model=gpu,
        slo_scale=scale,
        served_fraction=served / asked if asked else 0.0,
        value=plan.value,
        facility_j_per_output=plan.facility_energy_j.value / outputs if outputs else None,
        gpus=gpus,
        capital_usd=capital,
        electricity_usd_per_year=per_year,
        ownership_usd_per_year=owned,
        basis=weakest(plan.facility_energy_j.basis, *(a.basis for a in plan.assignments)),
        note=f"cost of ownership needs {' and '.join(lacking)}" if lacking else "",
    )
