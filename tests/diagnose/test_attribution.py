"""Knobs that changed together are divided by the model, order apart, and the product stays exact."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulemap.diagnose.attribution import shapley, subsets
from joulemap.diagnose.explain import explain, explain_rows
from joulemap.diagnose.series import Curves
from joulemap.records import Basis
from joulemap.store.run_store import RunStore
from joulemap.store.schema import runs_to_frame, utc_now
from tests.builders import llm_run

KNOBS = ("model", "gpu_model", "num_gpus")


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8), st.permutations(range(3)))
def test_contributions_sum_and_do_not_depend_on_order(values: list[float], order: list[int]) -> None:
    by_subset = dict(zip(subsets(KNOBS), values, strict=True))
    effects = shapley(KNOBS, by_subset)
    whole = by_subset[frozenset(KNOBS)] - by_subset[frozenset()]
    assert math.fsum(effects.values()) == pytest.approx(whole, abs=1e-9)
    shuffled = shapley(tuple(KNOBS[i] for i in order), by_subset)
    assert shuffled == pytest.approx(effects, abs=1e-9)
    orders = list(itertools.permutations(KNOBS))
    for knob in KNOBS:
        steps = [frozenset(o[: o.index(knob)]) for o in orders]
        mean = sum(by_subset[s | {knob}] - by_subset[s] for s in steps) / len(orders)
        assert effects[knob] == pytest.approx(mean, abs=1e-9)


runs = st.builds(
    llm_run,
    task=st.sampled_from(["lm-arena-chat", "gpqa"]),
    model_id=st.sampled_from(["Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-30B-A3B-Instruct-2507"]),
    batch=st.sampled_from([8.0, 64.0, 200.0]),
    energy_j=st.floats(0.01, 10.0),
    power_w=st.floats(200.0, 1500.0),
    tokens=st.floats(50.0, 8_000.0),
    gpu_model=st.sampled_from(["H100", "B200"]),
    num_gpus=st.sampled_from([1, 2]),
)


@settings(max_examples=40)
@given(runs, runs)
def test_the_product_is_the_ratio(a: object, b: object) -> None:
    frame = runs_to_frame([a, b], stored_at=utc_now())  # type: ignore[list-item]
    first, second = frame.to_dicts()
    curves = Curves(frame)
    explanation = explain_rows(first, second, curves=curves)
    product = math.prod(f.ratio for f in explanation.factors) * explanation.unexplained_ratio
    assert math.isclose(product, first["energy_per_request_j"] / second["energy_per_request_j"], rel_tol=1e-9)
    for factor in explanation.factors:
        assert factor.low is None or factor.high is None or factor.low <= factor.ratio <= factor.high
    measured = explain_rows(first, second, curves=curves, measured_only=True)
    assert all(f.basis is not Basis.MODELLED for f in measured.factors)


def test_a_jump_over_unmeasured_ground(study_store: RunStore) -> None:
    a = "task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=best"
    b = "task=gpqa,model=Qwen 3 235B A22B Thinking FP8,gpu=B200,gpus=4,batch=best"
    joined = explain(a, b, store=study_store, measured_only=True)
    (together,) = [f for f in joined.factors if f.name == "model_and_gpu_count"]
    divided = explain(a, b, store=study_store)
    parts = {f.name: f for f in divided.factors if f.basis is Basis.MODELLED}
    assert set(parts) == {"model", "gpu_count"}
    assert math.prod(f.ratio for f in parts.values()) * divided.unexplained_ratio == pytest.approx(together.ratio)
    assert all("by the model" in f.cause for f in parts.values())
    swapped = {f.name: f.ratio for f in explain(b, a, store=study_store).factors if f.basis is Basis.MODELLED}
    assert swapped == pytest.approx({name: 1 / f.ratio for name, f in parts.items()}, rel=1e-6)


def test_an_engine_is_left_to_measurement() -> None:
    pair = [
        llm_run(model_id="Qwen/Qwen3-8B", energy_j=1.0, engine="vllm"),
        llm_run(model_id="Qwen/Qwen3-14B", energy_j=3.0, engine="tgi"),
    ]
    frame = runs_to_frame(pair, stored_at=utc_now())
    second, first = frame.to_dicts()
    explanation = explain_rows(first, second, curves=Curves(frame))
    assert [f.name for f in explanation.factors if f.ratio != 1.0] == ["model_and_engine"]
