"""Breakdowns: each model's cheapest configuration, means over models, ratios of like with like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from joulemap.diagnose.breakdown import (
    DIMENSIONS,
    NOT_STATED,
    Breakdown,
    BreakdownRow,
    Statistic,
    breakdown,
)
from joulemap.errors import InfeasibleError, UnknownNameError
from joulemap.records import Annotations, Basis, Modality, Run
from joulemap.store.run_store import RunStore
from joulemap.store.schema import runs_to_frame
from tests.builders import image_run, llm_run


def table(*runs: Run) -> pl.DataFrame:
    return runs_to_frame(runs, stored_at=datetime.now(UTC))


def rows(result: Breakdown) -> Mapping[str, BreakdownRow]:
    return {row.group: row for row in result.rows}


def stated(row: BreakdownRow, name: str) -> Statistic:
    statistic = row.quantities[name]
    assert statistic is not None
    return statistic


def with_measured(run: Run, **values: Any) -> Run:
    return replace(run, measured=replace(run.measured, **values))


CHAT_AND_SOLVE = table(
    llm_run(task="chat", model_id="a", batch=8, energy_j=2.0, tokens=100),
    llm_run(task="chat", model_id="a", batch=16, energy_j=1.0, tokens=100),
    llm_run(task="chat", model_id="b", batch=8, energy_j=3.0, tokens=100),
    llm_run(task="solve", model_id="a", batch=8, energy_j=4.0, tokens=1000),
    image_run(model_id="p", energy_j=900.0),
)


def test_each_model_counts_with_its_cheapest_configuration() -> None:
    chat = rows(breakdown(CHAT_AND_SOLVE, by="task"))["chat"]
    per_token = stated(chat, "energy_per_output_j")
    assert (per_token.value, per_token.low, per_token.high) == (2.0, 1.0, 3.0)
    assert per_token.unit == "J/token"
    assert stated(chat, "energy_per_request_j").value == 200.0
    assert stated(chat, "mean_output_tokens").value == 100.0
    assert stated(chat, "batch_size").value == 12.0
    assert stated(chat, "throughput_per_watt").value == pytest.approx((1 / 1 + 1 / 3) / 2)
    assert stated(chat, "throughput_per_watt").unit == "token/s/W"
    assert (chat.models, chat.runs, len(chat.run_ids)) == (2, 3, 2)


def test_ratios_are_to_the_cheapest_and_rows_rise() -> None:
    result = breakdown(CHAT_AND_SOLVE, by="task")
    assert [(row.group, row.ratio) for row in result.rows] == [
        ("chat", 1.0),
        ("text-to-image", 4.5),
        ("solve", 20.0),
    ]


def test_joules_per_token_and_per_image_are_never_compared() -> None:
    by_task = rows(breakdown(CHAT_AND_SOLVE, by="task", per="output"))
    assert by_task["text-to-image"].ratio == 1.0
    assert by_task["solve"].ratio == 2.0
    assert stated(by_task["text-to-image"], "energy_per_output_j").unit == "J/image"


def test_the_same_models_are_compared_apart() -> None:
    solve = rows(breakdown(CHAT_AND_SOLVE, by="task"))["solve"]
    # Model a alone is in both: 4000 J against 100 J, though the mean of chat is 200 J.
    assert solve.same_models_ratio == pytest.approx(40.0)
    assert solve.same_models == 1
    assert rows(breakdown(CHAT_AND_SOLVE, by="task"))["text-to-image"].same_models_ratio is None


def test_one_configuration_has_no_range() -> None:
    energy = stated(rows(breakdown(CHAT_AND_SOLVE, by="task"))["solve"], "energy_per_request_j")
    assert (energy.low, energy.high, energy.configurations) == (None, None, 1)


def test_a_mix_of_models_does_not_make_a_gpu_dearer() -> None:
    frame = table(
        llm_run(model_id="small", energy_j=1.0, gpu_model="H100"),
        llm_run(model_id="small", energy_j=0.5, gpu_model="B200"),
        llm_run(model_id="large", energy_j=9.5, gpu_model="B200"),
    )
    b200 = rows(breakdown(frame, by="gpu"))["B200"]
    assert b200.ratio == pytest.approx(5.0)
    assert b200.same_models_ratio == pytest.approx(0.5)


def test_precisions_are_compared_on_the_model_beneath() -> None:
    frame = table(
        llm_run(model_id="org/m", energy_j=1.0, weight_precision="bfloat16"),
        llm_run(model_id="org/m-FP8", energy_j=0.8, weight_precision="fp8"),
        llm_run(model_id="org/other", energy_j=0.2, weight_precision="bfloat16"),
    )
    fp8 = rows(breakdown(frame, by="precision"))["fp8"]
    assert fp8.same_models_ratio == pytest.approx(0.8)
    assert fp8.same_models == 1


def test_batches_are_configured_ceilings_in_rising_order() -> None:
    frame = table(*(llm_run(batch=b - 0.4, ceiling=b, energy_j=1 / b) for b in (128, 16, 8)), image_run(batch=4))
    result = breakdown(frame, by="batch")
    assert [(row.task, row.group) for row in result.rows] == [
        ("chat", "8"),
        ("chat", "16"),
        ("chat", "128"),
        ("text-to-image", "4"),
    ]
    assert stated(rows(result)["128"], "batch_size").value == pytest.approx(127.6)


def test_modalities_say_what_goes_in_and_what_comes_out() -> None:
    seeing = llm_run(task="image-chat")
    seeing = replace(seeing, workload=replace(seeing.workload, input_modality=Modality.IMAGE))
    found = rows(breakdown(table(llm_run(), seeing, image_run()), by="modality"))
    assert set(found) == {"text to text", "image to text", "text to image"}


def test_models_are_compared_within_a_task() -> None:
    result = breakdown(CHAT_AND_SOLVE, by="model")
    assert [(row.task, row.group, row.ratio) for row in result.rows] == [
        ("chat", "a", 1.0),
        ("chat", "b", 3.0),
        ("solve", "a", 1.0),
        ("text-to-image", "p", 1.0),
    ]
    assert all(row.same_models == 0 for row in result.rows)


def test_a_limit_moves_each_model_to_its_best_configuration_within() -> None:
    # ITL = batch × J ÷ 500 W: 32 ms at batch 8, 32 ms at batch 16.
    frame = table(
        llm_run(batch=8, energy_j=2.0), llm_run(batch=64, energy_j=1.0), llm_run(model_id="slow", batch=100)
    )
    result = breakdown(frame, by="task", itl_limit_s=0.05)
    chat = rows(result)["chat"]
    assert stated(chat, "energy_per_output_j").value == 2.0
    assert chat.models == 1
    assert result.left_out == {"above a median inter-token latency of 0.05 s, or not stating it": 2}


def test_a_limit_on_text_leaves_out_images_and_the_other_way_round() -> None:
    text = breakdown(CHAT_AND_SOLVE, by="task", itl_limit_s=1.0)
    assert "text-to-image" not in rows(text)
    assert text.left_out == {"have no inter-token latency to limit (--latency-limit does)": 1}
    image = breakdown(CHAT_AND_SOLVE, by="task", latency_limit_s=10.0)
    assert set(rows(image)) == {"text-to-image"}
    both = breakdown(CHAT_AND_SOLVE, by="task", itl_limit_s=1.0, latency_limit_s=10.0)
    assert set(rows(both)) == {"chat", "solve", "text-to-image"}


def test_a_limit_that_nothing_meets_says_what_would() -> None:
    with pytest.raises(InfeasibleError, match=r"--itl-limit 0\.032s or more"):
        breakdown(CHAT_AND_SOLVE, by="task", itl_limit_s=0.001)
    with pytest.raises(InfeasibleError, match="no run is left"):
        breakdown(CHAT_AND_SOLVE.head(0), by="task")


def test_invalid_replaced_and_unmeasured_runs_are_left_out_and_counted() -> None:
    frame = table(
        llm_run(energy_j=0.1, valid=False),
        llm_run(energy_j=1.0),
        llm_run(energy_j=2.0),
        with_measured(llm_run(batch=16), energy_per_output_j=None),
    )
    result = breakdown(frame, by="task")
    assert stated(rows(result)["chat"], "energy_per_output_j").value == 2.0
    assert result.left_out == {
        "invalid": 1,
        "no energy per output is known": 1,
        "replaced by a later run of the same configuration": 1,
    }


def test_a_quantity_that_no_run_states_is_none() -> None:
    run = with_measured(llm_run(), energy_per_request_j=None)
    chat = rows(breakdown(table(run), by="task"))["chat"]
    assert chat.quantities["energy_per_request_j"] is None
    assert chat.ratio is None
    assert rows(breakdown(table(run), by="task", per="output"))["chat"].ratio == 1.0


def test_the_weakest_basis_counts() -> None:
    guessed = replace(llm_run(model_id="b"), annotations=Annotations(basis={"energy_per_output_j": Basis.ASSUMED}))
    chat = rows(breakdown(table(llm_run(), guessed), by="task"))["chat"]
    assert stated(chat, "energy_per_output_j").basis is Basis.ASSUMED
    assert stated(chat, "throughput_per_watt").basis is Basis.ASSUMED
    assert stated(chat, "energy_per_request_j").basis is Basis.MEASURED


def test_what_is_not_stated_is_a_group_of_its_own() -> None:
    frame = table(llm_run(gpu_model=None), llm_run(batch=16))
    assert set(rows(breakdown(frame, by="gpu"))) == {NOT_STATED, "H100"}


def test_an_unknown_dimension_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'batch'"):
        breakdown(CHAT_AND_SOLVE, by="batches")  # type: ignore[arg-type]


@pytest.mark.parametrize("by", DIMENSIONS)
def test_every_dimension_of_the_study_holds_together(study_store: RunStore, by: Any) -> None:
    result = breakdown(study_store.frame, by=by)
    json.dumps(result.to_json(), allow_nan=False)
    assert sum(row.runs for row in result.rows) == 1855
    for row in result.rows:
        energy = stated(row, "energy_per_request_j")
        assert energy.basis is Basis.MEASURED
        assert row.ratio is not None
        assert row.ratio >= 1.0
        if energy.low is not None and energy.high is not None:
            assert energy.low <= energy.value <= energy.high
    cheapest = [row for row in result.rows if row.ratio == 1.0]
    assert len(cheapest) == len({row.task for row in result.rows})


def test_the_studys_own_breakdown(study_store: RunStore) -> None:
    b200 = study_store.frame.filter(pl.col("gpu_model") == "B200")
    found = rows(breakdown(b200, by="task"))
    assert round(stated(found["gpqa"], "energy_per_request_j").value) == 4625
    assert round(stated(found["lm-arena-chat"], "energy_per_request_j").value) == 184
    assert round(stated(found["gpqa"], "mean_output_tokens").value) == 6988
    assert (found["gpqa"].models, found["lm-arena-chat"].models) == (12, 16)
