"""What binds a configuration: the limit whose twofold relief would save the most energy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.diagnose.diagnosis import Bound
from joulemap.diagnose.ledger import Measurement, Times, dynamic_energy, static_power
from joulemap.diagnose.modelled import LIMITS, REMOVED, TWOFOLD, Modelled, energy_per_output
from joulemap.diagnose.series import Curves, Series
from joulemap.physics.arrays import Floats
from joulemap.predict.language import LanguageTerms
from joulemap.predict.language_rows import LanguageRows

BATCH_BOUNDS = (Bound.MEMORY_CAPACITY, Bound.APPLICATION_LIMIT, Bound.UNDER_FILLED)
"""The limits that act through the batch; which of them holds it is told by :func:`batch_holder`."""
FILLED = 0.85
"""A batch at this share of its configured ceiling fills it."""
ROOM = 0.6
"""A batch below this share of what memory holds has room: the ceiling that memory sets is known to about a factor
of 1.5, so that less would be a guess."""
MEMORY_FULL = 0.85
"""KV-cache utilisation from which memory, not anything else, holds the batch."""
UNSATURATED = 1.15
"""Gain of a doubled batch from which a curve is not saturated."""
STARVED = 0.3
"""Share of a step spent waiting from which the host is the cause, and the batch its effect."""
BATCH_UPSTREAM = 1.15
"""By how much the batch is preferred to the traffic and arithmetic that it is spread over: a cause to its effects.
Waiting for the host, which holds the batch down, is preferred by one plus the share of the step that it takes."""
WITHIN_REACH = 0.3
"""A sweep that ended at this share of the modelled ceiling or more may have ended for want of memory."""
WAITED = 0.15
"""Share of a step that a GPU must have waited for a batch that is not filled to be laid to the host."""
HELD_SHARE, HELD_AT_LEAST = 0.1, 4.0
"""Share of the requests in flight, and number, from which a front end is said to hold them: on a server that keeps
up 1–2 % are on their way."""
NEXT_BATCH = 1.25
"""Ratio of two batches from which a gain can be read off the runs measured there."""
ORDER = tuple(Bound)


@dataclass(frozen=True, slots=True, eq=False)
class SeenOfBatch:
    """What was measured of why a batch is no larger; arrays of one length."""

    kv_utilization: Floats
    """Measured KV-cache utilisation; not a number where it was not measured."""
    requests_waiting: Floats
    """Measured requests in the engine's queue; likewise."""
    held_outside: NDArray[np.bool_]
    """The clients kept more requests in flight than the engine ran or queued: its front end held the rest."""
    sweep_ended: NDArray[np.bool_]
    """The run is its series' largest batch, while the same model and task went further with more memory."""
    went_further: NDArray[np.bool_]
    """A larger batch was measured on the same configuration: memory has room."""
    gain_above_ratio: Floats
    """Energy now over energy at twice the batch, read off the next larger batch measured; not a number at the
    largest."""
    gain_below_ratio: Floats
    """Energy at half the batch over energy now, read off the next smaller batch measured; likewise."""
    arrivals_set_it: NDArray[np.bool_]
    """Requests arrive at a rate, and no ceiling is known: what ran together is what came."""
    text_only: NDArray[np.bool_]
    """Prompts are text, which hosts prepare fast."""


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Gains of many runs."""

    gain_ratio: Floats
    """Energy now over energy with the limit relieved twofold, shape (bounds, runs), in the order of ``ORDER``."""
    ranked_ratio: Floats
    """The same, causes preferred to their effects: what the verdict is read from."""
    batch_gain_ratio: Floats
    """Energy now over energy at twice the batch, whatever holds it."""
    batch_holder: list[Bound]
    """Which limit holds each run's batch."""

    def of(self, run: int) -> tuple[Bound, float, Bound | None]:
        """Return a run's bound, its margin over the next in the ranking (1 is a tie), and the next."""
        order = np.argsort(-self.ranked_ratio[:, run], kind="stable")
        first, second = order[0], order[1]
        margin = float(self.ranked_ratio[first, run] / self.ranked_ratio[second, run])
        next_bound = ORDER[second] if self.gain_ratio[second, run] > 1.0 else None
        return ORDER[first], margin, next_bound


