"""The recommendation keeps its limits, is explained, and says what would be feasible where nothing is."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from joulemap.cli.choice_options import LimitOptions, constraints_of
from joulemap.errors import InfeasibleError, SelectorError, UnknownNameError, UsageError
from joulemap.optimize import Constraints, Scope, recommend
from joulemap.optimize.candidates import Candidates, candidates
from joulemap.optimize.choice import recommend_among
from joulemap.optimize.quantities import Z90
from joulemap.store.run_store import RunStore, open_store
from tests.builders import llm_run

GPT = Scope(model="GPT OSS 120B", task="gpqa")


def at_quantile(row: Any, quantity: str, confidence: float) -> float:
    """The quantity's upper quantile, from the interval shown."""
    deviation = math.log(row[f"{quantity}_high"] / row[quantity]) / Z90
    return float(row[quantity] * math.exp(ndtri(confidence) * deviation))


@settings(max_examples=25)
@given(
    itl=st.floats(0.004, 0.3),
    p99=st.none() | st.floats(0.02, 0.5),
    throughput=st.none() | st.floats(100.0, 2e4),
    confidence=st.sampled_from([0.5, 0.9, 0.99]),
    h100=st.integers(1, 8),
)
def test_the_choice_keeps_every_limit_and_nothing_that_does_takes_less(
    gpt_oss: Candidates,
    itl: float,
    p99: float | None,
    throughput: float | None,
    confidence: float,
    h100: int,
) -> None:
    limits = Constraints(
        itl_median_s=itl,
        itl_p99_s=p99,
        output_throughput_per_s=throughput,
        gpus_available={"H100": h100},
        confidence=confidence,
    )

    def kept(row: Any) -> bool:
        replicas = h100 // row["num_gpus"] if row["gpu_model"] == "H100" else 0
        through = row["output_throughput_per_s"] ** 2 / at_quantile(row, "output_throughput_per_s", confidence)
        return (
            replicas >= 1
            and at_quantile(row, "itl_median_s", confidence) <= itl * (1 + 1e-9)
            and (p99 is None or at_quantile(row, "itl_p99_s", confidence) <= p99 * (1 + 1e-9))
            and (throughput is None or replicas * through >= throughput * (1 - 1e-9))
            and row["fits_probability"] >= confidence
        )

    keeping = [row for row in gpt_oss.table.iter_rows(named=True) if kept(row)]
    try:
        found = recommend_among(gpt_oss, limits)
    except InfeasibleError:
        assert keeping == []
        return
    assert kept(found.choice)
    assert found.feasible_candidates == len(keeping)
    measured = [r["energy_per_output_j"] for r in keeping if r["basis"] == "measured"]
    # Ranked is expected energy: a surer candidate may come before one of lower value, a measured one never.
    assert found.choice["energy_per_output_j"] <= min(measured, default=math.inf) * (1 + 1e-9)
    assert 0.0 < found.keeps_probability <= 1.0
    needed = found.replicas_needed * found.choice["num_gpus"]
    assert needed <= h100


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (LimitOptions(itl="1ms"), "itl"),
        (LimitOptions(ttft="1ms"), "ttft"),
        (LimitOptions(latency="1s"), "latency"),
        (LimitOptions(memory="1GB"), "memory"),
        (LimitOptions(throughput=1e6), "throughput"),
        (LimitOptions(gpus_available="H100=1", throughput=1e5), "throughput"),
    ],
)
def test_where_nothing_is_feasible_the_binding_limit_and_a_way_out_are_named(
    study_store: RunStore, limits: LimitOptions, named: str
) -> None:
    with pytest.raises(InfeasibleError, match=f"binding: {named}") as caught:
        recommend(GPT, constraints_of(limits), store=study_store)
    assert "The nearest, " in caught.value.message
    assert caught.value.fix is not None
    option, value = caught.value.fix.split(" ")
    assert option == f"--{named}"
    relaxed: dict[str, Any] = {named: float(value) if named == "throughput" else value}
    eased = LimitOptions(gpus_available=limits.gpus_available, **relaxed)
    assert recommend(GPT, constraints_of(eased), store=study_store).feasible_candidates >= 1


