"""Sharing the joules of an interval among the requests that ran in it, so that the shares add up to the meter.

Each request gets a part in proportion to the work that it had done in the interval: its prompt tokens (those not
found in the prefix cache), its output tokens, and the context that each of these read, weighted by what they cost
relative to each other. Prefill is taken to spread evenly from a request's begin to its first token, decoding from
there to its end. What the engine counted and no request explains, and the time without any request, are shares of
their own: nobody pays for them silently.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from joulemap.watch.weights import TokenWeights

Floats = NDArray[np.float64]

TOLERANCE = 1e-9
DUST_S = 1e-9
ROW = np.dtype(
    [
        ("account", np.int64),
        ("begin_s", np.float64),
        ("first_s", np.float64),
        ("end_s", np.float64),
        ("prompt_tokens", np.float64),
        ("prefill_tokens", np.float64),
        ("output_tokens", np.float64),
    ]
)
"""A request in a table; times are monotonic."""


@dataclass(frozen=True, slots=True, eq=False)
class WorkDone:
    """What each request of a table had done in an interval; arrays of one length."""

    prefill_tokens: Floats
    output_tokens: Floats
    context_tokens: Floats
    """Tokens of context read, added up over the output tokens."""


def work_between(table: NDArray[np.void], begin_s: float, end_s: float) -> WorkDone:
    """Return what the requests of a table had done between two times."""
    first, last = table["first_s"], table["end_s"]
    prefilled = _share(table["begin_s"], first, begin_s, end_s)
    decoded = _share(first, last, begin_s, end_s)
    outputs = table["output_tokens"] * decoded
    length_s = np.maximum(last - first, DUST_S)
    middle = (np.maximum(first, begin_s) + np.minimum(last, end_s)) / 2.0
    progress = np.clip((middle - first) / length_s, 0.0, 1.0)
    context = table["prompt_tokens"] + table["output_tokens"] * progress
    return WorkDone(
        prefill_tokens=table["prefill_tokens"] * prefilled,
        output_tokens=outputs,
        context_tokens=outputs * context,
    )


def _share(begin: Floats, end: Floats, from_s: float, to_s: float) -> Floats:
    """Return which share of [begin, end) lies in [from_s, to_s); a moment lies in it or not."""
    length = end - begin
    inside = np.clip(np.minimum(end, to_s) - np.maximum(begin, from_s), 0.0, None)
    moment = ((begin >= from_s) & (begin < to_s)).astype(np.float64)
    return np.where(length > DUST_S, inside / np.maximum(length, DUST_S), moment)


def busy_fraction(table: NDArray[np.void], begin_s: float, end_s: float) -> float:
    """Return the share of a time in which at least one request of a table was under way."""
    begins, ends = np.clip(table["begin_s"], begin_s, end_s), np.clip(table["end_s"], begin_s, end_s)
    order = np.argsort(begins, kind="stable")
    begins, ends = begins[order], ends[order]
    if not len(begins):
        return 0.0
    before = np.concatenate(([begin_s], np.maximum.accumulate(ends)[:-1]))
    return float(np.sum(np.clip(ends - np.maximum(begins, before), 0.0, None)) / (end_s - begin_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlogged:
    """Work that the engine counted and no logged request explains."""

    prefill_tokens: float = 0.0
    output_tokens: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shares:
    """How the joules of one interval are shared.

    Raises:
        ArithmeticError: A share is negative, or they do not add up to the energy.
    """

    energy_j: float
    idle_j: float
    """Of the time without any request."""
    unattributed_j: float
    """Of work that no request explains."""
    prefill_j: Floats
    """Each request's, by its position in the table."""
    decode_j: Floats

    def __post_init__(self) -> None:
        parts = (self.idle_j, self.unattributed_j, *self.prefill_j.tolist(), *self.decode_j.tolist())
        if min(parts) < 0:
            msg = f"a share of {self.energy_j!r} J is negative: {min(parts)!r} J"
            raise ArithmeticError(msg)
        if not math.isclose(math.fsum(parts), self.energy_j, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            msg = f"the shares sum to {math.fsum(parts)!r} J, not to {self.energy_j!r} J"
            raise ArithmeticError(msg)


def share_energy(
    energy_j: float, idle_j: float, work: WorkDone, unlogged: Unlogged, weights: TokenWeights
) -> Shares:
    """Share the energy of an interval.

    Args:
        energy_j: What the meter says.
        idle_j: What of it belongs to the time without any request.
        work: What the logged requests had done.
        unlogged: What else the engine counted; its context is taken to be that of the logged requests.
        weights: What tokens cost relative to each other.
    """
    prefill = weights.prompt_weight * work.prefill_tokens
    decode = weights.output_weight * work.output_tokens + weights.context_weight * work.context_tokens
    outputs = float(work.output_tokens.sum())
    context = float(work.context_tokens.sum()) / outputs if outputs > 0 else 0.0
    other = weights.prompt_weight * unlogged.prefill_tokens + unlogged.output_tokens * (
        weights.output_weight + weights.context_weight * context
    )
    total = float(prefill.sum() + decode.sum()) + other
    busy_j = energy_j - idle_j
    if total <= 0:
        nothing = np.zeros_like(prefill)
        return Shares(energy_j=energy_j, idle_j=idle_j, unattributed_j=busy_j, prefill_j=nothing, decode_j=nothing)
    prefill_j, decode_j = busy_j * prefill / total, busy_j * decode / total
    logged_j = float(prefill_j.sum() + decode_j.sum())
    # By difference, so that nothing is lost to rounding; with everything logged it is the rounding alone.
    rest_j = max(0.0, busy_j - logged_j) if other > 0 else 0.0
    return Shares(energy_j=energy_j, idle_j=idle_j, unattributed_j=rest_j, prefill_j=prefill_j, decode_j=decode_j)
