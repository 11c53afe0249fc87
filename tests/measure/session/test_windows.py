"""The ratio estimator by hand-worked values and by its coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from joulemap.measure.session.windows import Window, estimate, ratio


def window(energy_j: float, outputs: float, *, duration_s: float = 5.0) -> Window:
    return Window(
        begin_s=0.0,
        end_s=duration_s,
        begin_unix_s=1e9,
        energy_j=energy_j,
        outputs=outputs,
        completed_requests=1.0,
        in_flight=8.0,
    )


def test_a_hand_worked_ratio() -> None:
    # R = 30 / 6 = 5; residuals -1, 0, 1; s² = 2 / 2 = 1; half-width = t(0.95, 2) · 1 / (√3 · 2) = 2.9200 / 3.4641
    found = ratio([9.0, 10.0, 11.0], [2.0, 2.0, 2.0])
    assert found.value == 5.0
    assert found.half_width == pytest.approx(2.91999 / (2.0 * math.sqrt(3.0)), rel=1e-5)


def test_two_windows_tell_no_spread() -> None:
    assert ratio([1.0, 2.0], [1.0, 1.0]).half_width is None


def test_a_ratio_needs_a_denominator() -> None:
    with pytest.raises(ValueError, match="positive denominator"):
        ratio([1.0], [0.0])


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    hits = 0
    for _ in range(1000):
        tokens = random.normal(1000.0, 50.0, 6)
        energy = 2.0 * tokens + random.normal(0.0, 30.0, 6)
        found = ratio(energy.tolist(), tokens.tolist())
        assert found.half_width is not None
        hits += abs(found.value - 2.0) <= found.half_width
    assert 870 <= hits <= 930


def test_windows_without_output_have_power_but_no_energy_per_output() -> None:
    told = estimate([window(500.0, 0.0)] * 3)
    assert told is not None
    assert told.energy_per_output_j is None
    assert told.power_w.value == 100.0
    assert told.half_width_fraction is None or told.half_width_fraction == 0.0
    assert estimate([]) is None


def test_energy_per_output_weighs_windows_by_their_outputs() -> None:
    told = estimate([window(100.0, 10.0), window(100.0, 10.0), window(400.0, 80.0)])
    assert told is not None
    assert told.energy_per_output_j is not None
    assert told.energy_per_output_j.value == 6.0
    assert told.power_w.value == 40.0
