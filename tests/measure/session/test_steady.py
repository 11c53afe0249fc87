"""Steadiness on made-up series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.measure.session.steady import (
    Series,
    autocorrelation,
    batch_full_at,
    bin_edges,
    bin_mean,
    bin_rate,
    transient_end,
    trend,
)


def noisy(length: int, *, level: float = 100.0, spread: float = 1.0, seed: int = 0) -> Series:
    return level + spread * np.random.default_rng(seed).standard_normal(length)


def test_the_transient_of_a_ramp_is_cut_off() -> None:
    series = np.concatenate((np.linspace(0.0, 100.0, 30), noisy(90)))
    cut = transient_end(series)
    assert cut is not None
    assert 25 <= cut <= 40


def test_a_steady_series_keeps_its_beginning() -> None:
    assert transient_end(np.full(60, 5.0)) == 0
    cut = transient_end(noisy(200))
    assert cut is not None
    assert cut <= 100


def test_a_ramp_that_goes_on_has_no_end_of_its_transient() -> None:
    assert transient_end(np.linspace(0.0, 100.0, 100)) is None


def test_too_short_a_series_tells_nothing() -> None:
    assert transient_end(np.full(9, 1.0)) is None
    assert trend(np.array([1.0, 2.0, 3.0])).p_value == 1.0


@pytest.mark.parametrize("drift", [0.1, -0.1, 0.3])
def test_a_drift_is_found(drift: float) -> None:
    found = trend(noisy(120) * (1.0 + drift * np.linspace(-0.5, 0.5, 120)))
    assert found.drifting
    assert found.drift_fraction == pytest.approx(drift, abs=0.02)


def test_a_step_is_found() -> None:
    assert trend(np.concatenate((noisy(60), noisy(60, level=120.0, seed=1)))).drifting


def test_a_drift_too_small_to_matter_is_let_pass() -> None:
    found = trend(noisy(200, spread=0.1) * np.linspace(0.99, 1.01, 200))
    assert found.p_value < 0.01
    assert not found.drifting


def test_noise_is_seldom_called_a_drift() -> None:
    called = sum(trend(noisy(60, spread=20.0, seed=seed)).drifting for seed in range(300))
    assert called <= 12  # 1 % of 300 is 3; a test that ignored its level would call far more


def test_a_slow_wobble_is_seldom_called_a_drift() -> None:
    def wobble(seed: int) -> Series:
        steps = np.random.default_rng(seed).standard_normal(240)
        values = np.empty(240)
        values[0] = steps[0]
        for i in range(1, 240):
            values[i] = 0.9 * values[i - 1] + steps[i]
        return 100.0 + 4.0 * values

    called = sum(trend(wobble(seed)).drifting for seed in range(200))
    assert called <= 24  # a test on the raw values calls about half of them
    assert autocorrelation(wobble(0)) > 0.7


@given(
    scale=st.floats(1e-6, 1e6),
    values=st.lists(st.floats(0.5, 2.0), min_size=20, max_size=80),
)
def test_the_unit_of_a_series_does_not_matter(scale: float, values: list[float]) -> None:
    series = np.array(values)
    assert transient_end(series) == transient_end(scale * series)
    assert trend(scale * series).drift_fraction == pytest.approx(trend(series).drift_fraction, rel=1e-6, abs=1e-9)


def test_a_batch_is_full_when_it_stays_so() -> None:
    times = np.arange(8.0)
    assert batch_full_at(times, np.array([1, 32, 5, 20, 31.5, 32, 32, 32.0]), 32) == 4.0
    assert batch_full_at(times, np.array([1, 32, 5, 32, 5, 32, 5, 32.0]), 32) is None


def test_rates_and_means_of_bins_add_up() -> None:
    times = np.array([0.0, 0.7, 1.9, 3.0])
    edges = bin_edges(0.0, 0.5, 6)
    assert bin_rate(times, 10.0 * times, edges) == pytest.approx(np.full(6, 10.0))
    assert bin_mean(times, 2.0 * times, edges) == pytest.approx(2.0 * (edges[:-1] + 0.25))
    assert 0.5 * bin_mean(times, times**2, edges).sum() == pytest.approx(np.trapezoid(times**2, times))
