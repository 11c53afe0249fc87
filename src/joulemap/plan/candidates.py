"""From what is asked to numbers: which options may serve which demand, and the planning problem that follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.errors import UsageError
from joulemap.plan.options import OptionRequest, Options, at_confidence, find_options
from joulemap.plan.overhead import server_power
from joulemap.plan.problem import Floats, Problem
from joulemap.plan.spec import Demand, PlanSpec, at_hour
from joulemap.predict.calibration import Calibration
from joulemap.records import Basis, weakest
from joulemap.units import J_PER_KWH, S_PER_HOUR

LIMIT_COLUMNS = {
    "itl_median_s": "planned_itl_median_s",
    "itl_p99_s": "itl_p99_s",
    "ttft_median_s": "ttft_median_s",
    "latency_s": "planned_latency_s",
}
"""The column of an option that each limit on latency is held against."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """A planning problem with what its numbers stand for."""

    problem: Problem
    options: tuple[Options, ...]
    """Every option of each demand, those over the limits too: whole batch curves."""
    placements: pl.DataFrame
    """One row a placement: the option's columns, ``demand``, ``site`` and ``pool`` (positions), and
    ``expected_power_w`` (facility, at the mean) with ``_low`` and ``_high``."""
    pool_names: tuple[tuple[str, str], ...]
    """Site and GPU model of each pool."""
    base_power_w: Floats
    """What unused GPUs of each site draw; taken off its cap. Shape (sites,)."""
    excluded: tuple[str, ...]
    """Why a demand has no option; empty where it has some."""
    notes: tuple[str, ...]


def candidates(
    spec: PlanSpec, frame: pl.DataFrame, *, calibration: Calibration | None = None, catalog: Catalog | None = None
) -> Candidates:
    """Return the planning problem of a plan.

    Args:
        spec: What is asked.
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
        calibration: Coefficients of the prediction; the shipped ones if ``None``.
        catalog: Facts; the shipped ones if ``None``.
    """
    facts = catalog or load_catalog()
    notes: list[str] = []
    gpus = tuple(dict.fromkeys(p.gpu_model for s in spec.sites for p in s.pools))
    found, kept, excluded = [], [], []
    for position, demand in enumerate(spec.demands):
        options = _options(demand, frame, gpus, calibration, facts)
        notes += options.notes
        planned = at_confidence(options.frame, spec.confidence)
        able, why_not = admissible(planned, demand, spec)
        found.append(Options(planned, options.notes, options.lengths))
        kept.append(able.with_columns(demand=pl.lit(position, dtype=pl.Int64)))
        excluded.append(why_not)
    pools = _pools(spec, facts, notes)
    placements = pl.concat(kept, how="diagonal_relaxed").join(pools, on="gpu_model", maintain_order="left")
    placements = placements.with_columns(
        _facility(f"power_w{end}").alias(f"expected_power_w{end}") for end in ("", "_low", "_high")
    )
    return Candidates(
        problem=_problem(spec, placements, pools),
        options=tuple(found),
        placements=placements,
        pool_names=tuple(pools.select("site_name", "gpu_model").iter_rows()),
        base_power_w=_base_power(spec),
        excluded=tuple(excluded),
        notes=tuple(dict.fromkeys(notes)),
    )


def _options(
    demand: Demand, frame: pl.DataFrame, gpus: tuple[str, ...], calibration: Calibration | None, catalog: Catalog
) -> Options:
    request = OptionRequest(
        task=demand.task,
        models=tuple(demand.models),
        gpu_models=gpus,
        mean_input_tokens=demand.mean_input_tokens,
        mean_output_tokens=demand.mean_output_tokens,
        output_lengths=demand.output_lengths,
    )
    return find_options(frame, request, calibration=calibration, catalog=catalog)


def admissible(planned: pl.DataFrame, demand: Demand, spec: PlanSpec) -> tuple[pl.DataFrame, str]:
    """Return the options that a demand admits, and why there are none where there are none.

    Args:
        planned: From :func:`joulemap.plan.options.at_confidence`.
        demand: Its quality, precisions and limits on latency count.
        spec: Its quality tiers count.
    """
    rate = "planned_request_throughput_per_s" if demand.requests_per_s else "planned_output_throughput_per_s"
    share = {m: demand.models.get(m, 1.0) for m in planned["model_id"].unique()}
    worth = pl.col("model_id").replace_strict(share, default=1.0, return_dtype=pl.Float64) * demand.value
    usable = pl.col(rate) * (1.0 - spec.headroom_fraction)
    left = planned.with_columns(rate_per_s=usable, worth=worth).filter(pl.col("rate_per_s") > 0)
    if demand.min_quality is not None:
        good = [m for m, tier in spec.qualities.items() if tier >= demand.min_quality]
        left = left.filter(pl.col("model_id").is_in(good))
        if left.is_empty():
            return left, f"no model with runs has a quality tier of {demand.min_quality} or more in [quality]"
    if demand.precisions:
        left = left.filter(pl.col("weight_precision").is_in(demand.precisions))
        if left.is_empty():
            return left, f"no option has its weights in {' or '.join(demand.precisions)}"
    for name, limit in demand.slo.limits().items():
        column = LIMIT_COLUMNS[name]
        within = left.filter(pl.col(column) <= limit)
        if within.is_empty():
            least = left[column].min()
            said = f"the least is {least:.3g} s" if isinstance(least, float) else "none states it"
            return within, f"no option holds {name} ≤ {limit:g} s with the limits before it: {said}"
        left = within
    return left, ""


def _pools(spec: PlanSpec, catalog: Catalog, notes: list[str]) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    for position, site in enumerate(spec.sites):
        for pool in site.pools:
            beside, basis = pool.server_power_w, Basis.MEASURED
            if beside is None:
                known = server_power(catalog, pool.gpu_model)
                beside, basis = known.per_gpu.value, known.per_gpu.basis
                notes.append(
                    f"{site.name}: {beside:.0f} W counted beside each {pool.gpu_model} "
                    f"({known.per_gpu.basis.value}; {known.source})"
                )
            rows.append(
                {
                    **{"site": position, "site_name": site.name, "pool": len(rows), "gpu_model": pool.gpu_model},
                    **{"pool_gpus": float("inf") if pool.num_gpus is None else float(pool.num_gpus)},
                    **{
                        "price_usd": pool.price_usd,
                        "server_power_w": beside,
                        "unused_power_w": pool.unused_power_w,
                    },
                    **{"pue": site.pue, "server_basis": basis.value},
                }
            )
    return pl.DataFrame(rows, schema_overrides={"price_usd": pl.Float64, "pool_gpus": pl.Float64})


def _facility(power: str) -> pl.Expr:
    """Return a replica's facility power beyond what its GPUs would draw unused."""
    beside = pl.col("num_gpus") * (pl.col("server_power_w") - pl.col("unused_power_w"))
    return (pl.col(power) + beside) * pl.col("pue")


