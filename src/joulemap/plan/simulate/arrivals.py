"""When requests arrive and how long they are: Poisson, burstier than Poisson, recorded traces, load curves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from joulemap.errors import InputError
from joulemap.plan.problem import Floats
from joulemap.records import LengthDistribution
from joulemap.units import S_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requests:
    """Requests by time of arrival."""

    arrival_s: Floats
    """Rising, from 0; shape (requests,)."""
    length_ratio: Floats
    """Length of each reply over the mean length; shape (requests,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """A recorded trace of requests."""

    arrival_s: Floats
    """Rising, from 0."""
    output_tokens: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadCurve:
    """How a rate changes over time."""

    rate_ratio: Floats
    """Rate of each step over the mean rate."""
    step_s: float


def arrivals_at(
    rates_per_s: Floats, rng: np.random.Generator, *, variation: float = 1.0, step_s: float = S_PER_HOUR
) -> Floats:
    """Return times of arrival at a rate that changes step by step.

    Args:
        rates_per_s: Rate of each step.
        rng: Source of randomness.
        variation: Coefficient of variation of the time between arrivals, which is gamma distributed: 1 is Poisson,
            above 1 bursty, 0 even.
        step_s: Length of a step.
    """
    # A renewal process of rate 1 in "expected arrivals" is bent to the changing rate.
    expected = np.concatenate([[0.0], np.cumsum(rates_per_s * step_s)])
    total = float(expected[-1])
    if total <= 0:
        return np.zeros(0)
    count = int(total + 8.0 * max(variation, 1.0) * np.sqrt(total) + 16)
    if variation > 0:
        shape = 1.0 / variation**2
        gaps = rng.exponential(size=count) if variation == 1.0 else rng.gamma(shape, 1.0 / shape, size=count)
    else:
        gaps = np.ones(count)
    at = np.cumsum(gaps)
    at = at[at < total]
    return np.asarray(np.interp(at, expected, np.arange(expected.size) * step_s))


def lengths_like(lengths: LengthDistribution | None, count: int, rng: np.random.Generator) -> Floats:
    """Return lengths over their mean, drawn from a histogram; all 1 if there is none."""
    if lengths is None or sum(lengths.counts) == 0:
        return np.ones(count)
    edges, weights = np.array(lengths.edges), np.array(lengths.counts, dtype=np.float64)
    chosen = rng.choice(weights.size, size=count, p=weights / weights.sum())
    drawn = rng.uniform(edges[chosen], edges[chosen + 1])
    mean = float(np.average((edges[1:] + edges[:-1]) / 2.0, weights=weights))
    return np.asarray(np.maximum(drawn, 1.0) / mean)


def read_trace(path: Path) -> Trace:
    """Read a trace in the columns of the Azure LLM inference traces.

    Args:
        path: A CSV file with ``TIMESTAMP`` and ``GeneratedTokens``.

    Raises:
        InputError: The file cannot be read, or lacks a column.
    """
    try:
        table = pl.read_csv(path, try_parse_dates=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        msg = f"the trace {path} cannot be read: {error}"
        raise InputError(msg, fix="give a CSV file with the columns TIMESTAMP and GeneratedTokens") from error
    _need(path, table, ("TIMESTAMP", "GeneratedTokens"))
    try:
        times = table["TIMESTAMP"].str.slice(0, 26).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")
        seconds = times.dt.timestamp("us").to_numpy() / 1e6
        tokens = table["GeneratedTokens"].cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError as error:
        msg = f"the trace {path} holds a time or number that cannot be read: {error}"
        raise InputError(msg, fix="times like 2023-11-16 18:15:46.6805900") from error
    order = np.argsort(seconds, kind="stable")
    return Trace(arrival_s=seconds[order] - seconds.min(), output_tokens=np.maximum(tokens[order], 1.0))


def replayed(trace: Trace, rates_per_s: Floats, step_s: float) -> Requests:
    """Return a trace, again and again until the time is filled, played at a speed that gives it the rates.

    Args:
        trace: What was recorded.
        rates_per_s: Mean rate of each step.
        step_s: Length of a step.
    """
    expected = np.concatenate([[0.0], np.cumsum(rates_per_s * step_s)])
    count = trace.arrival_s.size
    span = float(trace.arrival_s[-1]) * (1.0 + 1.0 / max(count - 1, 1)) or 1.0
    rounds = int(np.ceil(expected[-1] / count))
    at = (np.arange(rounds)[:, None] + trace.arrival_s[None, :] / span).ravel() * count
    lengths = np.tile(trace.output_tokens / trace.output_tokens.mean(), rounds)
    within = at < expected[-1]
    times = np.interp(at[within], expected, np.arange(expected.size) * step_s)
    return Requests(arrival_s=times, length_ratio=lengths[within])


def read_load_curve(path: Path, workload: str | None = None) -> LoadCurve:
    """Read a load curve.

    Args:
        path: A CSV file with ``t_s`` (even steps) and ``rate_rps``, and ``workload`` where it holds several.
        workload: Which of them; the first if ``None``.

    Raises:
        InputError: The file cannot be read, or lacks the workload.
    """
    try:
        table = pl.read_csv(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        msg = f"the load curve {path} cannot be read: {error}"
        raise InputError(msg, fix="give a CSV file with the columns t_s and rate_rps") from error
    _need(path, table, ("t_s", "rate_rps"))
    if "workload" in table.columns:
        names = table["workload"].unique(maintain_order=True).to_list()
        chosen = workload or names[0]
        if chosen not in names:
            msg = f"{path} has no workload {chosen!r}"
            raise InputError(msg, fix="one of: " + ", ".join(names))
        table = table.filter(workload=chosen)
    if table.height < 2:
        msg = f"{path} holds fewer than two steps"
        raise InputError(msg)
    rates = table["rate_rps"].cast(pl.Float64).to_numpy()
    step_s = float(np.median(np.diff(table["t_s"].cast(pl.Float64).to_numpy())))
    return LoadCurve(rate_ratio=rates / rates.mean(), step_s=step_s)


def _need(path: Path, table: pl.DataFrame, columns: tuple[str, ...]) -> None:
    lacking = [c for c in columns if c not in table.columns]
    if lacking:
        msg = f"{path} lacks the column {lacking[0]!r}"
        raise InputError(msg, fix=f"columns needed: {', '.join(columns)}")
