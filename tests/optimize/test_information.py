"""What a measurement is worth: against closed forms, limits, and what a measurement then does."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from joulemap.cli.app import build_app
from joulemap.errors import InfeasibleError
from joulemap.optimize import Constraints, Scope, next_measurements
from joulemap.optimize.belief import OBSERVATION_DEVIATION, Belief, belief_of
from joulemap.optimize.candidates import Candidates
from joulemap.optimize.command import measure_command
from joulemap.store.run_store import RunStore, open_store
from joulemap.store.schema import frame_to_runs
from tests.builders import llm_run


def closed_form(gap: float, deviation: float) -> float:
    """The knowledge gradient of one of two independent candidates: Frazier et al. 2009, equation 12."""
    scale = deviation**2 / np.sqrt(deviation**2 + OBSERVATION_DEVIATION**2)
    z = -abs(gap) / scale
    return float(scale * (z * norm.cdf(z) + norm.pdf(z)))


@given(st.floats(-0.3, 0.3), st.floats(0.05, 0.3))
def test_the_worth_of_one_of_two_is_the_closed_form(gap: float, deviation: float) -> None:
    belief = Belief(np.array([0.0, gap]), np.diag([1e-12, deviation**2]))
    worth, changes = belief.information()
    assert worth[1] == pytest.approx(closed_form(gap, deviation), abs=0.03 * deviation)
    assert worth[0] == pytest.approx(0.0, abs=1e-9)
    assert 0.0 <= changes[1] <= 1.0


def test_what_is_known_is_worth_nothing_and_what_is_unsure_and_near_is_worth_most() -> None:
    mean = np.array([0.0, 0.05, 0.05, 1.0])
    worth, _ = Belief(mean, np.diag([1e-4, 1e-8, 0.04, 0.04])).information()
    assert np.argmax(worth) == 2
    assert worth[1] < worth[0] < worth[2]
    assert worth[3] < 0.01 * worth[2]


def test_an_error_that_all_share_is_worth_nothing() -> None:
    shared = np.full((3, 3), 0.04) + np.eye(3) * 1e-10
    worth, changes = Belief(np.array([0.0, 0.1, 0.2]), shared).information()
    assert worth.max() < 1e-6
    assert changes.max() < 1e-6


def test_probabilities_of_being_least_sum_to_one(gpt_oss: Candidates) -> None:
    belief = belief_of(gpt_oss, gpt_oss.table)
    assert belief.least_probability().sum() == pytest.approx(1.0)
    assert belief.expected().shape == (gpt_oss.table.height,)


def test_the_belief_has_the_intervals_shown_and_is_a_covariance(gpt_oss: Candidates) -> None:
    belief = belief_of(gpt_oss, gpt_oss.table)
    shown = np.log((gpt_oss.table["energy_per_output_j_high"] / gpt_oss.table["energy_per_output_j"]).to_numpy())
    assert np.sqrt(np.diag(belief.covariance)) * 1.645 == pytest.approx(shown, rel=1e-6)
    assert np.linalg.eigvalsh(belief.covariance).min() > -1e-9


def test_neighbours_of_one_unmeasured_series_err_together(gpt_oss: Candidates) -> None:
    table = gpt_oss.table.filter(
        (pl.col("gpu_model") == "H100") & (pl.col("num_gpus") == 4) & pl.col("batch_ceiling").is_in([256.0, 384.0])
    )
    c = belief_of(gpt_oss, table).covariance
    assert c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]) > 0.8


def test_once_measured_it_is_worth_less(study_store: RunStore, tmp_path: Path) -> None:
    """Ask what to measure, put such a measurement beside the study's, and ask again."""
    scope = Scope(model="Qwen/Qwen3-32B", task="gpqa")
    limits = Constraints(itl_median_s=0.05, confidence=0.5)
    first = next_measurements(scope, limits, store=study_store)[0]
    row = first.row
    assert row["basis"] == "modelled"
    assert first.worth_fraction > 0.01
    store = open_store(tmp_path / "store")
    own = study_store.frame.filter(pl.col("model_id") == "Qwen/Qwen3-32B")
    measured = llm_run(
        task="gpqa",
        model_id=row["model_id"],
        batch=row["batch_size"],
        energy_j=row["energy_per_output_j"],
        power_w=row["power_w"],
        tokens=row["mean_output_tokens"],
        gpu_model=row["gpu_model"],
        num_gpus=row["num_gpus"],
        weight_precision=row["weight_precision"],
        tensor_parallel=row["num_gpus"],
    )
    store.add([*frame_to_runs(own), measured])
    again = next_measurements(scope, limits, store=store)
    assert again[0].worth_fraction < first.worth_fraction
    same = [m for m in again if m.row["run_ids"] == [measured.run_id]]
    assert all(m.row["basis"] == "measured" and m.worth_fraction < 0.5 * first.worth_fraction for m in same)


def test_candidates_that_may_break_a_limit_are_worth_a_look(study_store: RunStore) -> None:
    found = next_measurements(
        Scope(model="GPT OSS 120B", task="gpqa", gpu_models=("H100",)),
        Constraints(itl_median_s=0.04),
        count=40,
        store=study_store,
    )
    assert any(0.1 <= m.keeps_probability < 0.9 for m in found)
    worths = [round(m.worth_fraction, 9) for m in found]
    assert worths == sorted(worths, reverse=True)


def test_without_any_hope_there_is_nothing_to_measure(study_store: RunStore) -> None:
    with pytest.raises(InfeasibleError, match="likely to keep every limit"):
        next_measurements(
            Scope(model="GPT OSS 120B", task="gpqa"), Constraints(itl_median_s=1e-4), store=study_store
        )


@pytest.mark.parametrize("name", ["gpt_oss", "flux"])
def test_every_command_is_one_that_joulemap_reads(name: str, request: pytest.FixtureRequest) -> None:
    found: Candidates = request.getfixturevalue(name)
    app = build_app()
    for row in found.table[:: max(found.table.height // 12, 1)].iter_rows(named=True):
        words = shlex.split(measure_command(row, found.model.catalog))
        assert words[:2] == ["joulemap", "measure"]
        _function, bound, _ = app.parse_args(words[1:], exit_on_error=False)
        asked = bound.arguments
        if row["output_unit"] == "token" or row["num_gpus"] > 1:
            assert asked["server"].gpu_count == row["num_gpus"]
            assert float(asked["load"].concurrency) == row["batch_ceiling"]
        else:
            assert asked["in_process"].steps == row["inference_steps"]
