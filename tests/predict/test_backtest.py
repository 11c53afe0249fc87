from __future__ import annotations

import polars as pl
import pytest

from joulemap.errors import InputError, UnknownNameError
from joulemap.predict.backtest import Backtest, Protocol, Score, backtest
from joulemap.predict.baselines import NEAREST


def found(scores: tuple[Score, ...], split: str, quantity: str) -> Score:
    return next(s for s in scores if s.split == split and s.quantity == quantity)


@pytest.mark.parametrize("protocol", ["backbone", "few-shot"])
def test_held_out_runs_are_predicted_better_than_by_the_nearest(
    few_backbones: pl.DataFrame, protocol: Protocol
) -> None:
    made = backtest(few_backbones, protocol)
    assert found(made.splits, "text", "energy_per_output_j").mdape < 12.0
    rivals = dict(made.baselines)
    ours = found(made.splits, "text", "output_throughput_per_s").mdape
    assert ours < found(rivals[NEAREST], "text", "output_throughput_per_s").mdape
    payload = made.to_json()
    assert set(payload) >= {"protocol", "splits", "baselines"}
    assert set(payload["splits"][0]) == {"split", "n", "quantity", "mdape", "p90ape", "coverage90"}


def test_one_gpu_model_leaves_nothing_to_hold_out(few_backbones: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="at least 2"):
        backtest(few_backbones, "gpu")


def test_unknown_protocols_are_named(few_backbones: pl.DataFrame) -> None:
    with pytest.raises(UnknownNameError, match="few-shot"):
        backtest(few_backbones, "fewshot")  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def whole_study(study_frame: pl.DataFrame) -> Backtest:
    return backtest(study_frame, "backbone")


@pytest.mark.slow
def test_the_quoted_accuracy_holds_on_the_whole_study(whole_study: Backtest) -> None:
    """What docs/model.md quotes, with a little room: a change that loses it must be seen."""
    limits = {
        ("text", "energy_per_output_j"): (8.5, 25.0),
        ("text", "itl_median_s"): (8.8, 30.0),
        ("language (all)", "energy_per_output_j"): (9.0, 30.0),
        ("language (all)", "power_w"): (8.6, 23.5),
        ("diffusion video", "energy_per_output_j"): (4.0, 12.0),
        ("diffusion image", "energy_per_output_j"): (11.0, 30.0),
    }
    for (split, quantity), (median, ninetieth) in limits.items():
        score = found(whole_study.splits, split, quantity)
        assert score.mdape <= median, (split, quantity)
        assert score.p90ape <= ninetieth, (split, quantity)


@pytest.mark.slow
def test_intervals_cover_what_they_claim(whole_study: Backtest) -> None:
    for score in whole_study.splits:
        assert score.coverage90 is not None
        low = 85.0 if score.split in ("language (all)", "diffusion (all)") else 75.0
        assert score.coverage90 >= low, score
