"""Pipelines of Diffusers become the catalog's shapes, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulemap.catalog import DiffusionArchitecture, load_catalog
from joulemap.catalog.diffusers_config import architecture_from_diffusers
from joulemap.errors import CatalogError
from joulemap.physics.parameters import diffusion_parameters

CONFIGS: dict[str, dict[str, Any]] = {
    "black-forest-labs/FLUX.1-dev": {
        "_class_name": "FluxTransformer2DModel", "attention_head_dim": 128, "guidance_embeds": True,
        "in_channels": 64, "joint_attention_dim": 4096, "num_attention_heads": 24, "num_layers": 19,
        "num_single_layers": 38, "patch_size": 1, "pooled_projection_dim": 768,
    },
    "stabilityai/stable-diffusion-3.5-large": {
        "_class_name": "SD3Transformer2DModel", "attention_head_dim": 64, "caption_projection_dim": 2432,
        "in_channels": 16, "joint_attention_dim": 4096, "num_attention_heads": 38, "num_layers": 38,
        "out_channels": 16, "patch_size": 2, "pooled_projection_dim": 2048, "pos_embed_max_size": 192,
    },
    "stabilityai/stable-diffusion-3.5-medium": {
        "_class_name": "SD3Transformer2DModel", "attention_head_dim": 64, "caption_projection_dim": 1536,
        "dual_attention_layers": list(range(13)), "in_channels": 16, "joint_attention_dim": 4096,
        "num_attention_heads": 24, "num_layers": 24, "out_channels": 16, "patch_size": 2,
        "pooled_projection_dim": 2048, "pos_embed_max_size": 384,
    },
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": {
        "_class_name": "PixArtTransformer2DModel", "attention_head_dim": 72, "caption_channels": 4096,
        "cross_attention_dim": 1152, "in_channels": 4, "num_attention_heads": 16, "num_layers": 28,
        "out_channels": 8, "patch_size": 2, "sample_size": 128,
    },
    "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers": {
        "_class_name": "HunyuanDiT2DModel", "attention_head_dim": 88, "cross_attention_dim": 1024,
        "cross_attention_dim_t5": 2048, "hidden_size": 1408, "in_channels": 4, "learn_sigma": True,
        "mlp_ratio": 4.3637, "num_attention_heads": 16, "num_layers": 40, "patch_size": 2,
        "pooled_projection_dim": 1024, "text_len": 77, "text_len_t5": 256,
    },
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": {
        "_class_name": "SanaTransformer2DModel", "attention_head_dim": 32, "caption_channels": 2304,
        "cross_attention_dim": 2240, "in_channels": 32, "mlp_ratio": 2.5, "num_attention_heads": 70,
        "num_layers": 20, "out_channels": 32, "patch_size": 1,
    },
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": {
        "_class_name": "WanTransformer3DModel", "attention_head_dim": 128, "ffn_dim": 13824, "freq_dim": 256,
        "in_channels": 16, "num_attention_heads": 40, "num_layers": 40, "out_channels": 16, "patch_size": [1, 2, 2],
        "text_dim": 4096,
    },
    "tencent/HunyuanVideo": {
        "_class_name": "HunyuanVideoTransformer3DModel", "attention_head_dim": 128, "guidance_embeds": True,
        "in_channels": 16, "mlp_ratio": 4.0, "num_attention_heads": 24, "num_layers": 20, "num_refiner_layers": 2,
        "num_single_layers": 40, "out_channels": 16, "patch_size": 2, "patch_size_t": 1,
        "pooled_projection_dim": 768, "text_embed_dim": 4096,
    },
    "zai-org/CogVideoX1.5-5B": {
        "_class_name": "CogVideoXTransformer3DModel", "attention_head_dim": 64, "in_channels": 16,
        "num_attention_heads": 48, "num_layers": 42, "out_channels": 16, "patch_size": 2, "patch_size_t": 2,
        "text_embed_dim": 4096, "time_embed_dim": 512,
    },
}  # fmt: skip
"""Values of the published ``transformer/config.json`` files."""

SHAPE = (
    "output", "hidden_size", "blocks", "in_channels", "out_channels", "patch_size", "temporal_patch_size",
    "text_tokens", "embedder_linears", "other_params", "guidance", "quantization",
)  # fmt: skip


@pytest.mark.parametrize(("model_id", "config"), CONFIGS.items())
def test_a_published_config_gives_what_the_catalog_says(model_id: str, config: dict[str, Any]) -> None:
    ours = load_catalog().model(model_id)
    assert isinstance(ours, DiffusionArchitecture)
    read = architecture_from_diffusers(config | {"torch_dtype": "bfloat16"}, model_id=model_id)
    for name in SHAPE:
        if name == "quantization":
            assert read.quantization.precision == ours.quantization.precision
        else:
            assert getattr(read, name) == getattr(ours, name), name
    assert diffusion_parameters(read) == diffusion_parameters(ours)
    assert read.notes == ()


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A folder laid out as a pipeline of Wan 2.1, without its weights."""
    configs = {
        "transformer": CONFIGS["Wan-AI/Wan2.1-T2V-14B-Diffusers"],
        "vae": {"_class_name": "AutoencoderKLWan", "z_dim": 16},
        "text_encoder": {"model_type": "umt5", "d_model": 4096, "num_layers": 24, "vocab_size": 256384},
    }
    folder = tmp_path / "my-wan"
    for name, config in configs.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    return folder


