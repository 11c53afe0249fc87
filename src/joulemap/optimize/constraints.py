"""Limits that a configuration has to keep, and how surely it keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtr, ndtri

from joulemap.catalog import Catalog
from joulemap.errors import InfeasibleError, UnknownNameError, UsageError
from joulemap.optimize.levers.precision import BITS
from joulemap.optimize.quantities import deviations_of, latency_of
from joulemap.optimize.scope import Scope, gpu_id
from joulemap.physics.arrays import Floats
from joulemap.units import BYTES_PER_GB, MS_PER_S

UNREACHABLE = 1e3
"""Excess (in logarithms) of a configuration that no relaxation of a number makes admissible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What is asked of a configuration; ``None`` asks nothing."""

    itl_median_s: float | None = None
    itl_p99_s: float | None = None
    ttft_median_s: float | None = None
    latency_s: float | None = None
    """A text request's mean latency; a diffusion batch's median latency."""
    output_throughput_per_s: float | None = None
    """Outputs per second in all, from as many replicas as the GPUs at hand allow (one if none are stated)."""
    gpus_available: Mapping[str, int] = field(default_factory=dict)
    """Number of GPUs at hand by GPU model; empty sets no limit."""
    memory_bytes: float | None = None
    """Memory of one GPU that weights and caches may take."""
    precision_floor: str | None = None
    """Weights at least as wide as this format."""
    steps_floor: int | None = None
    """At least so many denoising steps."""
    confidence: float = 0.9
    """How surely each limit is kept: the quantile of a quantity that has to meet it."""

    def __post_init__(self) -> None:
        if not 0.0 < self.confidence < 1.0:
            msg = f"a confidence of {self.confidence:g} is not between 0 and 1"
            raise UsageError(msg, fix="--confidence 0.9")


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One constraint over a table of candidates."""

    name: str
    """As on the command line, for example ``"itl"``."""
    excess: Floats
    """Logarithm of how far the quantity at the stated quantile lies beyond the limit; above 0 it is broken."""
    probability: Floats
    """Probability that the limit is kept."""
    quantity: str | None = None
    limit: float | None = None
    upper: Floats | None = None
    """The quantity at the stated quantile."""

    @property
    def kept(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Where the limit is kept at the stated confidence."""
        return np.asarray(self.excess <= 1e-12)


def checks_of(table: pl.DataFrame, constraints: Constraints) -> list[Check]:
    """Return each stated constraint's check of every candidate, and that memory holds the batch.

    Raises:
        UnknownNameError: The precision is unknown.
    """
    return [*_limits(table, constraints), *_choices(table, constraints), _fit(table, constraints.confidence)]


def within_stock(
    scope: Scope, constraints: Constraints, frame: pl.DataFrame, catalog: Catalog
) -> tuple[Scope, Constraints]:
    """Return scope and constraints with the GPUs at hand named as in the run table.

    A scope that names no GPU model itself takes those at hand.

    Raises:
        UnknownNameError: Neither the store nor the catalog knows a GPU model.
    """
    stock: dict[str, int] = {}
    for name, count in constraints.gpus_available.items():
        known = gpu_id(name, frame, catalog)
        stock[known] = stock.get(known, 0) + count
    named = replace(constraints, gpus_available=stock)
    return (scope if scope.gpu_models else replace(scope, gpu_models=tuple(stock))), named


def feasible(checks: list[Check]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return where every constraint is kept."""
    return np.asarray(np.logical_and.reduce([c.kept for c in checks]), dtype=np.bool_)


def replicas_at_hand(table: pl.DataFrame, constraints: Constraints) -> Floats:
    """Return how many replicas of each candidate the GPUs at hand allow; one where none are stated."""
    if not constraints.gpus_available:
        return np.ones(table.height)
    at_hand = np.array([constraints.gpus_available.get(name, 0) for name in table["gpu_model"]], dtype=float)
    return np.asarray(np.floor(at_hand / table["num_gpus"].to_numpy()), dtype=np.float64)


def infeasible(table: pl.DataFrame, checks: list[Check], described: Any) -> InfeasibleError:
    """Return the error for a table of which no candidate keeps every constraint.

    Args:
        table: The candidates.
        checks: Their checks.
        described: Function from a row to its words.
    """
    excess = np.maximum(np.stack([c.excess for c in checks]), 0.0)
    nearest = int(np.argmin(excess.sum(axis=0)))
    binding = [c for c, over in zip(checks, excess[:, nearest], strict=True) if over > 1e-12]
    told = "; ".join(_broken(c, nearest) for c in binding)
    names = " and ".join(c.name for c in binding)
    relaxed = " ".join(filter(None, (_relaxed(c, nearest) for c in binding)))
    where = described(table.row(nearest, named=True))
    alone = [c.name for c in checks if not c.kept.any()]
    never = f" ({', '.join(alone)} can be kept by none of the {table.height} candidates)" if alone else ""
    msg = f"no configuration keeps every limit; binding: {names}{never}. The nearest, {where}, breaks {told}"
    return InfeasibleError(
        msg, fix=relaxed or "leave out a limit, or widen the choice (--gpus-available, --precision)"
    )


def _limits(table: pl.DataFrame, c: Constraints) -> Iterator[Check]:
    unit = str(table["output_unit"][0])
    for name, quantity, limit in (
        ("itl", "itl_median_s", c.itl_median_s),
        ("itl-p99", "itl_p99_s", c.itl_p99_s),
        ("ttft", "ttft_median_s", c.ttft_median_s),
        ("latency", latency_of(unit), c.latency_s),
    ):
        if limit is not None:
            yield _below(table, name, quantity, limit, c.confidence)
    if c.output_throughput_per_s is not None:
        yield _throughput(table, c)
    if c.memory_bytes is not None:
        need = table["memory_footprint_bytes"].cast(pl.Float64).fill_null(math.inf).to_numpy()
        excess = np.log(need / c.memory_bytes)
        yield Check("memory", excess, (excess <= 0).astype(float), "memory_footprint_bytes", c.memory_bytes, need)


def _below(table: pl.DataFrame, name: str, quantity: str, limit: float, confidence: float) -> Check:
    value = table[quantity].cast(pl.Float64).fill_null(math.nan).to_numpy()
    deviation = deviations_of(table, quantity)
    upper = value * np.exp(ndtri(confidence) * deviation)
    distance = np.log(limit / value)
    excess = np.where(np.isnan(upper), UNREACHABLE, np.log(upper / limit))
    return Check(name, excess, np.nan_to_num(_surely(distance, deviation)), quantity, limit, upper)


def _throughput(table: pl.DataFrame, c: Constraints) -> Check:
    quantity, limit = "output_throughput_per_s", float(c.output_throughput_per_s or 0.0)
    value = table[quantity].cast(pl.Float64).fill_null(math.nan).to_numpy()
    value = value * np.maximum(replicas_at_hand(table, c), 1.0)
    deviation = deviations_of(table, quantity)
    lower = value * np.exp(-ndtri(c.confidence) * deviation)
    excess = np.where(np.isnan(lower), UNREACHABLE, np.log(limit / lower))
    probability = np.nan_to_num(_surely(np.log(value / limit), deviation))
    return Check("throughput", excess, probability, quantity, limit, lower)


def _surely(distance: Floats, deviation: Floats) -> Floats:
    return np.asarray(ndtr(distance / np.maximum(deviation, 1e-9)))


def _choices(table: pl.DataFrame, c: Constraints) -> Iterator[Check]:
    if c.gpus_available:
        yield _yes_no("gpus-available", replicas_at_hand(table, c) >= 1)
    if c.precision_floor is not None:
        floor = BITS.get(c.precision_floor.casefold())
        if floor is None:
            kind = "precision"
            raise UnknownNameError(kind, c.precision_floor, BITS)
        bits = np.array([BITS.get(str(p).casefold(), 0) for p in table["weight_precision"]])
        yield _yes_no("quality-floor", bits >= floor)
    if c.steps_floor is not None:
        steps = table["inference_steps"].cast(pl.Int64).fill_null(0).to_numpy()
        yield _yes_no("quality-floor", steps >= c.steps_floor)


def _yes_no(name: str, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> Check:
    return Check(name, np.where(kept, 0.0, UNREACHABLE), kept.astype(float))


def _fit(table: pl.DataFrame, confidence: float) -> Check:
    probability = table["fits_probability"].cast(pl.Float64).fill_null(0.0).to_numpy()
    excess = np.log(confidence / np.maximum(probability, 1e-12))
    return Check("memory for the batch", np.where(probability >= confidence, 0.0, excess), probability)


def _broken(check: Check, at: int) -> str:
    if check.limit is None or check.upper is None:
        return f"{check.name} (probability {check.probability[at]:.0%})"
    if math.isnan(check.upper[at]):
        return f"{check.name} (its {check.quantity} is not known)"
    return f"{check.name}: {_told(check, check.upper[at])} against the limit of {_told(check, check.limit)}"


def _relaxed(check: Check, at: int) -> str | None:
    if check.limit is None or check.upper is None or not math.isfinite(check.upper[at]):
        return None
    up = check.name != "throughput"
    return f"--{check.name} {_told(check, check.upper[at], up=up).replace(' ', '').replace('output/s', '')}"


def _told(check: Check, value: float, *, up: bool | None = None) -> str:
    """Return a limit's value in words; rounded up or down where it is to be usable as a limit."""
    if check.name == "memory":
        return f"{_rounded(value / BYTES_PER_GB, up)} GB"
    if check.name == "throughput":
        return f"{_rounded(value, up)} output/s"
    return f"{_rounded(value * MS_PER_S, up)} ms" if value < 1.0 else f"{_rounded(value, up)} s"


def _rounded(value: float, up: bool | None) -> str:
    if up is None or value <= 0:
        return f"{value:.4g}"
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{(math.ceil(value / step) if up else math.floor(value / step)) * step:.6g}"
