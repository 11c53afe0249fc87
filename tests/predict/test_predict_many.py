from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulemap.diagnose.modelled import modelled_forms
from joulemap.errors import UnknownNameError, UsageError
from joulemap.predict.language import PARTS, LanguageTerms
from joulemap.predict.predict import OUTCOMES, decompose, predict_many

CHAT: dict[str, Any] = {
    "model_id": "Qwen/Qwen3-32B",
    "gpu_model": "H100",
    "num_gpus": 2,
    "batch_size": 64.0,
    "mean_output_tokens": 600.0,
}


def one(**changes: Any) -> dict[str, Any]:
    return predict_many(pl.DataFrame([CHAT | changes])).row(0, named=True)


def frame_of(*changes: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([CHAT | c for c in changes])


def test_intervals_contain_the_value_and_identities_hold() -> None:
    row = one()
    for name in OUTCOMES["language"]:
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert row["energy_per_output_j"] == pytest.approx(row["power_w"] / row["output_throughput_per_s"])
    assert row["energy_per_request_j"] == pytest.approx(row["energy_per_output_j"] * 600.0)
    assert row["throughput_per_watt"] * row["energy_per_output_j"] == pytest.approx(1.0)
    assert row["basis"] == "modelled"


def test_many_rows_give_what_each_gives_alone() -> None:
    rows = [CHAT | {"batch_size": b, "gpu_model": g} for b in (1.0, 64.0, 700.0) for g in ("H100", "B200", "H200")]
    rows += [CHAT | {"model_id": "black-forest-labs/FLUX.1-dev", "batch_size": 4.0}]
    together = predict_many(pl.DataFrame(rows, infer_schema_length=None))
    for i, row in enumerate(rows):
        alone = predict_many(pl.DataFrame([row])).row(0, named=True)
        for name, value in alone.items():
            if isinstance(value, float):
                assert together[name][i] == pytest.approx(value, rel=1e-12)


def test_more_rows_than_a_chunk_keep_their_order() -> None:
    batches = np.tile([1.0, 8.0, 64.0], 4000)
    frame = pl.DataFrame([CHAT]).drop("batch_size").join(pl.DataFrame({"batch_size": batches}), how="cross")
    assert predict_many(frame)["batch_size"].to_list() == batches.tolist()


@settings(max_examples=40, deadline=None)
@given(
    batch=st.floats(1.0, 2000.0),
    model=st.sampled_from(["Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B-Instruct-2507", "openai/gpt-oss-120b"]),
    gpu=st.sampled_from(["H100", "B200", "H200", "A100-80GB"]),
    tokens=st.floats(2.0, 20_000.0),
)
def test_anything_sensible_gives_finite_positive_figures(batch: float, model: str, gpu: str, tokens: float) -> None:
    row = one(model_id=model, gpu_model=gpu, batch_size=batch, mean_output_tokens=tokens, num_gpus=4)
    assert all(np.isfinite(row[n]) and row[n] > 0 for n in OUTCOMES["language"])
    assert row["power_w"] <= 4 * 1000
    assert 0 <= row["starved_fraction"] < 1


def test_more_requests_together_cost_less_each_until_memory_ends() -> None:
    frame = pl.DataFrame([CHAT | {"batch_size": b} for b in (1.0, 8.0, 64.0, 256.0)])
    made = predict_many(frame)
    assert made["energy_per_output_j"].is_sorted(descending=True)
    assert made["itl_median_s"].is_sorted()


def test_longer_contexts_cost_more() -> None:
    frame = pl.DataFrame([CHAT | {"mean_input_tokens": t} for t in (100.0, 1000.0, 10_000.0)])
    made = predict_many(frame)
    assert made["energy_per_output_j"].is_sorted()
    assert made["batch_ceiling"].is_sorted(descending=True)


def test_an_unknown_gpu_has_wider_intervals_than_a_known_one_of_its_generation() -> None:
    wide = {}
    for gpu in ("H100", "H200", "A100-80GB"):
        row = one(gpu_model=gpu)
        wide[gpu] = row["energy_per_output_j_high"] / row["energy_per_output_j"]
    assert wide["H100"] < wide["H200"] < wide["A100-80GB"]


def test_beyond_the_ceiling_is_marked_and_wider() -> None:
    inside, beyond = one(batch_size=64.0), one(batch_size=4000.0)
    assert not inside["beyond_ceiling"]
    assert beyond["beyond_ceiling"]
    assert beyond["power_w_high"] / beyond["power_w"] > inside["power_w_high"] / inside["power_w"]


def test_a_missing_batch_is_the_smaller_of_setting_and_memory() -> None:
    row = {k: v for k, v in CHAT.items() if k != "batch_size"}
    assert predict_many(pl.DataFrame([row | {"max_num_seqs": 16}]))["batch_size"][0] == 16.0
    free = predict_many(pl.DataFrame([row]))
    assert free["batch_size"][0] == pytest.approx(free["batch_ceiling"][0])


def test_parts_sum_to_what_they_are_parts_of() -> None:
    frame = pl.DataFrame([CHAT, CHAT | {"batch_size": 1000.0}, CHAT | {"gpu_model": "B200", "num_gpus": 1}])
    parts = decompose(frame)
    for kind, unit, total in (("power", "w", "power_w"), ("energy", "j", "energy_per_output_j")):
        summed = sum((parts[f"{kind}_{p}_{unit}"] for p in PARTS), start=pl.Series([0.0] * 3))
        np.testing.assert_allclose(summed.to_numpy(), parts[total].to_numpy(), rtol=1e-12)
    steps = [c for c in parts.columns if c.startswith("step_")]
    mean_step = parts["batch_size"] / parts["output_throughput_per_s"]
    np.testing.assert_allclose(parts.select(pl.sum_horizontal(steps)).to_series().to_numpy(), mean_step.to_numpy())


def test_fp8_is_the_published_sibling_or_a_variant() -> None:
    sibling = one(model_id="Qwen/Qwen3-235B-A22B-Instruct-2507", num_gpus=8, weight_precision="fp8")
    named = one(model_id="Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", num_gpus=8)
    assert sibling["energy_per_output_j"] == named["energy_per_output_j"]
    variant, whole = one(weight_precision="fp8"), one(weight_precision="bfloat16")
    assert variant["memory_footprint_bytes"] < 0.7 * whole["memory_footprint_bytes"]
    assert variant["itl_median_s"] < whole["itl_median_s"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": -1.0}, "batch_size must be a positive number"),
        ({"mean_output_tokens": 0.0}, "mean_output_tokens must be a positive number"),
        ({"num_gpus": 10_000}, "beyond anything"),
        ({"batch_size": float("inf")}, "batch_size must be a positive number"),
    ],
)
def test_absurd_numbers_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        one(**changes)