@pytest.mark.parametrize("inside", ["", "transformer", "transformer/config.json", "model_index.json"])
def test_a_pipeline_is_read_from_any_of_its_parts(pipeline: Path, inside: str) -> None:
    model = architecture_from_diffusers(pipeline / inside)
    ours = load_catalog().model("Wan 2.1 14B")
    assert isinstance(ours, DiffusionArchitecture)
    assert model.id == "my-wan"
    assert (model.vae.spatial_compression, model.vae.temporal_compression) == (8, 4)
    assert model.text_encoders == ours.text_encoders


def test_an_autoencoders_own_config_counts(pipeline: Path) -> None:
    stages = {
        "block_out_channels": [64, 128, 256, 512, 512],
        "latent_channels": 32,
        "temporal_compression_ratio": 8,
    }
    (pipeline / "vae" / "config.json").write_text(json.dumps(stages))
    vae = architecture_from_diffusers(pipeline).vae
    assert (vae.spatial_compression, vae.temporal_compression, vae.latent_channels) == (16, 8, 32)


def test_an_unknown_text_encoder_has_no_count(pipeline: Path) -> None:
    other = {"model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36, "vocab_size": 151936}
    (pipeline / "text_encoder" / "config.json").write_text(json.dumps(other))
    (encoder,) = architecture_from_diffusers(pipeline).text_encoders
    assert (encoder.name, encoder.params) == ("qwen3, 36 layers of 2560", None)


def test_a_class_that_is_not_known_is_read_with_a_note() -> None:
    config = {"_class_name": "ZebraTransformer", "num_layers": 2, "num_attention_heads": 4, "attention_head_dim": 8,
              "in_channels": 16, "patch_size": 2, "cross_attention_dim": 64}  # fmt: skip
    model = architecture_from_diffusers(config)
    assert model.notes == ("class 'ZebraTransformer' is not known by name",)
    assert model.num_layers == 2
    assert diffusion_parameters(model) > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_layers": None}, r"'num_layers' is needed"),
        ({"num_attention_heads": 0}, r"'num_attention_heads' must be from 1"),
        ({"patch_size": [1, 2]}, r"'patch_size' must be three numbers"),
        ({"patch_size": [1, 2, 4]}, r"'patch_size' must be three numbers"),
        ({"patch_size": "2"}, r"'patch_size' must be a list"),
        ({"ffn_dim": 1e99}, r"'ffn_dim' must be"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CatalogError, match=reason):
        architecture_from_diffusers(CONFIGS["Wan-AI/Wan2.1-T2V-14B-Diffusers"] | changes)


def test_no_folder_no_model(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read"):
        architecture_from_diffusers(tmp_path)


HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=10),
    st.lists(st.integers(-3, 5) | st.text(max_size=3), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_mutated_configs_give_a_model_or_a_clear_error(data: st.DataObject) -> None:
    config = dict(CONFIGS[data.draw(st.sampled_from(sorted(CONFIGS)))])
    for _ in range(data.draw(st.integers(1, 3))):
        config[data.draw(st.sampled_from(sorted(config)))] = data.draw(HOSTILE)
    try:
        model = architecture_from_diffusers(config)
    except CatalogError:
        return
    assert diffusion_parameters(model) > 0


@given(st.dictionaries(st.sampled_from(["block_out_channels", "latent_channels", "z_dim"]), HOSTILE), HOSTILE)
@settings(max_examples=200, deadline=None)
def test_hostile_neighbours_give_a_model_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, vae: dict[str, Any], layers: Any
) -> None:
    folder = tmp_path_factory.mktemp("pipeline")
    neighbours = {
        "transformer": CONFIGS["tencent/HunyuanVideo"],
        "vae": vae,
        "text_encoder": {"num_hidden_layers": layers, "hidden_size": 8},
    }
    for name, config in neighbours.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    try:
        model = architecture_from_diffusers(folder)
    except CatalogError:
        return
    assert model.vae.spatial_compression >= 1
