"""Any Hugging Face config becomes a shape, or one clear error: never a traceback."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulemap.catalog import (
    Attention,
    DenseMlp,
    GatedDeltaNet,
    LatentAttention,
    Mamba2,
    ModelArchitecture,
    MoeMlp,
    WeightPart,
    load_catalog,
)
from joulemap.catalog.hf_config import architecture_from_hf_config
from joulemap.errors import CatalogError
from joulemap.physics.parameters import parameter_counts

PARAMETERS = {
    "Qwen--Qwen3-8B": 8_190_735_360,
    "Qwen--Qwen3-32B": 32_762_123_264,
    "Qwen--Qwen3-32B-FP8": 32_762_123_264,
    "Qwen--Qwen3-30B-A3B": 30_532_122_624,
    "Qwen--Qwen3-235B-A22B": 235_093_634_560,
    "Qwen--Qwen3-235B-A22B-FP8": 235_093_634_560,
    "Qwen--Qwen3-Coder-480B-A35B-Instruct": 480_154_875_392,
    "Qwen--Qwen3-VL-8B-Instruct": 8_767_123_696,
    "Qwen--Qwen3-VL-32B-Instruct": 33_357_390_064,
    "Qwen--Qwen3-VL-30B-A3B-Instruct": 31_070_754_032,
    "Qwen--Qwen3-VL-235B-A22B-Instruct": 235_670_022_896,
    "deepseek-ai--DeepSeek-R1": 671_026_404_352,
    "deepseek-ai--DeepSeek-V3": 671_026_404_352,
    "google--gemma-4-26B-A4B": 25_805_933_872,
    "nvidia--Gemma-4-31B-IT-NVFP4": 31_273_086_512,
    "meta-llama--Meta-Llama-3.1-8B": 8_030_261_248,
    "meta-llama--Meta-Llama-3.1-70B": 70_553_706_496,
    "meta-llama--Meta-Llama-3.1-405B": 405_853_388_800,
    "meta-llama--Llama-4-Scout-17B-16E-Instruct": 107_769_861_120,
    "meta-llama--Llama-4-Maverick-17B-128E-Instruct": 400_711_848_960,
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 31_577_937_344,
    "nvidia--Nemotron-H-56B-Base-8K": 56_324_350_464,
    "openai--gpt-oss-20b": 20_914_757_184,
    "openai--gpt-oss-120b": 116_829_156_672,
}
"""Counted in the Transformers 5.23.0 class built from the same file (Llama 4: its language part, for the file at
hand has no vision_config)."""

IN_CATALOG = {
    "Qwen--Qwen3-8B": "Qwen/Qwen3-8B",
    "Qwen--Qwen3-32B": "Qwen/Qwen3-32B",
    "Qwen--Qwen3-30B-A3B": "Qwen/Qwen3-30B-A3B-Instruct-2507",
    "Qwen--Qwen3-235B-A22B-FP8": "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
    "Qwen--Qwen3-Coder-480B-A35B-Instruct": "Qwen/Qwen3-Coder-480B-A35B-Instruct",
    "Qwen--Qwen3-VL-8B-Instruct": "Qwen/Qwen3-VL-8B-Instruct",
    "Qwen--Qwen3-VL-32B-Instruct": "Qwen/Qwen3-VL-32B-Instruct",
    "Qwen--Qwen3-VL-30B-A3B-Instruct": "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "Qwen--Qwen3-VL-235B-A22B-Instruct": "Qwen/Qwen3-VL-235B-A22B-Instruct",
    "deepseek-ai--DeepSeek-R1": "deepseek-ai/DeepSeek-R1-0528",
    "deepseek-ai--DeepSeek-V3": "deepseek-ai/DeepSeek-V3.1",
    "meta-llama--Meta-Llama-3.1-8B": "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama--Meta-Llama-3.1-70B": "meta-llama/Llama-3.3-70B-Instruct",
    "meta-llama--Meta-Llama-3.1-405B": "meta-llama/Llama-3.1-405B-Instruct",
    "meta-llama--Llama-4-Scout-17B-16E-Instruct": "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "meta-llama--Llama-4-Maverick-17B-128E-Instruct": "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
    "openai--gpt-oss-20b": "openai/gpt-oss-20b",
    "openai--gpt-oss-120b": "openai/gpt-oss-120b",
}

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}


def config_file(study_data: Path, name: str) -> Path:
    return study_data / "model-configs" / f"{name}_config.json"


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_published_configs_count_as_their_classes_do(study_data: Path, name: str, parameters: int) -> None:
    model = architecture_from_hf_config(config_file(study_data, name))
    assert parameter_counts(model).total == pytest.approx(parameters, rel=2e-5)
    assert model.notes == ()


def test_every_config_at_hand_is_tested(study_data: Path) -> None:
    files = {f.name.removesuffix("_config.json") for f in (study_data / "model-configs").glob("*.json")}
    assert files == set(PARAMETERS)


@pytest.mark.parametrize(("name", "model_id"), IN_CATALOG.items())
def test_a_config_gives_what_the_catalog_says(study_data: Path, name: str, model_id: str) -> None:
    ours = load_catalog().model(model_id)
    assert isinstance(ours, ModelArchitecture)
    read = architecture_from_hf_config(config_file(study_data, name))
    assert sorted(read.layers, key=repr) == sorted(ours.layers, key=repr)
    assert (read.hidden_size, read.vocab_size, read.tied_embeddings, read.kind) == (
        ours.hidden_size,
        ours.vocab_size,
        ours.tied_embeddings,
        ours.kind,
    )
    if read.vision is not None:
        assert read.vision == ours.vision
    parts: set[WeightPart] = set(parameter_counts(read).parts)
    assert {part: read.quantization.of(part) for part in parts} == {
        part: ours.quantization.of(part) for part in parts
    }


def test_nvfp4_keeps_attention_and_encoder_in_sixteen_bits(study_data: Path) -> None:
    stored = architecture_from_hf_config(config_file(study_data, "nvidia--Gemma-4-31B-IT-NVFP4")).quantization
    assert (stored.of("mlp"), stored.of("attention"), stored.of("vision")) == ("nvfp4", "bf16", "bf16")
    assert stored.activation_precision == "nvfp4"


def test_a_plain_decoder_by_hand() -> None:
    model = architecture_from_hf_config(LLAMA, model_id="me/mine")
    assert model.id == "me/mine"
    assert model.kind == "dense"
    (group,) = model.layers
    assert group.count == 3
    assert group.mixer == Attention(heads=4, kv_heads=2, head_dim=16)
    assert group.mlp == DenseMlp(intermediate_size=128)
    assert parameter_counts(model).total == 2 * 64_000 + 64 + 3 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 128)


def test_sliding_windows_by_list_by_pattern_and_by_flag() -> None:
    layer_types = ["sliding_attention", "sliding_attention", "full_attention"]
    scopes: dict[str, dict[str, Any]] = {
        "list": {"layer_types": layer_types, "sliding_window": 512},
        "pattern": {"sliding_window": 512, "sliding_window_pattern": 3},
    }
    for changes in scopes.values():
        groups = architecture_from_hf_config(LLAMA | changes).layers
        counts = {g.mixer.scope: g.count for g in groups if isinstance(g.mixer, Attention)}
        assert counts == {"sliding": 2, "full": 1}
    off = LLAMA | {"model_type": "qwen2", "sliding_window": 512, "use_sliding_window": False}
    assert {g.mixer.scope for g in architecture_from_hf_config(off).layers if isinstance(g.mixer, Attention)} == {
        "full"
    }


def test_mixtures_with_dense_layers_first_and_shared_experts() -> None:
    mixture = {
        "model_type": "deepseek_v3", "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "n_shared_experts": 2, "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": None,
        "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
    }  # fmt: skip
    dense, sparse = architecture_from_hf_config(LLAMA | mixture).layers
    assert (dense.count, sparse.count) == (1, 2)
    assert isinstance(dense.mixer, LatentAttention)
    assert dense.mixer.q_lora_rank is None
    assert sparse.mlp == MoeMlp(
        num_experts=8, experts_per_token=2, intermediate_size=32, shared_intermediate_size=64
    )


def test_hybrids_of_each_kind() -> None:
    nemotron = {
        "model_type": "nemotron_h", "hybrid_override_pattern": "M-M*", "num_hidden_layers": 4, "mamba_num_heads": 8,
        "mamba_head_dim": 16, "ssm_state_size": 32, "n_groups": 2,
    }  # fmt: skip
    model = architecture_from_hf_config(LLAMA | nemotron)
    assert model.kind == "hybrid"
    assert [(g.count, type(g.mixer), type(g.mlp)) for g in model.layers] == [
        (2, Mamba2, type(None)),
        (1, type(None), DenseMlp),
        (1, Attention, type(None)),
    ]
    linear = {
        "model_type": "qwen3_next", "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4,
    }  # fmt: skip
    model = architecture_from_hf_config(LLAMA | linear)
    assert [(g.count, type(g.mixer)) for g in model.layers] == [(3, GatedDeltaNet), (1, Attention)]


def test_gemma_3_needs_what_its_file_leaves_out() -> None:
    text = {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "sliding_window": 1024,
    }  # fmt: skip
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
        "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 896, "patch_size": 14,
    }  # fmt: skip
    outer = {"model_type": "gemma3", "text_config": text, "vision_config": vision, "mm_tokens_per_image": 256}
    model = architecture_from_hf_config(outer)
    assert model.tied_embeddings
    assert model.vision is not None
    assert (model.vision.tokens_per_image, model.vision.patches_per_token) == (256, 16)
    assert parameter_counts(model).total == pytest.approx(4_300_079_472, rel=1e-4)  # google/gemma-3-4b-it


@pytest.mark.parametrize(
    ("quantization", "precision", "activation", "attention"),
    [
        ({"quant_method": "awq", "bits": 4}, "int4", "bf16", "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8", "bf16", "int8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", "fp8", "fp8"),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head", *(
            f"model.layers.{i}.self_attn.q_proj" for i in range(3))]}, "fp8", "fp8", "bf16"),
        ({"quant_method": "mxfp4"}, "mxfp4", "bf16", "bf16"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", "fp8", "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {
            "num_bits": 8, "type": "float"}}}, "ignore": ["re:.*self_attn.*"]}, "fp8", "fp8", "bf16"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {
            "num_bits": 4, "type": "int"}}}}, "int4", "bf16", "int4"),
    ],
)  # fmt: skip
def test_ways_to_quantise(quantization: dict[str, Any], precision: str, activation: str, attention: str) -> None:
    stored = architecture_from_hf_config(LLAMA | {"quantization_config": quantization}).quantization
    assert (stored.precision, stored.activation_precision, stored.of("attention")) == (
        precision,
        activation,
        attention,
    )
    assert (stored.of("embeddings"), stored.of("lm_head"), stored.of("norms")) == ("bf16",) * 3


def test_a_type_that_is_not_known_is_read_with_a_note() -> None:
    model = architecture_from_hf_config(LLAMA | {"model_type": "zebra"})
    assert parameter_counts(model) == parameter_counts(architecture_from_hf_config(LLAMA))
    assert model.notes == ("model_type 'zebra' is not known by name; read by the usual keys",)


@pytest.mark.parametrize(
    "key", ["hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size"]
)
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(CatalogError, match=f"'{key}'.*is needed"):
        architecture_from_hf_config({k: v for k, v in LLAMA.items() if k != key})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": -1}, r"'hidden_size' must be from 1 to"),
        ({"hidden_size": "64"}, r"'hidden_size' must be a whole number, not '64'"),
        ({"hidden_size": True}, r"must be a whole number, not True"),
        ({"num_hidden_layers": 10**12}, r"'num_hidden_layers' must be from"),
        ({"num_key_value_heads": 8}, r"cannot exceed the 4 attention heads: 8"),
        ({"num_experts": 4, "num_experts_per_tok": 5}, r"cannot exceed the 4 experts: 5"),
        ({"layer_types": ["full_attention"]}, r"names 1 layers, but there are 3"),
        ({"layer_types": ["warp"] * 3}, r"not known: 'warp'"),
        ({"text_config": 3}, r"'text_config' must be an object"),
        ({"quantization_config": {"quant_method": "magic"}}, r"'quant_method' is not known"),
        ({"torch_dtype": "complex64"}, r"data type that is not known"),
        ({"model_type": "bert"}, r"is no decoder"),
        ({"model_type": "jamba"}, r"first-generation Mamba"),
        ({"model_type": []}, r"'model_type' must be a text"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CatalogError, match=reason):
        architecture_from_hf_config(LLAMA | changes)


def test_files_that_are_no_configs(tmp_path: Path) -> None:
    bad = {
        "missing": None, "binary": b"\xff\xfe\x00", "cut": b'{"hidden_size": 6', "list": b"[1, 2]", "empty": b"",
        "deep": b"[" * 100_000, "digits": b'{"hidden_size": ' + b"9" * 10_000 + b"}",
    }  # fmt: skip
    for name, content in bad.items():
        path = tmp_path / f"{name}.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CatalogError, match=name):
            architecture_from_hf_config(path)
    (tmp_path / "huge.json").write_bytes(b" " * (16 * 1024 * 1024 + 1))
    with pytest.raises(CatalogError, match="too large"):
        architecture_from_hf_config(tmp_path / "huge.json")
    with pytest.raises(CatalogError, match=r"config\.json"):
        architecture_from_hf_config(tmp_path)


def test_a_folder_names_its_model(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    assert architecture_from_hf_config(folder).id == "my-model"
    assert architecture_from_hf_config(folder / "config.json").id == "my-model"


HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(-5, 5) | st.text(max_size=5), max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


def keys_within(config: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every key of nested objects."""
    found = []
    for key, value in config.items():
        found.append((*path, key))
        if isinstance(value, dict):
            found += keys_within(value, (*path, key))
    return found