@pytest.mark.parametrize(
    ("changes", "nearest"),
    [
        ({"model_id": "Qwen/Qwen3-23B"}, "Qwen/Qwen3-32B"),
        ({"gpu_model": "H10"}, "H100"),
        ({"weight_precision": "bfloat"}, "bfloat16"),
    ],
)
def test_unknown_names_bring_the_nearest(changes: dict[str, Any], nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=nearest):
        one(**changes)


def test_needed_columns_are_named() -> None:
    with pytest.raises(UsageError, match="gpu_model"):
        predict_many(pl.DataFrame({"model_id": ["Qwen/Qwen3-8B"]}))


def test_given_runs_draw_the_prediction_to_them_and_narrow_it() -> None:
    base = one()
    run = CHAT | {"task": None, "valid": True}
    measured = {
        "itl_median_s": base["itl_median_s"] * 1.3,
        "output_throughput_per_s": base["output_throughput_per_s"] / 1.3,
        "power_w": base["power_w"] * 0.9,
    }
    given_runs = pl.DataFrame([run | measured | {"batch_size": b} for b in (32.0, 64.0, 128.0)])
    corrected = predict_many(pl.DataFrame([CHAT]), given=given_runs).row(0, named=True)
    assert corrected["power_w"] < base["power_w"]
    assert corrected["output_throughput_per_s"] < base["output_throughput_per_s"]
    assert corrected["basis"] == "interpolated"
    assert corrected["power_w_high"] / corrected["power_w"] < base["power_w_high"] / base["power_w"]
    elsewhere = predict_many(pl.DataFrame([CHAT | {"model_id": "openai/gpt-oss-20b"}]), given=given_runs)
    assert elsewhere["basis"][0] == "modelled"


def test_copies_of_a_dense_model_multiply_throughput_and_power() -> None:
    alone = one(num_gpus=2, batch_size=32.0)
    four = one(num_gpus=8, batch_size=128.0, data_parallel=4)
    assert four["output_throughput_per_s"] == pytest.approx(4 * alone["output_throughput_per_s"])
    assert four["power_w"] == pytest.approx(4 * alone["power_w"])
    assert four["itl_median_s"] == pytest.approx(alone["itl_median_s"])
    assert four["batch_ceiling"] == pytest.approx(4 * alone["batch_ceiling"])
    assert four["batch_size"] == 128.0


