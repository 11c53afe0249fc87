"""A small language model in this process; needs PyTorch and transformers, which the light environment lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from joulemap.catalog import ModelArchitecture, load_catalog
from joulemap.clock import SystemClock
from joulemap.errors import EnvironmentLacksError, InputError, MeasurementError, MissingExtraError, UnknownNameError
from joulemap.measure.in_process.language_model import ModelChoice, config_from_catalog
from joulemap.measure.in_process.levels import InProcessCampaign, InProcessPlan
from joulemap.measure.in_process.libraries import load
from joulemap.measure.in_process.static_decode import StaticDecode, StaticShape
from joulemap.measure.meters.assumed import AssumedMeter
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.journal import Journal
from joulemap.measure.session.level import Pace
from joulemap.measure.session.recording import Baselines
from joulemap.measure.session.session import Level, Session, SessionResult
from joulemap.store.run_store import open_store
from tests.measure.session.scripted import Silent

TINY = {
    "model_type": "qwen3",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
PACE = Pace(window_s=0.5, max_windows=3, min_warm_up_s=0.2, max_warm_up_s=3.0, max_duration_s=20.0)


def test_a_library_that_is_absent_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtraError, match="no_such_library"):
        load("no_such_library", extra="transformers", needed_for="--transformers")


@pytest.fixture(scope="module")
def transformers() -> Any:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra transformers)")
    return pytest.importorskip("transformers", reason="transformers is not installed (extra transformers)")


def plan(tmp_path: Path, *, static: bool, **changes: Any) -> InProcessPlan:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**TINY, **changes}))
    choice = ModelChoice(name=str(file), random_weights=True, precision="float32", device="cpu")
    return InProcessPlan(model=choice, batches=(1, 4), input_tokens=24, output_tokens=16, static=static)


def measured(what: InProcessPlan, folder: Path) -> SessionResult:
    store = open_store(folder / "store")
    campaign = InProcessCampaign(what)
    journal = Journal(folder / "sessions")
    with Instruments([AssumedMeter(100.0)]) as instruments:
        campaign.start(instruments, lambda _line: None)
        levels: list[Level] = list(campaign.levels(instruments))
        session = Session(store, instruments, PACE, Silent(), journal, clock=SystemClock())
        result = session.measure(levels, Baselines())
    journal.close()
    assert len(store) == len(result.runs)
    return result


@pytest.mark.usefixtures("transformers")
def test_a_static_batch_gives_step_times_of_a_known_batch(tmp_path: Path) -> None:
    result = measured(plan(tmp_path, static=True), tmp_path)
    assert result.error is None
    assert [run.measured.batch_size for run in result.runs] == [1.0, 4.0]
    for run in result.runs:
        throughput, itl_s = run.measured.output_throughput_per_s, run.measured.itl_mean_s
        assert throughput is not None
        assert itl_s is not None
        batch = run.workload.max_concurrency or 0
        # Every step gives one token to each sequence, and nothing but steps is done.
        assert throughput * itl_s == pytest.approx(batch, rel=0.05)
        assert run.measured.energy_per_request_j is None
        assert "prefill" in run.annotations.missing["energy_per_request_j"]
        assert any("no prefill" in note for note in run.validity.reasons)
        assert "random weights" in run.provenance.notes
        assert run.deployment.engine == "transformers"


@pytest.mark.usefixtures("transformers")
def test_continuous_batching_serves_whole_requests(tmp_path: Path) -> None:
    result = measured(plan(tmp_path, static=False), tmp_path)
    assert result.error is None, result.error
    for run in result.runs:
        assert run.measured.failed_requests == 0
        assert run.measured.ttft_median_s is not None
        assert run.measured.latency_median_s is not None
        assert run.measured.ttft_median_s < run.measured.latency_median_s
        assert run.measured.batch_size == pytest.approx(float(run.workload.max_concurrency or 0), rel=0.1)
        per_output, per_request = run.measured.energy_per_output_j, run.measured.energy_per_request_j
        assert per_output is not None
        assert per_request == pytest.approx(16 * per_output)


@pytest.mark.usefixtures("transformers")
def test_the_static_step_computes_what_the_model_computes(tmp_path: Path) -> None:
    """The last slot of a full cache, attended without a mask, is an ordinary decoding step."""
    import torch
    from transformers.cache_utils import DynamicCache

    from joulemap.measure.in_process.levels import load_for
    from joulemap.measure.in_process.static_decode import make_cache

    loaded = load_for(plan(tmp_path, static=True))
    shape = StaticShape(batch=2, input_tokens=20, output_tokens=8)
    kept = make_cache(torch, loaded, shape)
    ordinary = DynamicCache()
    for layer, (keys, values) in enumerate(kept.kept):
        ordinary.update(keys[:, :, :-1].clone(), values[:, :, :-1].clone(), layer)
    ids = torch.tensor([[3], [7]])
    position = torch.full((1, 1), shape.context_tokens - 1)
    with torch.inference_mode():
        ours = loaded.model(input_ids=ids, position_ids=position, past_key_values=kept, use_cache=True).logits
        loaded.model.set_attn_implementation("eager")
        theirs = loaded.model(input_ids=ids, position_ids=position, past_key_values=ordinary, use_cache=True).logits
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.usefixtures("transformers")
def test_a_work_that_fails_is_named(tmp_path: Path) -> None:
    from joulemap.measure.in_process.levels import load_for

    loaded = load_for(plan(tmp_path, static=True))
    work = StaticDecode(loaded, StaticShape(batch=1, input_tokens=8, output_tokens=8))
    work.start()
    del loaded.model.lm_head
    while work.failure() is None:
        SystemClock().sleep(0.01)
    work.stop()
    failure = work.failure()
    assert isinstance(failure, MeasurementError)
    assert "the decoding loop failed: AttributeError" in failure.message


def test_shapes_come_from_the_catalog(transformers: Any) -> None:
    for model_id in ("Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct"):
        architecture = load_catalog().model(model_id)
        assert isinstance(architecture, ModelArchitecture)
        config = config_from_catalog(transformers, architecture)
        with __import__("torch").device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        assert architecture.published is not None
        total = sum(p.numel() for p in model.parameters())
        assert total == pytest.approx(architecture.published.total, rel=0.01)


@pytest.mark.usefixtures("transformers")
def test_what_cannot_be_built_is_named(tmp_path: Path) -> None:
    from joulemap.measure.in_process.levels import load_for

    good = plan(tmp_path, static=True)

    def built(**changes: Any) -> None:
        choice = ModelChoice(**{"name": good.model.name, "random_weights": True, "device": "cpu", **changes})
        load_for(InProcessPlan(model=choice, batches=(1,), input_tokens=8, output_tokens=8, static=True))

    with pytest.raises(InputError, match="int3"):
        built(precision="int3")
    with pytest.raises(EnvironmentLacksError, match="fp8"):
        built(precision="fp8")
    with pytest.raises(UnknownNameError, match="model"):
        built(name="no/such-model")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no model configuration"):
        built()