def read_or_refuse(config: Any) -> None:
    """Read a config: it gives a countable model, or says in one sentence why not."""
    try:
        model = architecture_from_hf_config(config)
    except CatalogError:
        return
    counts = parameter_counts(model)
    assert counts.total > 0
    assert math.isfinite(counts.total)
    assert counts.active <= counts.total


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_mutated_configs_give_a_model_or_a_clear_error(study_data: Path, data: st.DataObject) -> None:
    files = sorted((study_data / "model-configs").glob("*.json"))
    config = json.loads(data.draw(st.sampled_from(files)).read_text())
    paths = keys_within(config)
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(paths))
        target = config
        for key in path[:-1]:
            target = target[key] if isinstance(target, dict) and isinstance(target.get(key), dict) else {}
        if data.draw(st.booleans()):
            target.pop(path[-1], None)
        else:
            target[path[-1]] = data.draw(HOSTILE)
    read_or_refuse(config)


SECTIONS = ("text_config", "vision_config", "audio_config", "thinker_config", "quantization_config", "llm_config")
VALUES = st.one_of(st.sampled_from([0, 1, 2, 4, 8, 16, 64]), HOSTILE)
KEYS = st.sampled_from(
    [*LLAMA, *SECTIONS, "head_dim", "kv_lora_rank", "num_experts", "num_experts_per_tok", "sliding_window",
     "layer_types", "hybrid_override_pattern", "attention_chunk_size", "first_k_dense_replace", "patch_size",
     "image_size", "depth", "spatial_merge_size", "mamba_num_heads", "quant_method", "ignore", "global_head_dim"]
)  # fmt: skip


@given(
    st.dictionaries(KEYS, VALUES, max_size=8),
    st.sampled_from(SECTIONS),
    st.dictionaries(KEYS, VALUES, max_size=6),
    st.sampled_from(
        ["llama", "gemma4", "llama4", "deepseek_v3", "nemotron_h", "qwen3_vl", "gpt_oss", "falcon", ""]
    ),
)
@settings(max_examples=600, deadline=None)
def test_made_up_configs_give_a_model_or_a_clear_error(
    changes: dict[str, Any], section: str, inside: dict[str, Any], model_type: str
) -> None:
    config = copy.deepcopy(LLAMA) | {"model_type": model_type} | changes
    if inside:
        config[section] = (LLAMA | inside) if "text" in section or "llm" in section else inside
    read_or_refuse(config)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_give_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_bytes(content)
    with pytest.raises(CatalogError):
        architecture_from_hf_config(path)
