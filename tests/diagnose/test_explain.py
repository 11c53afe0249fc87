"""Explanations: factors that multiply to the measured ratio, read off measured neighbours."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joulemap.diagnose.explain import explain, explain_rows
from joulemap.diagnose.explanation import Explanation, Factor
from joulemap.diagnose.path import changed_knobs
from joulemap.diagnose.series import Curves, base_model, with_series_columns
from joulemap.errors import UsageError
from joulemap.records import Basis, Deployment, Measured, Provenance, Run, Workload
from joulemap.store.run_store import RunStore, open_store
from tests.builders import image_run, llm_run


def filled(folder: Path, runs: list[Run]) -> RunStore:
    store = open_store(folder)
    store.add(runs)
    return store


def by_name(explanation: Explanation) -> dict[str, Factor]:
    return {factor.name: factor for factor in explanation.factors}


def test_longer_replies_longer_context_and_a_lower_ceiling_are_told_apart(tmp_path: Path) -> None:
    store = filled(
        tmp_path,
        [
            llm_run(task="solve", batch=128.0, energy_j=0.3, tokens=7000.0, power_w=800.0),
            llm_run(task="chat", batch=128.0, energy_j=0.2, tokens=700.0, power_w=1000.0),
            llm_run(task="chat", batch=512.0, energy_j=0.1, tokens=700.0, power_w=1000.0),
        ],
    )
    explanation = explain("task=solve", "task=chat,batch=max", store=store)
    factors = by_name(explanation)
    assert list(factors) == ["output_tokens", "task_at_same_batch", "batch"]
    assert [f.ratio for f in factors.values()] == pytest.approx([10.0, 1.5, 2.0])
    assert explanation.unexplained_ratio == pytest.approx(1.0)
    assert factors["task_at_same_batch"].parts == pytest.approx({"power": 0.8, "time_per_output": 1.875})
    assert all(f.basis is Basis.MEASURED for f in factors.values())
    assert "KV cache" in factors["task_at_same_batch"].cause
    assert "lower batch" in factors["batch"].cause
    chat_128 = store.frame.filter(task="chat", max_num_seqs=128)["run_id"].item()
    assert chat_128 in factors["batch"].evidence
    assert chat_128 in factors["task_at_same_batch"].evidence


def test_between_two_batches_the_curve_is_a_power_law(tmp_path: Path) -> None:
    store = filled(
        tmp_path,
        [
            llm_run(task="chat", batch=10.0, energy_j=8.0),
            llm_run(task="chat", batch=1000.0, energy_j=2.0),
            llm_run(task="solve", batch=100.0, energy_j=6.0),
        ],
    )
    factors = by_name(explain("task=solve", "task=chat,batch=max", store=store, quantity="energy_per_output_j"))
    # Halfway in the logarithm between 8 and 2 lies 4.
    assert factors["task_at_same_batch"].ratio == pytest.approx(6.0 / 4.0)
    assert factors["batch"].ratio == pytest.approx(2.0)
    assert factors["batch"].basis is Basis.INTERPOLATED


def test_beyond_the_measured_batches_nothing_is_made_up(tmp_path: Path) -> None:
    store = filled(
        tmp_path,
        [
            llm_run(task="chat", batch=64.0, energy_j=1.0),
            llm_run(task="chat", batch=128.0, energy_j=0.8),
            llm_run(task="solve", batch=8.0, energy_j=4.0),
        ],
    )
    explanation = explain("task=solve", "task=chat,batch=max", store=store)
    (factor,) = [f for f in explanation.factors if "batch" in f.name]
    assert factor.name == "task_at_same_batch_and_batch"
    assert "nothing between was measured" in factor.cause
    assert factor.ratio == pytest.approx(5.0)


def test_a_second_gpu_costs_at_the_same_batch_and_saves_by_the_batch_it_unlocks(tmp_path: Path) -> None:
    store = filled(
        tmp_path,
        [
            llm_run(batch=64.0, energy_j=1.0, num_gpus=1),
            llm_run(batch=64.0, energy_j=1.2, num_gpus=2, tensor_parallel=2),
            llm_run(batch=512.0, energy_j=0.4, num_gpus=2, tensor_parallel=2),
        ],
    )
    factors = by_name(explain("gpus=2,batch=max", "gpus=1", store=store))
    assert factors["gpu_count"].ratio == pytest.approx(1.2)
    assert factors["batch"].ratio == pytest.approx(1 / 3)
    assert "communication" in factors["gpu_count"].cause


def test_precision_is_told_from_model_by_the_name(tmp_path: Path) -> None:
    assert base_model("Org/M-7B-FP8") == base_model("org/m-7b")
    assert base_model("Org/M-7B-FP8-Instruct") == base_model("org/m-7b-instruct")
    store = filled(
        tmp_path,
        [
            llm_run(model_id="org/m", batch=8.0, energy_j=1.0),
            llm_run(model_id="org/m-FP8", batch=8.0, energy_j=1.3, weight_precision="fp8"),
        ],
    )
    (factor,) = [f for f in explain("precision=fp8", "precision=bfloat16", store=store).factors if f.ratio != 1]
    assert factor.name == "precision"
    assert "quantisation" in factor.cause


def test_diffusion_is_split_into_steps_pixels_and_the_rest(tmp_path: Path) -> None:
    store = filled(
        tmp_path,
        [
            image_run(model_id="org/a", steps=50, side_px=1024, energy_j=4000.0),
            image_run(model_id="org/b", steps=25, side_px=512, energy_j=1000.0),
        ],
    )
    explanation = explain("model=org/a", "model=org/b", store=store)
    factors = by_name(explanation)
    assert (factors["steps"].ratio, factors["pixels"].ratio) == (2.0, 4.0)
    assert factors["model"].ratio == pytest.approx(0.5)
    assert explanation.ratio == pytest.approx(4.0)


def test_a_reply_and_an_image_share_no_knob(tmp_path: Path) -> None:
    store = filled(tmp_path, [llm_run(), image_run()])
    explanation = explain("task=text-to-image", "task=chat", store=store)
    assert [f.name for f in explanation.factors] == ["task"]
    assert explanation.unexplained_ratio == pytest.approx(1.0)


def test_a_run_without_a_batch_is_compared_as_a_whole(tmp_path: Path) -> None:
    unknown = Run(
        workload=Workload(task="chat", mean_output_tokens=100.0),
        deployment=Deployment(model_id="org/x", num_gpus=1),
        measured=Measured(energy_per_output_j=3.0, energy_per_request_j=300.0),
        provenance=Provenance(source="test"),
    )
    store = filled(tmp_path, [llm_run(), unknown])
    explanation = explain("model=org/x", "model=org/model-8b", store=store)
    assert explanation.ratio == pytest.approx(3.0)
    assert any("achieved batch" in text for text in explanation.notes)


def test_the_same_run_twice_has_nothing_to_explain(tmp_path: Path) -> None:
    store = filled(tmp_path, [llm_run()])
    explanation = explain("task=chat", "task=chat", store=store)
    assert explanation.ratio == 1.0
    assert all(f.ratio == 1.0 for f in explanation.factors)


def test_what_no_knob_explains_is_called_unexplained(tmp_path: Path) -> None:
    store = filled(tmp_path, [llm_run(energy_j=1.0), llm_run(energy_j=1.1)])
    first, second = store.frame["run_id"]
    explanation = explain(second, first, store=store)
    assert explanation.unexplained_ratio == pytest.approx(1.1)


def test_a_quantity_that_a_run_lacks_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path, [llm_run(), llm_run(task="code")])
    with pytest.raises(UsageError, match="latency_median_s in common"):
        explain("task=chat", "task=code", store=store, quantity="latency_median_s")
    with pytest.raises(UsageError, match="quantities are"):
        explain("task=chat", "task=code", store=store, quantity="beauty")


def test_factors_that_do_not_multiply_are_refused() -> None:
    factor = Factor(name="x", cause="", ratio=2.0, basis=Basis.MEASURED, evidence=())
    with pytest.raises(ArithmeticError, match="multiply"):
        Explanation(
            a="a", b="b", a_label="", b_label="", quantity="power_w", unit="W", a_value=3.0, b_value=1.0,
            ratio=3.0, factors=(factor,), unexplained_ratio=1.0,
        )  # fmt: skip


configurations = st.builds(
    llm_run,
    task=st.sampled_from(["chat", "solve"]),
    model_id=st.sampled_from(["org/m", "org/m-FP8", "org/n"]),
    batch=st.sampled_from([8.0, 16.0, 64.0]),
    energy_j=st.floats(0.01, 100.0),
    power_w=st.floats(50.0, 5000.0),
    tokens=st.floats(10.0, 10_000.0),
    gpu_model=st.sampled_from(["H100", "B200"]),
    num_gpus=st.sampled_from([1, 2]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(configurations, min_size=2, max_size=12))
def test_the_product_is_the_ratio_both_ways(tmp_path_factory: pytest.TempPathFactory, runs: list[Run]) -> None:
    store = filled(tmp_path_factory.mktemp("store"), runs)
    curves = Curves(store.frame)
    rows = store.frame.to_dicts()
    for a, b in itertools.islice(itertools.permutations(rows, 2), 12):
        explanation = explain_rows(a, b, curves=curves)
        product = math.prod(f.ratio for f in explanation.factors) * explanation.unexplained_ratio
        assert math.isclose(product, a["energy_per_request_j"] / b["energy_per_request_j"], rel_tol=1e-9)


# ---------------------------------------------------------------- the study's own cases


def test_the_worked_case_of_the_study(study_store: RunStore) -> None:
    """Problem Solving against Text Conversation: 23x = 11x tokens × 1.5x context × 1.4x batch ceiling."""
    explanation = explain(
        "task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max",
        "task=lm-arena-chat,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max",
        store=study_store,
    )
    assert round(explanation.ratio) == 23
    assert [f.name for f in explanation.factors] == ["output_tokens", "task_at_same_batch", "batch"]
    tokens, context, batch = (f.ratio for f in explanation.factors)
    assert (round(tokens), round(context, 1), round(batch, 1)) == (11, 1.5, 1.4)
    assert explanation.unexplained_ratio == pytest.approx(1.0, abs=1e-3)


def test_unlocking_batch_with_a_second_gpu(study_store: RunStore) -> None:
    model = "task=gpqa,model=openai/gpt-oss-120b,gpu=H100"
    explanation = explain(f"{model},gpus=2,batch=best", f"{model},gpus=1,batch=best", store=study_store)
    factors = by_name(explanation)
    assert round(1 - factors["batch"].ratio * factors["gpu_count"].ratio, 2) == pytest.approx(0.68, abs=0.01)
    assert factors["gpu_count"].ratio > 1.0 > factors["batch"].ratio


def test_every_pair_of_a_sample_of_the_study_is_conserved(study_store: RunStore) -> None:
    curves = Curves(study_store.frame)
    rows = study_store.frame.sample(60, seed=7).to_dicts()
    unexplained = []
    for a, b in itertools.permutations(rows, 2):
        if (a["output_unit"] == "token") != (b["output_unit"] == "token"):
            continue
        explanation = explain_rows(a, b, curves=curves, measured_only=True)
        unexplained.append(abs(math.log(explanation.unexplained_ratio)))
        assert explanation.factors or not changed_knobs(
            *with_series_columns(study_store.frame.filter(run_id=a["run_id"])).to_dicts(),
            *with_series_columns(study_store.frame.filter(run_id=b["run_id"])).to_dicts(),
        )
    assert max(unexplained) < 0.05
