"""The ledger: a run's measured joules per output, split into parts that sum to it exactly.

Energies of traffic and arithmetic belong to the work, so the model's figures for the work of a step are taken as
they are; static energy belongs to time, so it is static power over the time that was *measured*. What the parts
fall short of the measurement is unexplained. Where they exceed it they are scaled down together, because the
model's absolute level is less certain than its proportions; how much is told as ``model_excess_ratio``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from joulemap.diagnose.diagnosis import Part
from joulemap.diagnose.modelled import Modelled, Terms, seconds_per_output_step
from joulemap.physics.arrays import Floats
from joulemap.predict.calibration import ENERGY
from joulemap.predict.language import LanguageTerms

PARTS = tuple(part for part in Part if part is not Part.DYNAMIC)
"""Parts of a modelled ledger, in order; ``unexplained`` is the last."""
MEASUREMENT_SPREAD = 0.04
"""Relative standard deviation of one measured energy: the study's repeats scatter by 2 to 7 %."""
WIDENING = 1.25
"""By how much intervals must be wider than the drawn errors to hold the truth of synthetic runs nine times in ten:
the division starts from estimates that err themselves."""

RESAMPLED_DEVIATION = {
    Part.WEIGHT_TRAFFIC: 0.5,
    Part.KV_TRAFFIC: 0.25,
    Part.COMPUTE: 0.1,
    Part.COMMUNICATION: 0.4,
    Part.PREFILL: 0.2,
}
"""Further deviation (logarithm) of parts that trade places with each other when the calibration is made on other
backbones: with it, nine in ten of such shares lie inside the quoted intervals (``scripts/bootstrap_shares.py``)."""

BUSY_SM_UTILIZATION = 0.4
"""Lowest share of multiprocessors at work seen on a GPU that never waited: 0.39 to 0.86 where an H200 replayed CUDA
graphs of one decoding step at batch 1 to 256. Less than that is waiting."""
_ROUNDING = 1e-12
"""Share of the total below which a rest is the rounding of a sum."""
NO_WAIT = 1e-6
"""Share of a step below which waiting is an artefact of smooth formulas."""

