"""Whether a level may be believed, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from joulemap.measure.meters.energy import MAX_GAP_S
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.level import LevelOutcome, Pace, share_full
from joulemap.measure.session.steady import TOLERATED_DRIFT, bin_edges, bin_mean, bin_rate, trend
from joulemap.measure.session.windows import FEWEST_WINDOWS, Estimate
from joulemap.measure.session.work import Work, WorkDone
from joulemap.records import Validity

FULL_MOST_OF_THE_TIME = 0.95
"""Share of a window's time in which a closed loop's batch must have been full."""
TOLERATED_WARMING_C = 5.0
"""A GPU that warms by more than this inside the windows leaks noticeably more at their end."""
TOLERATED_CLOCK_STEP_S = 1.0
"""Durations stand on the monotonic clock; a larger step spoils the alignment with other logs."""
CONTRADICTION = 0.25
"""A counter and an integrated power that differ by more than this share cannot both be believed."""
USELESS_WIDTH = 0.5
"""An interval wider than this to each side says nothing."""
SLACK = 1.5
"""An interval up to so many times as wide as was asked for is still used, with a note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict stands on."""

    work: Work
    instruments: Instruments
    outcome: LevelOutcome
    done: WorkDone
    estimate: Estimate
    pace: Pace
    faults: tuple[str, ...] = ()
    """Known before anything was measured."""


def judge(evidence: Evidence) -> Validity:
    """Return the verdict: faults make a run invalid, notes are for careful readers."""
    faults = [
        *evidence.faults,
        *_coverage(evidence),
        *_load(evidence),
        *_steadiness(evidence),
        *evidence.done.faults,
    ]
    notes = [*_notes(evidence), *evidence.done.notes]
    reasons = (*dict.fromkeys(faults), *dict.fromkeys(notes))
    return Validity(valid=not faults, reasons=reasons)


def _coverage(evidence: Evidence) -> Iterator[str]:
    """Yield what is wrong with the meters' coverage of the windows."""
    outcome = evidence.outcome
    if len(outcome.windows) < FEWEST_WINDOWS:
        yield f"too short: {len(outcome.windows)} complete windows, {FEWEST_WINDOWS} are needed"
    shortest_s = min(w.duration_s for w in outcome.windows)
    if shortest_s < evidence.pace.window_s - 1e-6:
        yield f"a window of {shortest_s:.1f} s is shorter than {evidence.pace.window_s:g} s"
    whole = evidence.instruments.energy(outcome.begin_s, outcome.end_s)
    if isinstance(whole, str):
        yield f"energy not covered: {whole}"
    for energy in evidence.instruments.energies(outcome.begin_s, outcome.end_s):
        for device in energy.of(evidence.instruments.work_kind):
            if device.longest_gap_s > MAX_GAP_S:
                yield f"meter gap: {device.device} was silent for {device.longest_gap_s:.1f} s"
            if device.disagreement is not None and abs(device.disagreement) > CONTRADICTION:
                yield (
                    f"the meter contradicts itself: {device.device} counted {device.counter_j:.0f} J, but power "
                    f"sums up to {device.integrated_j:.0f} J"
                )
    if outcome.error is not None:
        yield f"ended early: {outcome.error.message}"
    width = evidence.estimate.half_width_fraction
    if width is not None and width > USELESS_WIDTH:
        yield f"not repeatable: the windows differ so much that the 90 % interval is ±{width:.0%}"
    for step_s in evidence.instruments.clock_steps_s(outcome.begin_s, outcome.end_s):
        if abs(step_s) > TOLERATED_CLOCK_STEP_S:
            yield f"clock step: the wall clock was set by {step_s:+.1f} s during the windows"


def _load(evidence: Evidence) -> Iterator[str]:
    """Yield what is wrong with the load."""
    outcome, target = evidence.outcome, evidence.work.target_in_flight
    if evidence.done.outputs <= 0:
        yield "no output: nothing came out within the windows"
    if target is not None:
        share = share_full(evidence.work.progress(), target, outcome.begin_s, outcome.end_s)
        if share < FULL_MOST_OF_THE_TIME:
            yield f"batch not full: the intended {target:g} in flight were there {share:.0%} of the time"


def _steadiness(evidence: Evidence) -> Iterator[str]:
    """Yield which quantity drifted over the windows."""
    outcome = evidence.outcome
    values = []
    if evidence.work.boundaries_s() is None:
        width_s = evidence.pace.bin_s
        count = int((outcome.end_s - outcome.begin_s) / width_s + 1e-9)
        edges = bin_edges(outcome.begin_s, width_s, count)
        progress = evidence.work.progress()
        values.append(("throughput", bin_rate(progress.time_s, progress.outputs, edges)))
        power_t, power = evidence.instruments.power_series(outcome.begin_s - 1.0, outcome.end_s + 1.0)
        if len(power_t) > 1:
            values.append(("power", bin_mean(power_t, power, edges)))
    else:
        # Inside a unit of work power changes by its nature; whole units are what may not drift.
        durations = np.array([w.duration_s for w in outcome.windows])
        values.append(("throughput", np.array([w.outputs for w in outcome.windows]) / durations))
        values.append(("power", np.array([w.energy_j for w in outcome.windows]) / durations))
    for name, series in values:
        line = trend(series)
        if line.drifting:
            yield (
                f"not steady: {name} drifted by {line.drift_fraction:+.1%} over the windows "
                f"(more than {TOLERATED_DRIFT:.0%}, odds of chance {line.p_value:.1g})"
            )


def _notes(evidence: Evidence) -> Iterator[str]:
    """Yield what does not invalidate a run but bears on it."""
    outcome, instruments = evidence.outcome, evidence.instruments
    if not outcome.settled:
        yield "the transient was not seen to end before the windows began"
    width, wanted = evidence.estimate.half_width_fraction, evidence.pace.confidence_width_fraction
    if width is not None and SLACK * wanted < width <= USELESS_WIDTH:
        yield f"the 90 % interval is ±{width:.1%}, wider than the ±{wanted:.1%} asked for"
    times, degrees = instruments.temperature_series(outcome.begin_s, outcome.end_s)
    if len(times) > 1:
        fifth = max(1, len(degrees) // 5)
        warming_c = float(degrees[-fifth:].mean() - degrees[:fifth].mean())
        if abs(warming_c) > TOLERATED_WARMING_C:
            yield f"thermal drift: the temperature changed by {warming_c:+.0f} °C over the windows"
    if outcome.interrupted:
        yield "interrupted: the complete windows before Ctrl-C are kept"
    for energy in instruments.energies(outcome.begin_s, outcome.end_s):
        yield from energy.warnings()
    for step_s in instruments.clock_steps_s(outcome.begin_s, outcome.end_s):
        if abs(step_s) <= TOLERATED_CLOCK_STEP_S:
            yield f"the wall clock was set by {step_s:+.2f} s during the windows"
