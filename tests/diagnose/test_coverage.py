"""How often 90 % intervals hold the truth, on synthetic runs whose parts are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from joulemap.diagnose.diagnosis import Part
from joulemap.diagnose.ledger import PARTS, ledger_of, measurement_of, modelled_parts
from joulemap.diagnose.modelled import Modelled, energy_per_output, modelled_forms, seconds_per_output_step
from joulemap.physics.arrays import Floats
from joulemap.predict.calibration import ENERGY
from joulemap.store.run_store import RunStore

WORLDS = 6
NOISE = 0.04
"""Relative standard deviation of a synthetic measurement: the study's repeats scatter by 2 to 7 %."""
CLAIMED = tuple(part for part in PARTS if part is not Part.UNEXPLAINED)
LEAST = 1e-3
"""Share of the energy from which a part counts: what is nothing is not worth an interval."""


def coverage(form: Modelled, frame: pl.DataFrame, *, structure: bool, seed: int) -> dict[Part, float]:
    """Return the share of synthetic runs whose true part lies in its interval.

    A world is a vector of coefficients drawn from the calibration's covariance; with ``structure`` each part's
    energy and the time of a step are also off by what held-out backbones show of the form's error.
    """
    random = np.random.default_rng(seed)
    mean, covariance = form.calibration.vector, form.calibration.covariance
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    held, counted = dict.fromkeys(CLAIMED, 0), dict.fromkeys(CLAIMED, 0)
    for _ in range(WORLDS):
        terms = form.rows.terms(mean + root @ random.standard_normal(len(mean)))
        slower = _factor(form, "output_throughput_per_s", random) if structure else np.ones(len(form))
        outputs = measurement_of(frame).outputs_per_step
        exact = replace(
            measurement_of(frame),
            energy_j=energy_per_output(terms),
            step_s=seconds_per_output_step(terms) * slower,
            power_w=terms.power_w / slower,
            outputs_per_step=outputs,
        )
        truth = modelled_parts(terms, exact)
        if structure:
            truth = {part: joules * _factor(form, ENERGY, random) for part, joules in truth.items()}
        total = sum(truth.values(), start=np.zeros(len(form)))
        seen = replace(
            exact,
            energy_j=total * np.exp(NOISE * random.standard_normal(len(form))),
            step_s=exact.step_s * np.exp(NOISE * random.standard_normal(len(form))),
        )
        seen = replace(seen, power_w=seen.energy_j * outputs / seen.step_s)
        ledger = ledger_of(form, seen)
        for position, part in enumerate(PARTS):
            if part is Part.UNEXPLAINED:
                continue
            matters = truth[part] > LEAST * total
            inside = (ledger.low_j[position] <= truth[part]) & (truth[part] <= ledger.high_j[position])
            held[part] += int((inside & matters).sum())
            counted[part] += int(matters.sum())
    return {part: held[part] / counted[part] for part in CLAIMED if counted[part] > 50}


def _factor(form: Modelled, quantity: str, random: np.random.Generator) -> Floats:
    return np.asarray(np.exp(form.deviation(quantity) * random.standard_normal(len(form))))


@pytest.mark.parametrize("structure", [False, True])
def test_intervals_hold_the_truth(study_store: RunStore, structure: bool) -> None:
    for form in modelled_forms(study_store.frame):
        frame = study_store.frame[form.index.tolist()]
        shares = coverage(form, frame, structure=structure, seed=11)
        assert shares
        assert np.mean(list(shares.values())) >= 0.85
        assert min(shares.values()) >= 0.70