def bounds_of(modelled: Modelled, measured: Measurement, times: Times, seen: SeenOfBatch) -> Bounds:
    """Return the gain from relieving each limit twofold.

    Args:
        modelled: The runs of one form.
        measured: What was measured of them.
        times: How their steps divide.
        seen: What else was seen of the batch.
    """
    now = energy_per_output(modelled.terms)
    gains = np.ones((len(ORDER), len(modelled)))
    for bound in LIMITS[modelled.form]:
        gains[ORDER.index(bound)] = now / energy_per_output(modelled.relieved(bound))
    # A quicker host saves no more than the waiting that was seen, whatever the model expects of hosts.
    halved, removed = (_waiting_gain(modelled, measured, times, factor) for factor in (TWOFOLD, REMOVED))
    host_gain = np.clip(gains[ORDER.index(Bound.HOST)], halved, removed)
    # Replicas that wait for each other look like GPUs that wait for their host; text is quickly prepared.
    replicas_wait = _replicated(modelled) & seen.text_only
    gains[ORDER.index(Bound.HOST)] = np.where(replicas_wait, 1.0, host_gain)
    gains[ORDER.index(Bound.IMBALANCE)] = np.maximum(
        _imbalance_gain(modelled, now), np.where(replicas_wait, halved, 1.0)
    )
    gains = np.maximum(gains, 1.0)
    starved = times.starved_s > STARVED * measured.step_s
    holders = batch_holder(modelled, measured, times, seen)
    batch_gains = np.maximum(_batch_gain(modelled, now, seen, starved), 1.0)
    waiting_j = static_power(modelled.terms, measured) * times.starved_s / measured.outputs_per_step
    batch_gains = _beside_waiting(batch_gains, np.clip(waiting_j / measured.energy_j, 0.0, 1.0))
    for run, (holder, gain) in enumerate(zip(holders, batch_gains, strict=True)):
        gains[ORDER.index(holder), run] = max(gain, gains[ORDER.index(holder), run])
    preference = np.ones_like(gains)
    for bound in BATCH_BOUNDS:
        preference[ORDER.index(bound)] = np.where(batch_gains >= UNSATURATED, BATCH_UPSTREAM, 1.0)
    waiting_first = np.where(starved, 1.0 + times.starved_s / measured.step_s, 1.0)
    preference[ORDER.index(Bound.HOST)] = np.where(replicas_wait, 1.0, waiting_first)
    preference[ORDER.index(Bound.IMBALANCE)] = np.where(replicas_wait, waiting_first, 1.0)
    return Bounds(
        gain_ratio=gains, ranked_ratio=gains * preference, batch_gain_ratio=batch_gains, batch_holder=holders
    )


def batch_holder(modelled: Modelled, measured: Measurement, times: Times, seen: SeenOfBatch) -> list[Bound]:
    """Return which limit keeps each run's batch from growing.

    A batch that fills its configured ceiling is held by the ceiling if memory has room for much more, else by
    memory. One that does not is held by memory if that is full, by the host if the GPU waits, else by demand.
    """
    rows, terms = modelled.rows.rows, modelled.terms
    if not isinstance(rows, LanguageRows) or not isinstance(terms, LanguageTerms):
        # A pipeline's batch is what it was called with; memory sets the end, which is not modelled.
        return [Bound.APPLICATION_LIMIT] * len(modelled)
    fills = (rows.batch >= FILLED * rows.ceiling) & ~seen.arrivals_set_it
    batch = modelled.batch()
    # A filled ceiling explains the batch by itself, up to where memory is as likely full.
    room = batch < np.where(fills, MEMORY_FULL, ROOM) * terms.batch_ceiling
    # Where the engine told its use of the cache, that counts and not the model's estimate of what fits.
    known = ~np.isnan(seen.kv_utilization)
    room = np.where(known, seen.kv_utilization < MEMORY_FULL, room)
    starved = times.starved_s > WAITED * measured.step_s
    ended = seen.sweep_ended & (batch > WITHIN_REACH * terms.batch_ceiling)
    room &= ~(ended & ~known & (times.starved_s < STARVED * measured.step_s))
    room |= seen.went_further
    queued = np.nan_to_num(seen.requests_waiting, nan=0.0) > 1.0
    holders = []
    for run in range(len(modelled)):
        if not room[run]:
            holders.append(Bound.MEMORY_CAPACITY)
        elif fills[run]:
            holders.append(Bound.APPLICATION_LIMIT)
        elif starved[run] or queued[run] or seen.held_outside[run]:
            holders.append(Bound.HOST)
        else:
            holders.append(Bound.UNDER_FILLED)
    return holders


def _batch_gain(modelled: Modelled, now: Floats, seen: SeenOfBatch, waits: NDArray[np.bool_]) -> Floats:
    """Return the gain of twice the batch: measured where a larger batch was, else the model's.

    Doubling the batch again cannot save more than doubling it last did: weights and static power are shared by ever
    more requests, so that curves flatten. A measured last step therefore bounds the model's. Neighbours of a run
    that waits for its host may not have waited: they tell no more than the model.
    """
    doubled = modelled.with_batch(np.asarray(modelled.rows.rows.batch) * TWOFOLD)
    modelled_gain = now / energy_per_output(doubled.terms(modelled.calibration.vector))
    bounded = np.fmin(modelled_gain, seen.gain_below_ratio)
    above = np.where(waits, np.fmin(modelled_gain, seen.gain_above_ratio), seen.gain_above_ratio)
    return np.where(np.isnan(seen.gain_above_ratio), bounded, above)


def _beside_waiting(gains: Floats, waiting_share: Floats) -> Floats:
    """Return gains of a batch that leave alone what is spent on waiting: more requests do not quicken a host."""
    saved = (1.0 - waiting_share) * (1.0 - 1.0 / gains)
    return np.asarray(1.0 / (1.0 - saved))