def test_measured_runs_are_modelled_in_the_precision_they_were_served_in() -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct"
    runs = pl.DataFrame(
        [
            CHAT | {"model_id": model, "task": "gpqa", "num_gpus": 1, "weight_precision": p}
            for p in ("bfloat16", "fp8")
        ]
    )
    (described,) = modelled_forms(runs)
    assert isinstance(described.terms, LanguageTerms)
    plain, halved = described.terms.bytes_per_step["weights"]
    head = 128_256 * 4096 * 2
    assert halved == pytest.approx((plain - head) / 2 + head, rel=1e-6)
    both = predict_many(runs)["memory_footprint_bytes"]
    assert described.terms.memory_footprint_bytes == pytest.approx(both.to_numpy())


def test_runs_in_a_precision_that_is_not_known_are_left_out() -> None:
    runs = pl.DataFrame([CHAT | {"task": "gpqa", "weight_precision": "posit8"}])
    assert modelled_forms(runs) == []


def test_sorting_logits_costs_more_the_larger_the_batch() -> None:
    batches = [1.0, 32.0, 256.0]
    frames = {
        sampler: frame_of(*({"batch_size": b, "sampler": sampler} for b in batches))
        for sampler in ("sorted", "plain")
    }
    steps = {name: predict_many(frame)["itl_median_s"].to_numpy() for name, frame in frames.items()}
    ratio = steps["sorted"] / steps["plain"]
    assert ratio[0] < 1.02
    assert np.all(np.diff(ratio) > 0)


def test_outside_the_studys_tasks_nothing_is_sorted_no_host_is_narrow_and_intervals_are_wider() -> None:
    frame = frame_of(
        {
            "gpu_model": "B200",
            "num_gpus": 1,
            "batch_size": 32.0,
            "mean_output_tokens": 5000.0,
            "mean_input_tokens": 200.0,
        }
    )
    elsewhere, study = predict_many(frame), predict_many(frame.with_columns(pl.lit("gpqa").alias("task")))
    assert study["itl_median_s"][0] > 0.03 > elsewhere["itl_median_s"][0]
    plain = predict_many(frame.with_columns(pl.lit("plain").alias("sampler")))
    assert elsewhere["itl_median_s"][0] == plain["itl_median_s"][0]
    widths = [np.log(t["power_w_high"][0] / t["power_w"][0]) for t in (elsewhere, study)]
    assert widths[0] > widths[1]


def test_steps_beyond_the_captured_graphs_are_launched_one_kernel_after_the_other() -> None:
    small = {"model_id": "Qwen/Qwen3-8B", "num_gpus": 1, "sampler": "plain"}
    curve = predict_many(frame_of(*(small | {"batch_size": b} for b in (400.0, 500.0, 600.0))))
    steps = curve["itl_median_s"].to_numpy()
    assert np.all(np.diff(steps) > 0)
    launch = decompose(frame_of(*(small | {"batch_size": b} for b in (400.0, 500.0, 600.0))))["step_launch_s"]
    assert launch[1] == pytest.approx(launch[0], rel=0.2)
    assert launch[2] > launch[0]


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="sampler"):
        predict_many(frame_of({"sampler": "sortd"}))


def test_an_engine_that_no_longer_sorts_is_known_by_its_version() -> None:
    versions = ["0.11.1", "0.16.0", "0.17.0", "0.25.1", "v0.25.1.dev3+cu130", None, "main"]
    chat = {"task": "lm-arena-chat", "model_id": "Qwen/Qwen3-8B", "gpu_model": "H100", "num_gpus": 1}
    frame = frame_of(*(chat | {"batch_size": 256.0, "engine": "vllm"} for _ in versions)).with_columns(
        pl.Series("engine_version", versions, pl.String)
    )
    made = predict_many(frame)
    steps = made["itl_median_s"].to_numpy()
    plain = predict_many(frame.head(1).with_columns(pl.lit("plain").alias("sampler")))["itl_median_s"][0]
    sorts = [True, True, False, False, False, True, True]
    assert [bool(s > 1.1 * plain) for s in steps] == sorts
    # What is known of another engine version is known less well.
    widths = (made["energy_per_output_j_high"] / made["energy_per_output_j"]).to_numpy()
    assert all(widths[i] > widths[0] for i, sorting in enumerate(sorts) if not sorting)
    other = predict_many(frame.with_columns(pl.lit("sglang").alias("engine")))["itl_median_s"].to_numpy()
    assert np.all(other == steps[0])