def test_of_two_limits_the_one_that_binds_is_named(study_store: RunStore) -> None:
    limits = Constraints(itl_median_s=0.001, itl_p99_s=10.0)
    with pytest.raises(InfeasibleError) as caught:
        recommend(GPT, limits, store=study_store)
    assert "binding: itl (" in caught.value.message


def test_a_precision_that_the_model_has_not_is_named(study_store: RunStore) -> None:
    with pytest.raises(InfeasibleError, match="binding: quality-floor"):
        recommend(GPT, Constraints(precision_floor="bf16"), store=study_store)
    with pytest.raises(UnknownNameError, match="bf61"):
        recommend(GPT, Constraints(precision_floor="bf61"), store=study_store)


def test_gpus_at_hand_may_go_by_any_of_their_names(study_store: RunStore) -> None:
    for name in ("H100", "h100", "NVIDIA H100 80GB HBM3"):
        found = recommend(GPT, Constraints(gpus_available={name: 2}), store=study_store)
        assert (found.choice["gpu_model"], found.choice["num_gpus"]) == ("H100", 2)
    with pytest.raises(InfeasibleError, match="binding: "):
        recommend(GPT, Constraints(gpus_available={"H100": 0}), store=study_store)


def test_memory_left_for_others_is_left(study_store: RunStore) -> None:
    found = recommend(GPT, Constraints(memory_bytes=60e9), store=study_store)
    assert found.choice["memory_footprint_bytes"] <= 60e9


def test_throughput_counts_all_replicas(study_store: RunStore) -> None:
    limits = Constraints(gpus_available={"H100": 8}, output_throughput_per_s=30_000.0, itl_median_s=0.1)
    found = recommend(GPT, limits, store=study_store)
    assert found.replicas_needed > 1
    assert found.replicas_needed * found.choice["num_gpus"] <= 8
    assert found.replicas_needed * found.choice["output_throughput_per_s"] >= 30_000.0


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 90.0])
def test_a_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        Constraints(confidence=confidence)


def test_a_quality_floor_keeps_wide_weights(study_store: RunStore) -> None:
    scope = Scope(model="Qwen/Qwen3-235B-A22B-Instruct-2507", task="lm-arena-chat", gpu_models=("H100",))
    free = recommend(scope, store=study_store)
    floored = recommend(scope, Constraints(precision_floor="bf16"), store=study_store)
    assert free.choice["weight_precision"] == "fp8"
    assert floored.choice["weight_precision"] == "bfloat16"


def test_steps_are_cut_only_where_asked_and_allowed(study_store: RunStore) -> None:
    base = Scope(model="FLUX.1-dev", task="text-to-image", gpu_models=("B200",))
    wide = Scope(model=base.model, task=base.task, gpu_models=base.gpu_models, levers=("diffusion_work", "batch"))
    assert recommend(base, store=study_store).choice["inference_steps"] == 50
    assert recommend(wide, store=study_store).choice["inference_steps"] < 50
    floored = recommend(wide, Constraints(steps_floor=50), store=study_store).choice
    assert floored["inference_steps"] == 50


