"""The search for frontiers: worth and regret by hand, limits, stopping, and a replay on the study's data."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from joulemap.optimize.frontier_search import FrontierSearch, Goal, regret_and_worth, true_regret
from joulemap.store.run_store import RunStore
from scripts.replay_sweep import replays, summary

MODEL = "Qwen/Qwen3-32B"


def test_regret_and_worth_by_hand() -> None:
    # By rising time: 8, 4, 6, 2 J. The third is beaten by the second; the frontier is 8, 4, 2.
    energy = np.log(np.array([[8.0, 4.0, 6.0, 2.0]]))
    time = np.log(np.array([[1.0, 2.0, 3.0, 4.0]]))
    known = np.array([False, False, True, False])
    regret, worth = regret_and_worth(energy, time, known)
    # At the first two limits nothing known keeps the limit: the dearest (8 J) counts; at the third, 6 J.
    assert regret == pytest.approx((0.0 + np.log(2.0) + np.log(3.0)) / 3)
    assert worth == pytest.approx([0.0, (np.log(2.0) + np.log(1.5)) / 3, 0.0, np.log(3.0) / 3])


def test_measuring_all_leaves_no_regret_and_nothing_the_most() -> None:
    random = np.random.default_rng(1)
    energy, time = random.normal(size=(2, 50, 7))
    everything, worth = regret_and_worth(energy, time, np.ones(7, dtype=bool))
    assert everything == 0
    assert worth == pytest.approx(0.0)
    nothing, worth = regret_and_worth(energy, time, np.zeros(7, dtype=bool))
    assert nothing > worth.max() > 0


def test_worth_is_the_fall_of_regret() -> None:
    random = np.random.default_rng(2)
    energy, time = random.normal(size=(2, 20, 6))
    known = np.array([True, False, False, True, False, False])
    before, worth = regret_and_worth(energy, time, known)
    for j in np.flatnonzero(~known):
        after, _ = regret_and_worth(energy, time, known | (np.arange(6) == j))
        assert before - after == pytest.approx(worth[j])


def test_true_regret_by_hand() -> None:
    energy, time = np.array([6.0, 2.0, 8.0, 4.0]), np.array([3.0, 4.0, 1.0, 2.0])
    assert true_regret(energy, time, np.array([True, False, False, False])) == pytest.approx([0.0, 1.0, 2.0])
    assert true_regret(energy, time, np.ones(4, dtype=bool)) == pytest.approx([0.0, 0.0, 0.0])


def grid(batches: tuple[int, ...] = (8, 16, 32, 64, 128), **settings: Any) -> tuple[list[str], pl.DataFrame]:
    rows = [
        {
            "model_id": MODEL,
            "task": "lm-arena-chat",
            "gpu_model": gpu,
            "num_gpus": 2,
            "weight_precision": "bfloat16",
            "batch_ceiling": float(batch),
            "mean_output_tokens": 500.0,
            **settings,
        }
        for gpu in ("H100", "B200")
        for batch in batches
    ]
    return [f"{row['gpu_model']}-{row['batch_ceiling']:g}" for row in rows], pl.DataFrame(rows)


def row_of(batch: float, *, rate: float | None = None, achieved: float | None = None) -> dict[str, float]:
    tokens_per_s = rate or 30.0 * batch
    return {
        "energy_per_output_j": 800.0 / tokens_per_s,
        "itl_median_s": batch / tokens_per_s,
        "output_throughput_per_s": tokens_per_s,
        "batch_size": achieved or batch,
    }


def test_a_curve_ends_where_a_batch_does_not_fit() -> None:
    ids, table = grid()
    search = FrontierSearch(ids, table)
    search.failed("H100-32", fits=False)
    out = search.left_out()
    assert "did not fit" in out["H100-64"]
    assert "did not fit" in out["H100-128"]
    assert "did not fit" not in out["H100-16"] + out["B200-64"]
    assert search.next(["H100-64", "H100-128"], ()) is None
    search.failed("B200-32", fits=True)  # a crash says nothing of other batches
    assert "did not fit" not in search.left_out()["B200-64"]


def test_a_curve_ends_where_it_saturates() -> None:
    ids, table = grid()
    search = FrontierSearch(ids, table)
    search.measured("H100-16", row_of(16, rate=1000.0))
    search.measured("H100-32", row_of(32, rate=1010.0))
    assert "throughput saturates: +1.0% from batch 16 to 32" in search.left_out()["H100-64"]
    search.measured("B200-64", row_of(64, achieved=30.0))
    assert "30 requests ran together at a ceiling of 64" in search.left_out()["B200-128"]


def test_the_budget_is_kept_with_what_runs() -> None:
    ids, table = grid()
    search = FrontierSearch(ids, table, goal=Goal(regret_fraction=1e-9, budget_fraction=0.3))
    asked: list[str] = []
    while (name := search.next([i for i in ids if i not in asked], asked)) is not None:
        asked.append(name)
    assert len(asked) == 3
    for name in asked:
        search.measured(name, row_of(float(name.partition("-")[2])))
    assert search.next([i for i in ids if i not in asked], ()) is None
    assert "budget of 30%" in search.left_out()[next(i for i in ids if i not in asked)]


def test_what_is_being_measured_is_not_worth_measuring_again() -> None:
    ids, table = grid()
    search = FrontierSearch(ids, table)
    first = search.next(ids, ())
    assert first is not None
    second = search.next([i for i in ids if i != first], [first])
    assert second not in {None, first}


def test_a_model_that_nobody_knows_is_measured_whole() -> None:
    ids, table = grid(model_id="org/own")
    search = FrontierSearch(ids, table)
    asked: list[str] = []
    while (name := search.next([i for i in ids if i not in asked], ())) is not None:
        asked.append(name)
        search.measured(name, row_of(float(name.partition("-")[2])))
    assert asked == ids


def test_replayed_on_a_part_of_the_study_a_third_of_the_points_suffices(study_store: RunStore) -> None:
    # A language model and a diffusion pipeline whose calibration has not seen them; the benchmark replays all.
    found = list(replays(study_store.frame, Goal(), ["gpt-oss-20b", "wan-2.1-14b"]))
    told = summary(found)
    assert (told["frontiers"], told["points"]) == (2, 120)
    assert told["measured_share"] <= 0.35
    assert told["regret_mean"] <= 0.02
    assert told["regret_worst"] <= 0.02
