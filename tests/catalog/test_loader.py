"""Names lead to the right facts; wrong ones to suggestions; reading stays light."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.catalog import DiffusionArchitecture, ModelArchitecture, load_catalog
from joulemap.errors import EXIT_BAD_INPUT, UnknownNameError

CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("h100", "H100"),
        ("H100-SXM", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB-PCIe"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB-PCIe"),
        ("NVIDIA L40S", "L40S"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_gpus_answer_to_the_names_that_drivers_report(name: str, gpu: str) -> None:
    assert CATALOG.gpu(name).id == gpu


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("qwen 3 32b", "Qwen/Qwen3-32B"),
        ("Qwen3-32B", "Qwen/Qwen3-32B"),
        ("PixArt-Σ", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"),
        ("GPT OSS 120B", "openai/gpt-oss-120b"),
        ("FLUX.1-dev", "black-forest-labs/FLUX.1-dev"),
    ],
)
def test_models_answer_to_id_short_id_and_nickname(name: str, model: str) -> None:
    assert CATALOG.model(name).id == model


def test_tasks_and_engines_answer_to_their_names() -> None:
    assert CATALOG.task("Problem Solving").id == CATALOG.task("GPQA Diamond").id == "gpqa"
    assert CATALOG.engine("vLLM").id == "vllm"
    assert CATALOG.engine("xDiT").id == "xdit"


def test_a_model_is_found_by_name_or_read_from_its_folder(tmp_path: Path) -> None:
    assert CATALOG.model_from("Qwen 3 32B").id == "Qwen/Qwen3-32B"
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llama",
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_attention_heads": 4,
                "num_hidden_layers": 2,
                "vocab_size": 100,
            }
        )
    )
    assert isinstance(CATALOG.model_from(own), ModelArchitecture)
    pipeline = tmp_path / "pipeline"
    (pipeline / "transformer").mkdir(parents=True)
    (pipeline / "transformer" / "config.json").write_text(
        json.dumps(
            {
                "_class_name": "PixArtTransformer2DModel",
                "num_attention_heads": 4,
                "attention_head_dim": 8,
                "num_layers": 2,
                "in_channels": 4,
                "cross_attention_dim": 32,
            }
        )
    )
    for path in (pipeline, pipeline / "transformer", pipeline / "transformer" / "config.json"):
        assert isinstance(CATALOG.model_from(path), DiffusionArchitecture)
    with pytest.raises(UnknownNameError):
        CATALOG.model_from(tmp_path / "absent")
    with pytest.raises(UnknownNameError):
        CATALOG.model_from("x" * 10_000)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown GPU model 'H10O'") as caught:
        CATALOG.gpu("H10O")
    assert "H100" in caught.value.suggestions
    assert caught.value.exit_code == EXIT_BAD_INPUT
    with pytest.raises(UnknownNameError, match="Qwen/Qwen3-32B"):
        CATALOG.model("Qwen/Qwen3-33B")
    with pytest.raises(UnknownNameError, match=r"one of|did you mean"):
        CATALOG.task("")


@given(st.text(max_size=50))
def test_any_text_is_a_known_name_or_an_unknown_one(name: str) -> None:
    for look_up in (CATALOG.gpu, CATALOG.model, CATALOG.task, CATALOG.engine):
        with contextlib.suppress(UnknownNameError):
            look_up(name)


def test_every_other_name_leads_back() -> None:
    for gpu in CATALOG.gpus.values():
        assert all(CATALOG.gpu(name) is gpu for name in (gpu.id, gpu.name, *gpu.aliases))
    for model in CATALOG.models.values():
        assert all(CATALOG.model(name) is model for name in (model.id, model.nickname))


def test_values_cannot_be_changed_and_are_read_once() -> None:
    gpu = CATALOG.gpu("H100")
    with pytest.raises(dataclasses.FrozenInstanceError):
        gpu.tdp_w = 1.0  # type: ignore[misc]
    assert load_catalog() is CATALOG
    assert CATALOG.gpu("H100") is gpu


def test_reading_it_all_needs_no_heavy_library() -> None:
    code = (
        "import sys; from joulemap.catalog import load_catalog; c = load_catalog();"
        "c.gpus, c.models, c.tasks, c.engines, c.servers, c.facilities, c.precisions;"
        "print([m for m in ('numpy', 'polars', 'scipy', 'pydantic', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_part_is_stored_in_the_precision_that_its_model_states() -> None:
    sizes = {
        ("openai/gpt-oss-120b", "experts"): "mxfp4",
        ("openai/gpt-oss-120b", "attention"): "bf16",
        ("deepseek-ai/DeepSeek-R1-0528", "attention"): "fp8",
        ("deepseek-ai/DeepSeek-R1-0528", "lm_head"): "bf16",
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "mlp"): "fp8",
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "attention"): "bf16",
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", "experts"): "fp8",
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", "shared_experts"): "bf16",
        ("Qwen/Qwen3-VL-235B-A22B-Instruct-FP8", "vision"): "bf16",
        ("Qwen/Qwen3-VL-235B-A22B-Instruct-FP8", "experts"): "fp8",
    }
    for (model, part), precision in sizes.items():
        assert CATALOG.model(model).quantization.of(part) == precision  # type: ignore[arg-type]