PartArrays = dict[Part, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What was measured of the runs of one form; arrays of one length."""

    energy_j: Floats
    """Joules per output."""
    power_w: Floats
    step_s: Floats
    """Time of one step or batch: the achieved batch over the measured throughput."""
    outputs_per_step: Floats
    loaded_idle_w: Floats
    """Measured power with the model loaded and no request; not a number where it was not measured."""
    sm_utilization: Floats
    """Measured share of multiprocessors that held work, averaged over time; likewise."""
    starved_fraction: Floats
    """Measured share of time without work; likewise."""


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """How the measured step divides, in seconds; arrays of one length."""

    working_s: Floats
    """Kernels that move data or calculate."""
    communication_s: Floats
    prefill_s: Floats
    launch_s: Floats
    starved_s: Floats
    """The GPU had nothing to do: the host or the queue kept it waiting."""
    unplaced_s: Floats
    """Measured time beyond the model's that draws power like work: slower work, not waiting."""


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """Ledgers of many runs: arrays of shape (parts, runs), joules per output."""

    parts_j: Floats
    low_j: Floats
    high_j: Floats
    model_excess_ratio: Floats
    """How many times the measurement the modelled parts were before scaling; 1 where they were below it."""


def measurement_of(frame: pl.DataFrame) -> Measurement:
    """Return what was measured of the runs as arrays."""

    def column(name: str) -> Floats:
        return np.asarray(frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)

    energy, power, throughput = map(column, ("energy_per_output_j", "power_w", "output_throughput_per_s"))
    # Any two of energy, power and throughput give the third.
    throughput = np.where(np.isnan(throughput), power / energy, throughput)
    power = np.where(np.isnan(power), energy * throughput, power)
    batch = column("batch_size")
    return Measurement(
        energy_j=energy,
        power_w=power,
        step_s=batch / throughput,
        outputs_per_step=batch,
        loaded_idle_w=column("loaded_idle_power_w"),
        sm_utilization=column("sm_utilization"),
        starved_fraction=column("starved_fraction"),
    )


def times_of(terms: Terms, measured: Measurement) -> Times:
    """Divide the measured step by the model's parts.

    Time beyond the model's is waiting as far as power fell as it does when a GPU waits: the energy above static
    must then be that of the modelled work. As far as that energy grew with the time, it was work.
    """
    modelled_s = seconds_per_output_step(terms)
    if isinstance(terms, LanguageTerms):
        step = terms.step_s
        working = step["weights"] + step["kv"] + step["sampling"]
        communication, prefill = step["communication"], step["prefill"]
        launch, starved = step["launch"], step["starved"]
    else:
        step = terms.batch_s
        working, communication = step["steps"] + step["decode"], step["communication"]
        prefill, launch, starved = np.zeros_like(working), step["start"], np.zeros_like(working)
    starved = np.maximum(starved, 0.0)
    longer = np.maximum(measured.step_s / modelled_s - 1.0, 0.0)
    # A run faster than the model waited less: hosts differ more from one to the next than kernels do.
    spared = np.maximum(modelled_s - measured.step_s, 0.0)
    static_w, dynamic_j = static_power(terms, measured), dynamic_energy(terms)
    seen_j = np.maximum((measured.power_w - static_w) * measured.step_s, 0.0)
    grown = np.divide(seen_j, dynamic_j, out=np.ones_like(seen_j), where=dynamic_j > 0) - 1.0
    waited = np.clip(1.0 - grown / np.maximum(longer, 1e-9), 0.0, 1.0)
    inferred = np.maximum(starved - spared, 0.0) + longer * modelled_s * waited
    # One that leaves no time for waiting did all its work in less: those parts shrink alike.
    shrink = np.minimum(measured.step_s / np.maximum(modelled_s - starved, 1e-12), 1.0)
    starved = np.clip(inferred, *_waiting_seen(measured))
    starved = np.where(starved < NO_WAIT * measured.step_s, 0.0, starved)
    # Time that counters show to be waiting is taken from all kinds of work alike.
    others = (working + communication + prefill + launch) * shrink
    shrink = shrink * np.minimum((measured.step_s - starved) / np.maximum(others, 1e-12), 1.0)
    busy = (working + communication + prefill + launch) * shrink
    return Times(
        working_s=working * shrink,
        communication_s=communication * shrink,
        prefill_s=prefill * shrink,
        launch_s=launch * shrink,
        starved_s=starved,
        unplaced_s=np.maximum(measured.step_s - starved - busy, 0.0),
    )


def _waiting_seen(measured: Measurement) -> tuple[Floats, Floats]:
    """Return the shortest and longest time without work that counters allow, in seconds.

    A multiprocessor without work is idle, but while others work the GPU does not wait: waiting is at most
    1 − utilisation. It is at least what utilisation falls short of the lowest that busy GPUs show.
    """
    seen = measured.sm_utilization
    longest = np.where(np.isnan(seen), 1.0, 1.0 - seen)
    shortest = np.where(np.isnan(seen), 0.0, np.maximum(1.0 - seen / BUSY_SM_UTILIZATION, 0.0))
    told = measured.starved_fraction
    longest, shortest = np.where(np.isnan(told), longest, told), np.where(np.isnan(told), shortest, told)
    return shortest * measured.step_s, longest * measured.step_s


def static_power(terms: Terms, measured: Measurement) -> Floats:
    """Return static power of all GPUs: measured loaded-idle power where there is one, else the model's."""
    modelled = terms.power_parts_w["static"] + terms.power_parts_w["starved"]
    return np.where(np.isnan(measured.loaded_idle_w), modelled, measured.loaded_idle_w)


def dynamic_energy(terms: Terms) -> Floats:
    """Return the modelled energy above static of one step or batch, joules."""
    above = terms.power_w - terms.power_parts_w["static"] - terms.power_parts_w["starved"]
    return above * seconds_per_output_step(terms)


def expected_power(terms: Terms, measured: Measurement) -> Floats:
    """Return the watts that GPUs draw that did the modelled work in the time that it took them."""
    longest_s = np.maximum(measured.step_s, seconds_per_output_step(terms))
    return static_power(terms, measured) + dynamic_energy(terms) / longest_s


def modelled_parts(terms: Terms, measured: Measurement) -> PartArrays:
    """Return the joules per output of every part but ``unexplained``, before they are fitted to the total."""
    times, power = times_of(terms, measured), terms.power_parts_w
    modelled_s = seconds_per_output_step(terms)
    static_w = static_power(terms, measured)
    waiting_s = times.launch_s + times.starved_s
    working_s = np.maximum(measured.step_s - waiting_s, 0.0)
    joules = {
        Part.STATIC_WORKING: static_w * working_s,
        Part.STATIC_STARVED: static_w * waiting_s + power["launch"] * modelled_s,
        Part.WEIGHT_TRAFFIC: power["weights"] * modelled_s,
        Part.KV_TRAFFIC: power["kv"] * modelled_s,
        Part.COMPUTE: power["compute"] * modelled_s,
        Part.COMMUNICATION: power["communication"] * modelled_s,
        Part.PREFILL: power["prefill"] * modelled_s,
    }
    return {part: value / measured.outputs_per_step for part, value in joules.items()}


def ledger_of(modelled: Modelled, measured: Measurement) -> Ledger:
    """Return the ledgers of the runs of one form, with 90 % intervals.

    The intervals hold the calibration's uncertainty, the scatter of a measurement, and the form's own error as it
    was found on backbones held out of the calibration: in the time of a step, and in each part's energy.
    """
    point, excess = fitted(modelled_parts(modelled.terms, measured), measured.energy_j)
    random = np.random.default_rng(1)
    part_deviation = WIDENING * modelled.deviation(ENERGY)
    deviations = {part: np.hypot(part_deviation, own) for part, own in RESAMPLED_DEVIATION.items()}
    drawn = []
    for terms, seen in drawn_measurements(modelled, measured):
        noise = np.exp(MEASUREMENT_SPREAD * random.standard_normal(len(modelled)))
        parts = {
            part: joules * np.exp(deviations.get(part, part_deviation) * random.standard_normal(len(modelled)))
            for part, joules in modelled_parts(terms, seen).items()
        }
        drawn.append(fitted(parts, measured.energy_j * noise)[0])
    low, high = np.quantile(np.stack(drawn), [0.05, 0.95], axis=0)
    return Ledger(
        parts_j=point, low_j=np.minimum(low, point), high_j=np.maximum(high, point), model_excess_ratio=excess
    )


def drawn_measurements(modelled: Modelled, measured: Measurement) -> Iterator[tuple[Terms, Measurement]]:
    """Yield what the form says for vectors drawn from its covariance, each beside the runs as they might be.

    The form's error in the time of a step is drawn as if the measured time were another: their ratio counts.
    """
    random = np.random.default_rng(2)
    deviation = modelled.deviation("output_throughput_per_s")
    for terms in modelled.draws():
        factor = np.exp(deviation * random.standard_normal(len(modelled)))
        yield terms, replace(measured, step_s=measured.step_s * factor, power_w=measured.power_w / factor)


def fitted(parts: Mapping[Part, Floats], total_j: Floats) -> tuple[Floats, Floats]:
    """Make parts sum to the total: the rest is unexplained, an excess is scaled down.

    Returns:
        Parts in the order of ``PARTS``, shape (parts, runs), and the factor by which they exceeded the total.
    """
    stacked = np.stack([parts[part] for part in PARTS if part is not Part.UNEXPLAINED])
    excess = np.maximum(stacked.sum(axis=0) / total_j, 1.0)
    scaled = stacked / excess
    rest = total_j - scaled.sum(axis=0)
    rest[rest < _ROUNDING * total_j] = 0.0  # what is left of a sum of floats is no part
    return np.vstack([scaled, rest]), excess
