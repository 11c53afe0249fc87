from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from joulemap.catalog.hf_config import architecture_from_hf_config
from joulemap.errors import InfeasibleError, UnknownNameError, UsageError
from joulemap.predict.single import predict
from joulemap.records import Basis, Deployment, LengthDistribution, Workload

SERVED = Deployment(model_id="Qwen/Qwen3-32B", gpu_model="H100", num_gpus=2)
CHAT = Workload(task="lm-arena-chat", mean_output_tokens=600.0)


def test_every_figure_has_unit_basis_and_interval() -> None:
    made = predict(CHAT, SERVED, batch_size=64.0)
    assert made.quantities["energy_per_output_j"].unit == "J/token"
    assert made.quantities["throughput_per_watt"].unit == "token/J"
    for quantity in made.quantities.values():
        assert quantity.low is not None
        assert quantity.basis is Basis.MODELLED
    assert {"batch_size", "kv_cache_utilization", "starved_fraction"} <= set(made.latents)
    json.dumps(made.to_json(), allow_nan=False)


def test_the_ledger_sums_to_the_energy() -> None:
    made = predict(CHAT, SERVED, batch_size=64.0)
    assert sum(made.energy_parts_j.values()) == pytest.approx(made.quantities["energy_per_output_j"].value)
    assert sum(made.power_parts_w.values()) == pytest.approx(made.quantities["power_w"].value)


def test_what_was_assumed_is_said() -> None:
    made = predict(Workload(), SERVED)
    assert {"weight_precision", "mean_output_tokens", "mean_input_tokens", "batch_size"} <= set(made.assumptions)
    assert made.deployment.weight_precision == "bf16"


def test_a_rate_sets_the_batch_that_serves_it() -> None:
    made = predict(replace(CHAT, request_rate_per_s=3.0), SERVED)
    assert made.quantities["request_throughput_per_s"].value == pytest.approx(3.0, rel=0.02)
    assert not made.warnings


def test_a_rate_too_high_warns_of_the_queue() -> None:
    made = predict(replace(CHAT, request_rate_per_s=3000.0), SERVED)
    assert any("queue" in w for w in made.warnings)


def test_concurrency_is_the_batch_up_to_the_ceiling() -> None:
    assert predict(replace(CHAT, max_concurrency=20), SERVED).latents["batch_size"].value == 20.0
    crowded = predict(replace(CHAT, max_concurrency=100_000), SERVED)
    assert crowded.latents["batch_size"].value == pytest.approx(crowded.latents["batch_ceiling"].value)


def test_a_model_that_cannot_fit_says_so_with_the_bytes() -> None:
    with pytest.raises(InfeasibleError, match=r"needs 203\.0 GB on each GPU, of 85\.5 GB"):
        predict(CHAT, replace(SERVED, model_id="meta-llama/Llama-3.1-405B-Instruct", num_gpus=4))


def test_batch_above_the_ceiling_is_a_marked_extrapolation() -> None:
    made = predict(CHAT, SERVED, batch_size=5000.0)
    assert any("beyond the ceiling" in w for w in made.warnings)


def test_a_gpu_known_only_by_its_datasheet_warns() -> None:
    made = predict(CHAT, replace(SERVED, gpu_model="A100-80GB"), batch_size=16.0)
    assert any("datasheet" in w for w in made.warnings)


def test_unknown_gpus_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="H100"):
        predict(CHAT, replace(SERVED, gpu_model="H1000"), batch_size=1.0)


def test_a_distribution_of_lengths_counts_with_its_spread() -> None:
    narrow = LengthDistribution(edges=(590.0, 610.0), counts=(10,))
    wide = LengthDistribution(edges=(0.0, 20.0, 1180.0, 1200.0), counts=(10, 0, 10))
    made = [
        predict(Workload(output_lengths=lengths, mean_input_tokens=100.0), SERVED, batch_size=64.0)
        for lengths in (narrow, wide)
    ]
    contexts = [m.latents["mean_context_tokens"].value for m in made]
    assert contexts[0] == pytest.approx(400.0)
    assert contexts[1] > 600.0


