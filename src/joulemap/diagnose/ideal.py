"""The best that the hardware could do with the same work, and what stands between a run and it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from joulemap.diagnose.diagnosis import Bound
from joulemap.diagnose.ledger import dynamic_energy
from joulemap.diagnose.modelled import REMOVED, Modelled, Terms, energy_per_output, seconds_per_output_step
from joulemap.physics.arrays import Floats
from joulemap.predict.language_rows import LanguageRows

ROOFLINE = (
    *("bandwidth", "expert_bandwidth", "kv_bandwidth", "latent_bandwidth"),
    *("arithmetic", "arithmetic_fp8", "arithmetic_prefill"),
    *("matrix", "attention", "elementwise", "decode_arithmetic"),
)
"""Shares of a datasheet rate; at the roofline each is 1."""
GONE = ("sample_element", "sample_sequence", "tile_rows_blocked", "tile_rows", "query_passes")
"""Work that no model asks for."""
NAMES = ("unexplained", "host", "launch", "communication", "imbalance", "kernels", "batch")
"""Factors between a run and the ideal, in order."""
LARGEST_BATCH_GAIN = 64.0


def ideal_energy(modelled: Modelled, energy_j: Floats) -> tuple[Floats, Floats]:
    """Return the ideal joules per output, and the factors that lead from it to the measured energy.

    Limits are taken away one after the other: waiting for the host, launches, communication, imbalance of
    replicas, kernels slower than the roofline, and last a batch below what memory holds. Power above the cap
    lengthens the step, as clocks fall.

    Args:
        modelled: The runs.
        energy_j: Their measured joules per output.

    Returns:
        The ideal, shape (runs,), and the factors of ``NAMES``, shape (factors, runs).
    """
    stages = [energy_j, energy_per_output(modelled.terms)]
    removed: list[Bound] = []
    for bound in (Bound.HOST, Bound.LAUNCH_OVERHEAD, Bound.COMMUNICATION):
        removed.append(bound)
        vector = modelled.relieved_vector(removed, REMOVED)
        stages.append(energy_per_output(modelled.rows.terms(vector)))
    balanced = _balanced(modelled)
    vector = modelled.relieved_vector(removed, REMOVED)
    stages.append(energy_per_output(balanced.rows.terms(vector)))
    ideal = _at_roofline(modelled, vector)
    uncapped = _without_cap(balanced)
    # A power cap also lowers clocks and voltage, and with them the energy of each operation: as much as it did
    # where the run stood, it is taken to do at the roofline.
    held = dynamic_energy(balanced.rows.terms(modelled.calibration.vector)) / dynamic_energy(
        uncapped.rows.terms(modelled.calibration.vector)
    )
    roofline = _throttled(uncapped, uncapped.rows.terms(ideal), held)
    stages.append(np.minimum(roofline, stages[-1]))
    full = _without_cap(replace(balanced, rows=balanced.with_batch(_full_batch(modelled))))
    stages.append(np.minimum(_throttled(full, full.rows.terms(ideal), held), stages[-1]))
    factors = np.stack([before / after for before, after in itertools.pairwise(stages)])
    return stages[-1], factors


def _balanced(modelled: Modelled) -> Modelled:
    rows = modelled.rows.rows
    if not isinstance(rows, LanguageRows):
        return modelled
    return replace(modelled, rows=replace(modelled.rows, rows=replace(rows, replicas=np.ones(len(rows)))))


def _without_cap(modelled: Modelled) -> Modelled:
    rows = modelled.rows.rows
    uncapped = replace(rows, power_cap_w=rows.power_cap_w * REMOVED)
    return replace(modelled, rows=replace(modelled.rows, rows=uncapped))


def _at_roofline(modelled: Modelled, vector: Floats) -> Floats:
    coefficients = modelled.rows.coefficients
    ideal = vector.copy()
    for position, name in enumerate(coefficients.names()):
        plain, _, gpu = name.partition("@")
        if plain in ROOFLINE:
            ideal[position] = 0.0
        elif plain in GONE and not gpu:
            ideal[position] -= np.log(REMOVED)
    return ideal


def _full_batch(modelled: Modelled) -> Floats:
    """Return the batch of one copy that memory holds."""
    rows = modelled.rows.rows
    batch = np.asarray(rows.batch, dtype=np.float64)
    if not isinstance(rows, LanguageRows):
        return batch
    capacity = np.clip(modelled.capacity() / rows.copies, batch, batch * LARGEST_BATCH_GAIN)
    return np.where(np.isfinite(capacity), capacity, batch)


def _throttled(modelled: Modelled, terms: Terms, held: Floats) -> Floats:
    """Return joules per output of uncapped terms when power above the cap lengthens the step instead."""
    rows = modelled.rows.rows
    step_s = seconds_per_output_step(terms)
    static_w = terms.power_parts_w["static"] + terms.power_parts_w["starved"]
    dynamic_j = held * dynamic_energy(terms)
    cap_w = rows.power_cap_w / REMOVED * rows.gpus
    longest = np.maximum(step_s, dynamic_j / np.maximum(cap_w - static_w, 1e-9))
    outputs = terms.output_throughput_per_s * step_s
    return (dynamic_j + static_w * longest) / outputs