@pytest.mark.parametrize(
    ("scope", "limits", "current"),
    [
        (GPT, Constraints(), "gpu=H100,gpus=1,batch=64"),
        (GPT, Constraints(itl_median_s=0.03), "gpu=H100,gpus=1,batch=50"),
        (Scope(model="FLUX.1-dev", task="text-to-image"), Constraints(), "gpu=H100,gpus=1,batch=3"),
        (Scope(model="Qwen/Qwen3-VL-8B-Instruct", task="video-chat"), Constraints(), "gpu=B200,gpus=1,batch=max"),
    ],
)
def test_the_steps_multiply_to_the_saving(
    study_store: RunStore, scope: Scope, limits: Constraints, current: str
) -> None:
    found = recommend(scope, limits, current=current, store=study_store)
    assert found.current is not None
    assert found.way is not None
    ratio = found.choice["energy_per_output_j"] / found.current["energy_per_output_j"]
    product = math.prod(s.change.energy_ratio or math.nan for s in found.steps) * found.way.unexplained_ratio
    assert product == pytest.approx(ratio, rel=1e-9)
    assert found.steps
    assert all(step.cause for step in found.steps)
    assert found.energy_ratio_min is not None
    assert found.energy_ratio_max is not None
    assert found.energy_ratio_min < ratio < found.energy_ratio_max
    both = {found.choice["basis"], found.current["basis"]}
    if both == {"measured"}:
        assert all(step.change.basis in ("measured", "interpolated") for step in found.steps)
        assert found.way.unexplained_ratio == pytest.approx(1.0)
    else:
        assert all(step.change.basis == "modelled" for step in found.steps)
        assert 0.8 < found.way.unexplained_ratio < 1.25


def test_the_current_configuration_may_be_a_run(study_store: RunStore, study_frame: pl.DataFrame) -> None:
    run = study_frame.filter((pl.col("nickname") == "GPT OSS 120B") & (pl.col("max_num_seqs") == 32))[0]
    found = recommend(GPT, current=run["run_id"][0], store=study_store)
    assert found.current is not None
    assert found.current["run_ids"] == [run["run_id"][0]]
    other = Scope(model="Qwen/Qwen3-8B", task="gpqa")
    with pytest.raises(SelectorError, match="not Qwen/Qwen3-8B"):
        recommend(other, current=run["run_id"][0], store=study_store)


def test_what_is_best_already_is_left_as_it_is(study_store: RunStore) -> None:
    scope = Scope(model="GPT OSS 120B", task="gpqa", measured_only=True)
    best = recommend(scope, store=study_store).choice
    found = recommend(scope, current=best["run_ids"][0], store=study_store)
    assert found.way is not None
    assert found.way.energy_ratio == 1.0
    assert found.steps == ()
    assert found.saves_probability == 0.0


def test_a_current_configuration_that_breaks_a_limit_is_told(study_store: RunStore) -> None:
    found = recommend(GPT, Constraints(itl_median_s=0.02), current="gpu=H100,gpus=1,batch=64", store=study_store)
    assert any("does not surely keep: itl" in text for text in found.notes)


@pytest.mark.parametrize(
    ("current", "message"),
    [
        ("gpu=H100,batch=64", "add gpus"),
        ("gpu=H100,gpus=1,batch=100000", "no candidate"),
        ("source=x", "no source"),
        ("ffffffffffff", "ffffffffffff"),
    ],
)
def test_a_current_configuration_that_is_none(study_store: RunStore, current: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recommend(GPT, current=current, store=study_store)


def test_of_equal_values_the_surer_is_chosen(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = open_store(tmp_path_factory.mktemp("store"))
    runs = [llm_run(batch=float(b), energy_j=e) for b, e in ((8, 2.0), (32, 1.0), (64, 1.0), (128, 2.0))]
    store.add(runs)
    found = recommend_among(candidates(store.frame, Scope(model="org/model-8b", task="chat")), Constraints())
    assert found.choice["basis"] == "measured"
    assert found.choice["energy_per_output_j"] == 1.0


def test_the_probability_of_being_least_falls_with_rivals(tmp_path_factory: pytest.TempPathFactory) -> None:
    def likely(rival_j: float) -> float:
        store = open_store(tmp_path_factory.mktemp("store"))
        store.add([llm_run(batch=8.0, energy_j=rival_j), llm_run(batch=16.0, energy_j=1.0)])
        scope = Scope(model="org/model-8b", task="chat", measured_only=True)
        return recommend_among(candidates(store.frame, scope), Constraints()).least_probability

    assert 0.45 < likely(1.000001) < 0.55
    assert likely(1.05) < likely(1.2) < likely(2.0)
    assert likely(2.0) > 0.999