def test_diffusion_uses_the_publishers_settings() -> None:
    made = predict(Workload(), Deployment(model_id="black-forest-labs/FLUX.1-dev", gpu_model="H100", num_gpus=1))
    assert made.quantities["energy_per_output_j"].unit == "J/image"
    half = predict(
        Workload(inference_steps=25),
        Deployment(model_id="black-forest-labs/FLUX.1-dev", gpu_model="H100", num_gpus=1),
    )
    assert made.assumptions["inference_steps"]
    assert half.quantities["energy_per_output_j"].value < 0.6 * made.quantities["energy_per_output_j"].value


@pytest.mark.parametrize("name", ["meta-llama--Meta-Llama-3.1-8B_config.json", "Qwen--Qwen3-235B-A22B_config.json"])
def test_a_published_config_is_read(study_data: Path, name: str) -> None:
    model = architecture_from_hf_config(study_data / "model-configs" / name)
    made = predict(
        CHAT, Deployment(model_id=model.id, gpu_model="B200", num_gpus=8), batch_size=32.0, models={model.id: model}
    )
    assert 0.0 < made.quantities["energy_per_output_j"].value < 10.0


def test_the_engines_version_decides_the_sampler_and_says_so() -> None:
    usual = predict(CHAT, SERVED, batch_size=256)
    newer = predict(CHAT, replace(SERVED, engine="vllm", engine_version="0.25.1"), batch_size=256)
    assert usual.assumptions["sampler"] == "sorted, as in the study and in vLLM before 0.17.0"
    assert newer.assumptions["sampler"] == "plain"
    assert newer.quantities["energy_per_output_j"].value < 0.95 * usual.quantities["energy_per_output_j"].value


@pytest.mark.parametrize(
    ("model", "gpu", "gpus", "fix"),
    [
        ("meta-llama/Llama-3.1-405B-Instruct", "H100", 1, "use more GPUs (--gpus 16)"),
        ("Qwen/Qwen3-32B", "A100-40GB", 1, "use more GPUs (--gpus 2) or a smaller precision (--precision fp8)"),
    ],
)
def test_what_is_suggested_for_memory_does_fit(model: str, gpu: str, gpus: int, fix: str) -> None:
    asked = Deployment(model_id=model, gpu_model=gpu, num_gpus=gpus)
    with pytest.raises(InfeasibleError) as raised:
        predict(CHAT, asked)
    assert raised.value.fix == fix
    suggested = int(fix.partition("--gpus ")[2].partition(")")[0])
    assert predict(CHAT, replace(asked, num_gpus=suggested)).latents["batch_ceiling"].value >= 1.0
    with pytest.raises(InfeasibleError):
        predict(CHAT, replace(asked, num_gpus=suggested // 2))


@pytest.mark.parametrize(
    "asked",
    [
        replace(SERVED, tensor_parallel=4),
        replace(SERVED, expert_parallel=4),
        replace(SERVED, data_parallel=4),
    ],
)
def test_gpus_divide_by_each_parallelism(asked: Deployment) -> None:
    with pytest.raises(UsageError, match=r"_parallel = 4 does not divide 2 GPUs"):
        predict(CHAT, asked, batch_size=8.0)
    assert predict(CHAT, replace(asked, num_gpus=4), batch_size=8.0)


@pytest.mark.parametrize("batch", [5e-324, 1e-300, 1e-7])
def test_a_batch_too_small_to_be_meant_is_refused(batch: float) -> None:
    with pytest.raises(UsageError, match="less than anything that can be meant"):
        predict(CHAT, SERVED, batch_size=batch)


@pytest.mark.filterwarnings("error")
def test_the_least_values_still_give_figures() -> None:
    asked = replace(CHAT, mean_input_tokens=1e-3, mean_output_tokens=1e-3)
    for made in (predict(CHAT, SERVED, batch_size=1e-6), predict(asked, SERVED, batch_size=8.0)):
        json.dumps(made.to_json(), allow_nan=False)
