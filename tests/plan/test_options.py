"""Options: measured runs come first and unchanged; predictions are marked, and lie between or beyond."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from joulemap.errors import UnknownNameError, UsageError
from joulemap.plan.options import OptionRequest, at_confidence, find_options
from joulemap.store.run_store import RunStore

QWEN = "Qwen/Qwen3-32B"
CHAT = "lm-arena-chat"


def test_measured_runs_are_options_unchanged(study_store: RunStore) -> None:
    options = find_options(study_store.frame, OptionRequest(task=CHAT, models=(QWEN,))).frame
    runs = study_store.frame.filter(task=CHAT, model_id=QWEN)
    both = options.filter(basis="measured").join(runs, on="run_id", suffix="_run")
    assert both.height == runs.height
    for name in ("power_w", "output_throughput_per_s", "itl_median_s", "batch_size"):
        assert (both[name] == both[f"{name}_run"]).all()
    assert np.allclose(both["energy_per_request_j"], both["energy_per_request_j_run"], rtol=1e-3)


def test_predictions_lie_between_their_neighbours(study_store: RunStore) -> None:
    options = find_options(study_store.frame, OptionRequest(task=CHAT, models=(QWEN,), gpu_models=("B200",))).frame
    between = options.filter(basis="interpolated")
    assert between.height >= 3
    for row in between.iter_rows(named=True):
        own = options.filter(series=row["series"], basis="measured").sort("batch_size")
        left = own.filter(pl.col("batch_size") < row["batch_size"]).tail(1)["itl_median_s"].item()
        right = own.filter(pl.col("batch_size") > row["batch_size"]).head(1)["itl_median_s"].item()
        assert min(left, right) * 0.9 <= row["itl_median_s"] <= max(left, right) * 1.1


def test_a_gpu_without_runs_is_predicted_and_marked(study_store: RunStore) -> None:
    options = find_options(study_store.frame, OptionRequest(task=CHAT, models=(QWEN,), gpu_models=("H200",))).frame
    assert options["basis"].unique().to_list() == ["modelled"]
    assert options["power_w_low"].null_count() == 0
    wide = options["power_w_high"] / options["power_w_low"]
    assert (wide > 1.1).all()


def test_other_lengths_are_predicted(study_store: RunStore) -> None:
    short, long = (
        find_options(
            study_store.frame,
            OptionRequest(task=CHAT, models=(QWEN,), gpu_models=("H100",), mean_output_tokens=tokens),
        ).frame
        for tokens in (100.0, 4000.0)
    )
    assert set(short["basis"]) | set(long["basis"]) == {"modelled"}
    assert short["energy_per_request_j"].min() < long["energy_per_request_j"].min()  # type: ignore[operator]


@pytest.mark.parametrize("task", ["gpqa", "image-chat", "text-to-image", "text-to-video"])
def test_each_kind_of_task_has_whole_options(study_store: RunStore, task: str) -> None:
    options = find_options(study_store.frame, OptionRequest(task=task)).frame
    for name in ("power_w", "request_throughput_per_s", "energy_per_request_j", "latency_s", "rated_power_w"):
        assert options[name].null_count() == 0, name
        assert (options[name] > 0).all(), name
    ratio = options["power_w"] / options["request_throughput_per_s"] / options["energy_per_request_j"]
    measured = ratio.filter(options["basis"] == "measured")
    assert np.allclose(measured, 1.0)


def test_confidence_makes_power_higher_and_rates_lower(study_store: RunStore) -> None:
    options = find_options(study_store.frame, OptionRequest(task=CHAT, models=(QWEN,))).frame
    plain, cautious, timid = (at_confidence(options, c) for c in (None, 0.9, 0.99))
    assert (cautious["planned_power_w"] >= plain["planned_power_w"]).all()
    assert (cautious["planned_request_throughput_per_s"] < plain["planned_request_throughput_per_s"]).all()
    assert (timid["planned_request_throughput_per_s"] < cautious["planned_request_throughput_per_s"]).all()
    assert np.allclose(cautious["planned_output_throughput_per_s"], options["output_throughput_per_s_low"])
    # A replica that is not filled draws at most what is planned: power never falls along a curve.
    assert (
        plain.group_by("series").agg(pl.col("planned_power_w").diff().min())["planned_power_w"].drop_nulls() >= 0
    ).all()
    assert (cautious["planned_power_w"] <= np.maximum(cautious["rated_power_w"], cautious["power_w"]) + 1e-6).all()


def test_a_task_that_is_nowhere_is_not_planned_for(study_store: RunStore) -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'lm-arena-chatt'"):
        find_options(study_store.frame, OptionRequest(task="lm-arena-chatt", models=("Qwen/Qwen3-32B",)))
    own = OptionRequest(task="ours", models=("Qwen/Qwen3-32B",), gpu_models=("H100",), mean_output_tokens=300.0)
    assert find_options(study_store.frame, own).frame.height > 0


def test_unknown_names(study_store: RunStore) -> None:
    with pytest.raises(UnknownNameError):
        find_options(study_store.frame, OptionRequest(task=CHAT, models=("nobody/none",)))
    with pytest.raises(UsageError, match="unknown task"):
        find_options(study_store.frame, OptionRequest(task="juggling"))