def _replicated(modelled: Modelled) -> NDArray[np.bool_]:
    rows = modelled.rows.rows
    return rows.replicas > 1 if isinstance(rows, LanguageRows) else np.zeros(len(modelled), dtype=np.bool_)


def _imbalance_gain(modelled: Modelled, now: Floats) -> Floats:
    rows = modelled.rows.rows
    if not isinstance(rows, LanguageRows):
        return np.ones(len(modelled))
    balanced = replace(modelled.rows, rows=replace(rows, replicas=np.ones(len(rows))))
    gain = now / energy_per_output(balanced.terms(modelled.calibration.vector))
    # Dividing attention among replicas or not is all or nothing; half of it, in the logarithm, is comparable.
    return np.where(rows.replicas > 1, np.sqrt(np.maximum(gain, 1.0)), 1.0)


def _waiting_gain(modelled: Modelled, measured: Measurement, times: Times, factor: float) -> Floats:
    """Return the gain from dividing the time that the GPU was seen to wait by a factor."""
    static_w = static_power(modelled.terms, measured)
    now = dynamic_energy(modelled.terms) + static_w * measured.step_s
    return np.asarray(now / (now - static_w * times.starved_s * (1.0 - 1.0 / factor)))


def batch_seen(frame: pl.DataFrame, curves: Curves) -> SeenOfBatch:
    """Return what was measured, in the runs and their neighbours, of why their batches are no larger.

    Args:
        frame: The runs, with series columns.
        curves: The measured runs of the store.
    """
    furthest: dict[tuple[object, object], float] = {}
    for series in curves.series:
        key = (series.knobs["task"], series.knobs["base_model"])
        furthest[key] = max(furthest.get(key, 0.0), series.largest_ceiling or 0.0)
    ended, further, above, below, held = [], [], [], [], []
    for row in frame.iter_rows(named=True):
        series_of_run = curves.of(row)
        own = series_of_run.largest_ceiling if series_of_run else None
        key = (row["task"], row["base_model"])
        ended.append(own is not None and row["batch_ceiling"] == own and own < furthest.get(key, 0.0))
        larger, smaller = neighbouring_gains(row, series_of_run)
        further.append(larger is not None)
        above.append(np.nan if larger is None else larger)
        below.append(np.nan if smaller is None else smaller)
        held.append(held_outside(row) is not None)

    def column(name: str) -> Floats:
        return np.asarray(frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)

    return SeenOfBatch(
        kv_utilization=column("kv_cache_utilization"),
        requests_waiting=column("requests_waiting"),
        held_outside=np.array(held, dtype=bool),
        sweep_ended=np.array(ended, dtype=bool),
        went_further=np.array(further, dtype=bool),
        gain_above_ratio=np.array(above, dtype=np.float64),
        gain_below_ratio=np.array(below, dtype=np.float64),
        arrivals_set_it=_told(frame, pl.col("request_rate_per_s").is_not_null() & pl.col("max_num_seqs").is_null()),
        text_only=_told(frame, pl.col("input_modality").fill_null("text") == "text"),
    )


def held_outside(row: Mapping[str, Any]) -> float | None:
    """Return the requests that the clients had in flight and the engine neither ran nor queued.

    ``None`` where they are too few to tell from those on their way, or where one of the three is not known.
    """
    numbers = [row[name] for name in ("max_concurrency", "batch_size", "requests_waiting")]
    if any(number is None for number in numbers):
        return None
    in_flight, running, waiting = numbers
    held = float(in_flight - running - waiting)
    return held if held >= max(HELD_SHARE * in_flight, HELD_AT_LEAST) else None


def _told(frame: pl.DataFrame, condition: pl.Expr) -> NDArray[np.bool_]:
    return np.asarray(frame.select(condition).to_series().to_numpy(), dtype=np.bool_)


def neighbouring_gains(row: Mapping[str, Any], series: Series | None) -> tuple[float | None, float | None]:
    """Return what a doubling of the batch gains, by the next larger and the next smaller batch of a run's curve.

    Gains are ratios of energies, scaled to one doubling; ``None`` where no run is at least ``NEXT_BATCH`` away.
    """
    if series is None or not row["batch_size"]:
        return None, None
    gains: list[float | None] = []
    for direction in (1.0, -1.0):
        apart = [(direction * math.log2(r["batch_size"] / row["batch_size"]), r) for r in series.rows if _usable(r)]
        beyond = [(doublings, r) for doublings, r in apart if doublings >= math.log2(NEXT_BATCH)]
        if not beyond:
            gains.append(None)
            continue
        doublings, nearest = min(beyond, key=lambda pair: pair[0])
        saved = direction * math.log(row["energy_per_output_j"] / nearest["energy_per_output_j"])
        gains.append(math.exp(saved / doublings))
    return gains[0], gains[1]


def _usable(row: Mapping[str, Any]) -> bool:
    return bool(row["batch_size"] and row["energy_per_output_j"])