def _base_power(spec: PlanSpec) -> Floats:
    return np.array(
        [s.pue * sum(p.unused_power_w * (p.num_gpus or 0) for p in s.pools) for s in spec.sites], dtype=np.float64
    )


def _problem(spec: PlanSpec, placements: pl.DataFrame, pools: pl.DataFrame) -> Problem:
    counted = placements.with_columns(
        counted_w=_facility("rated_power_w" if spec.power == "rated" else "planned_power_w")
    )
    streams = placements.select("demand", "worth").unique(maintain_order=True).with_row_index("stream")
    stream_of = placements.join(streams, on=["demand", "worth"], maintain_order="left")["stream"]
    cap = np.array([[at_hour(s.cap_w, h) for h in range(spec.hours)] for s in spec.sites])
    asked = [
        [at_hour(d.requests_per_s or d.outputs_per_s or (0.0,), h) for h in range(spec.hours)] for d in spec.demands
    ]
    prices = pools["price_usd"].fill_null(np.nan).to_numpy()
    return Problem(
        power_w=np.maximum(counted["counted_w"].cast(pl.Float64).to_numpy(), 0.0),
        num_gpus=placements["num_gpus"].cast(pl.Float64).to_numpy(),
        rate_per_s=placements["rate_per_s"].cast(pl.Float64).to_numpy(),
        site_of=placements["site"].to_numpy().astype(np.intp),
        pool_of=placements["pool"].to_numpy().astype(np.intp),
        stream_of=stream_of.to_numpy().astype(np.intp),
        stream_demand=streams["demand"].to_numpy().astype(np.intp),
        stream_weight=streams["worth"].to_numpy().astype(np.float64),
        demand_priority=np.array([d.priority for d in spec.demands], dtype=np.intp),
        asked_per_s=np.array(asked),
        cap_w=np.maximum(cap - _base_power(spec)[:, None], 0.0),
        pool_gpus=pools["pool_gpus"].to_numpy(),
        pool_price_usd=prices,
        cost_weight=_cost(spec, placements),
        length_s=np.full(spec.hours, S_PER_HOUR),
        money_usd=spec.money_usd if spec.money_usd is not None else float("inf"),
        fixed_replicas=spec.fixed_replicas,
    )


def _cost(spec: PlanSpec, placements: pl.DataFrame) -> Floats:
    """Return what a replica costs in each hour: kWh, USD or kg of CO2e, by the objective."""
    kwh = placements["expected_power_w"].to_numpy() * S_PER_HOUR / J_PER_KWH
    if spec.objective in ("value", "energy"):
        return np.repeat(kwh[:, None], spec.hours, axis=1)
    sites = placements["site"].to_numpy()
    factors = np.array([_rates(spec, position) for position in range(len(spec.sites))])
    cost = kwh[:, None] * factors[sites]
    if spec.objective == "cost":
        written_off = (
            placements["price_usd"].fill_null(0.0) * placements["num_gpus"] * (S_PER_HOUR / spec.lifetime_s)
        )
        cost = cost + written_off.to_numpy()[:, None]
    return np.asarray(cost)


def _rates(spec: PlanSpec, position: int) -> list[float]:
    """Return USD or kg of CO2e per kWh of a site, by hour."""
    site = spec.sites[position]
    name, values = (
        ("electricity_usd_per_kwh", site.electricity_usd_per_kwh)
        if spec.objective == "cost"
        else ("carbon_g_per_kwh", site.carbon_g_per_kwh)
    )
    if not values:
        msg = f"the objective {spec.objective!r} needs {name} of the site {site.name!r}"
        raise UsageError(msg, fix=f"add {name} = … to the site")
    scale = 1.0 if spec.objective == "cost" else 1e-3
    return [at_hour(values, h) * scale for h in range(spec.hours)]


def weakest_of(placements: pl.DataFrame) -> Basis:
    """Return the weakest basis among placements: of options, and of what the servers draw beside their GPUs."""
    said = {*placements["basis"].unique(), *placements["server_basis"].unique()}
    return weakest(*map(Basis, said)) if said else Basis.MEASURED
