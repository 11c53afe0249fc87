"""What the study compares, worked by hand on a few planted runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from joulemap.records import Run
from joulemap.store.schema import runs_to_frame
from joulemap.study.comparisons import gpu_count_pairs, gpu_generations, modality_ratios, precision_pairs
from joulemap.study.runs import MissingRunsError, StudyRuns, minimum_energy, stated, study_runs
from tests.builders import image_run, llm_run


def runs_of(*runs: Run) -> StudyRuns:
    return study_runs(runs_to_frame(runs, stored_at=datetime.now(UTC)))


def chat(model_id: str, batch: float, energy_j: float, **settings: Any) -> Run:
    return llm_run(task="lm-arena-chat", model_id=model_id, batch=batch, energy_j=energy_j, **settings)


def test_minimum_energy_takes_one_configuration_of_each_group() -> None:
    runs = runs_of(chat("a", 8, 2.0), chat("a", 16, 1.0), chat("a", 32, 1.0, num_gpus=2), chat("b", 8, 5.0))
    best = minimum_energy(runs.configurations, ["model_id"])
    assert best.select("model_id", "batch_ceiling").rows() == [("a", 16.0), ("b", 8.0)]


def test_picking_says_what_is_not_there() -> None:
    runs = runs_of(chat("a", 8, 2.0))
    assert runs.pick(model_id=("a", "b")).height == 1
    with pytest.raises(MissingRunsError, match="no run with task gpqa or fim, GPU B200, number of GPUs 4"):
        runs.pick(task=("gpqa", "fim"), gpu_model="B200", num_gpus=4)
    with pytest.raises(MissingRunsError, match="states inference_steps"):
        stated(runs.configurations, "inference_steps")


def test_gpu_generations_compare_the_lowest_energy_within_the_limit() -> None:
    # At 500 W, ITL = batch × J/token ÷ W: 8 × 2 ÷ 500 = 32 ms, 64 × 1 ÷ 500 = 128 ms, 128 × 0.9 ÷ 500 = 230 ms.
    pairs = gpu_generations(
        runs_of(
            chat("a", 8, 2.0, gpu_model="H100"),
            chat("a", 64, 1.0, gpu_model="H100"),
            chat("a", 8, 1.5, gpu_model="B200"),
            chat("a", 128, 0.9, gpu_model="B200"),
            chat("only-h100", 8, 1.0, gpu_model="H100"),
        ),
        "text",
    )
    changes = dict(pairs.select("limit_s", "change").rows())
    assert changes == pytest.approx({0.05: -0.25, 0.1: -0.25, 0.25: -0.1})
    assert pairs["model"].unique().to_list() == ["a"]


def test_gpu_generations_take_the_latency_of_images() -> None:
    # batch × J ÷ 500 W: 8 s on H100, 5 s on B200.
    pairs = gpu_generations(
        runs_of(image_run(energy_j=4000.0), image_run(energy_j=2500.0, gpu_model="B200")), "image"
    )
    assert pairs.select("limit_s", "change").rows() == [(10.0, -0.375), (30.0, -0.375), (60.0, -0.375)]


def test_precision_pairs_need_the_same_model_task_gpus_and_batch() -> None:
    pairs = precision_pairs(
        runs_of(
            chat("q/m", 8, 1.0, num_gpus=2),
            chat("q/m-FP8", 8, 1.5, num_gpus=2, weight_precision="fp8"),
            chat("q/m-FP8", 16, 1.0, num_gpus=2, weight_precision="fp8"),
            chat("q/m-FP8", 8, 9.0, num_gpus=4, weight_precision="fp8"),
            llm_run(task="gpqa", model_id="q/m-FP8", batch=8, weight_precision="fp8", num_gpus=2),
        )
    )
    assert pairs.height == 1
    row = pairs.row(0, named=True)
    assert (row["num_gpus"], row["batch_ceiling"]) == (2, 8.0)
    assert row["energy_change"] == pytest.approx(0.5)
    assert row["itl_change"] == pytest.approx(0.5)  # equal power, so time goes with energy
    assert row["time_change"] == pytest.approx(0.5)


def test_gpu_count_pairs_are_all_pairs_of_counts() -> None:
    pairs = gpu_count_pairs(
        runs_of(
            *(chat("a", 8, energy, num_gpus=n) for n, energy in ((1, 1.0), (2, 1.2), (4, 0.9))),
            chat("a", 16, 1.0, num_gpus=1),
            chat("b", 8, 1.0, num_gpus=2),
            llm_run(task="image-chat", model_id="a", batch=8, num_gpus=8),
        ),
        "H100",
    )
    found = {
        (few, more): change for few, more, change in pairs[:, ["num_gpus", "num_gpus_more", "energy_change"]].rows()
    }
    assert found == pytest.approx({(1, 2): 0.2, (1, 4): -0.1, (2, 4): -0.25})


def test_modality_is_compared_at_the_shared_gpu_count_of_lowest_text_energy(
    study_frame: pl.DataFrame,
) -> None:
    ratios = {row["model"]: row for row in modality_ratios(study_runs(study_frame)).to_dicts()}
    assert len(ratios) == 6
    # This one was measured on 4 and on 8 GPUs in all modalities.
    assert ratios["Qwen 3 VL 235B A22B Instruct"]["num_gpus"] == 4
    on_four = study_runs(study_frame).pick(
        task="lm-arena-chat", model_id="Qwen/Qwen3-235B-A22B-Instruct-2507", gpu_model="B200", num_gpus=4
    )
    assert ratios["Qwen 3 VL 235B A22B Instruct"]["text"] == min(on_four["energy_per_output_j"])


@pytest.mark.parametrize("compare", [precision_pairs, modality_ratios, lambda runs: gpu_count_pairs(runs, "B200")])
def test_nothing_to_compare_is_said(compare: object) -> None:
    with pytest.raises(MissingRunsError, match="there is no"):
        compare(runs_of(chat("a", 8, 1.0)))  # type: ignore[operator]
