"""Parameter counts: hand-worked layers, and every model of the catalog against what was published."""

from __future__ import annotations

import pytest

from joulemap.catalog import (
    Attention,
    DenseMlp,
    DiffusionArchitecture,
    DiffusionBlockGroup,
    GatedDeltaNet,
    LatentAttention,
    Mamba2,
    ModelArchitecture,
    MoeMlp,
    load_catalog,
)
from joulemap.physics.parameters import (
    ParameterCounts,
    active_feed_forward_parameters,
    diffusion_block_parameters,
    diffusion_parameters,
    feed_forward_parameters,
    mixer_parameters,
    parameter_counts,
)

MODELS = load_catalog().models
LANGUAGE = [m for m in MODELS.values() if isinstance(m, ModelArchitecture)]
DIFFUSION = [m for m in MODELS.values() if isinstance(m, DiffusionArchitecture)]
TOLERANCE = 0.02

CONVENTIONS = {
    "all": lambda c: c.total,
    "language": lambda c: c.language,
}
ACTIVE_CONVENTIONS = {
    "all": lambda c, m: c.active,
    "language": lambda c, m: c.active,
    "no-input-embeddings": lambda c, m: c.active - c.parts["embeddings"],
    "no-embeddings": lambda c, m: c.active - c.parts["embeddings"] - c.parts.get("lm_head", 0),
}


def test_a_grouped_attention_layer_by_hand() -> None:
    # h=8, 4 heads of 2, 2 KV heads: q 8·8, k and v 8·4 each, o 8·8.
    assert mixer_parameters(Attention(heads=4, kv_heads=2, head_dim=2), 8) == 64 + 32 + 32 + 64
    biased = Attention(heads=4, kv_heads=2, head_dim=2, qkv_bias=True, output_bias=True, qk_norm=True, sinks=True)
    assert mixer_parameters(biased, 8) == 192 + (8 + 4 + 4) + 8 + 2 * 2 + 4


def test_values_that_are_keys_save_one_matrix_and_a_gate_costs_one() -> None:
    plain = mixer_parameters(Attention(heads=4, kv_heads=2, head_dim=2), 8)
    assert mixer_parameters(Attention(heads=4, kv_heads=2, head_dim=2, value_is_key=True), 8) == plain - 8 * 4
    assert mixer_parameters(Attention(heads=4, kv_heads=2, head_dim=2, output_gate=True), 8) == plain + 8 * 8


def test_latent_attention_by_hand() -> None:
    # q: 8·3 + 3 (norm) + 3·2·(4+2); kv: 8·(5+2) + 5 (norm) + 5·2·(4+3); o: 2·3·8.
    mixer = LatentAttention(
        heads=2, q_lora_rank=3, kv_lora_rank=5, qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=3
    )
    assert mixer_parameters(mixer, 8) == (24 + 3 + 36) + (56 + 5 + 70) + 48
    uncompressed = LatentAttention(
        heads=2, q_lora_rank=None, kv_lora_rank=5, qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=3
    )
    assert mixer_parameters(uncompressed, 8) == 8 * 2 * 6 + (56 + 5 + 70) + 48


def test_recurrent_layers_by_hand() -> None:
    # inner 6, convolved 6 + 2·1·5 = 16: in 8·(6 + 16 + 3), conv 16·(4 + 1), A, D, dt 3·3, norm 6, out 6·8.
    mamba = Mamba2(heads=3, head_dim=2, state_size=5, groups=1, conv_kernel=4)
    assert mixer_parameters(mamba, 8) == 200 + 80 + 9 + 6 + 48
    # key 4, value 8: in 8·(2·4 + 2·8 + 2·2), conv (2·4 + 8)·4, A and dt 2·2, norm 4, out 8·8.
    delta = GatedDeltaNet(key_heads=1, value_heads=2, key_head_dim=4, value_head_dim=4, conv_kernel=4)
    assert mixer_parameters(delta, 8) == 224 + 64 + 4 + 4 + 64


def test_feed_forward_parts_by_hand() -> None:
    assert feed_forward_parameters(DenseMlp(intermediate_size=10), 8) == {"mlp": 3 * 80}
    assert feed_forward_parameters(DenseMlp(intermediate_size=10, gated=False, bias=True), 8) == {
        "mlp": 160 + 10 + 8
    }
    mixture = MoeMlp(num_experts=4, experts_per_token=2, intermediate_size=10, shared_intermediate_size=6)
    assert feed_forward_parameters(mixture, 8) == {"experts": 4 * 240, "router": 32, "shared_experts": 144}
    assert active_feed_forward_parameters(mixture, 8) == {"experts": 2 * 240}


def test_a_diffusion_block_by_hand() -> None:
    # One stream of width 4: q, k, v, o 4·(16 + 4), feed-forward 4·16 + 16 + 16·4 + 4.
    block = DiffusionBlockGroup(
        count=1, hidden_size=4, heads=2, head_dim=2, tokens="latent", mlp_intermediate_size=16
    )
    assert diffusion_block_parameters(block) == 80 + 148
    joint = DiffusionBlockGroup(
        count=1, hidden_size=4, heads=2, head_dim=2, tokens="both", streams=2, mlp_intermediate_size=16,
        modulation_linears=((4, 24), (4, 24)),
    )  # fmt: skip
    assert diffusion_block_parameters(joint) == 2 * 228 + 2 * 120


@pytest.mark.parametrize("model", LANGUAGE, ids=lambda m: m.id)
def test_language_models_match_what_was_published(model: ModelArchitecture) -> None:
    assert model.published is not None
    counts = parameter_counts(model)
    total = CONVENTIONS[model.published.total_parts](counts)
    active = ACTIVE_CONVENTIONS[model.published.active_parts](counts, model)
    assert total == pytest.approx(model.published.total, rel=TOLERANCE)
    assert active == pytest.approx(model.published.active, rel=TOLERANCE)
    if model.published.non_embedding_params is not None:
        tables = counts.parts["embeddings"] + counts.parts.get("lm_head", 0)
        assert counts.language - tables == pytest.approx(model.published.non_embedding_params, rel=TOLERANCE)


@pytest.mark.parametrize("model", DIFFUSION, ids=lambda m: m.id)
def test_diffusion_models_match_their_checkpoints(model: DiffusionArchitecture) -> None:
    assert model.published is not None
    assert diffusion_parameters(model) == pytest.approx(model.published.total, rel=0.001)


NOMINAL_BILLIONS = {
    "black-forest-labs/FLUX.1-dev": 12.0,
    "stabilityai/stable-diffusion-3.5-large": 8.1,
    "stabilityai/stable-diffusion-3.5-medium": 2.5,
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": 0.6,
    "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers": 1.5,
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": 1.6,
    "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers": 4.8,
    "tencent/HunyuanVideo": 13.0,
}
"""Sizes that the publishers state to two digits or more; Wan and CogVideoX round theirs to one."""


@pytest.mark.parametrize(("model_id", "billions"), NOMINAL_BILLIONS.items())
def test_diffusion_models_match_the_sizes_that_their_publishers_state(model_id: str, billions: float) -> None:
    model = MODELS[model_id]
    assert isinstance(model, DiffusionArchitecture)
    assert diffusion_parameters(model) / 1e9 == pytest.approx(billions, rel=TOLERANCE)


def test_the_parts_sum_and_the_active_ones_are_among_them() -> None:
    for model in LANGUAGE:
        counts = parameter_counts(model)
        assert isinstance(counts, ParameterCounts)
        assert counts.total == sum(counts.parts.values())
        assert counts.active <= counts.language <= counts.total
        assert all(counts.active_parts[part] <= counts.parts[part] for part in counts.active_parts)
        assert ("experts" in counts.parts) == (model.kind == "moe")


def test_a_dense_model_activates_all_of_its_language_part() -> None:
    for model in LANGUAGE:
        if model.kind in ("dense", "hybrid"):
            counts = parameter_counts(model)
            assert counts.active == counts.language


@pytest.mark.parametrize(
    ("model_id", "published_gib", "tolerance"),
    [
        ("openai/gpt-oss-120b", 60.8, 0.005),  # the model card's table 1
        ("openai/gpt-oss-20b", 12.8, 0.005),
        ("Qwen/Qwen3-VL-235B-A22B-Instruct-FP8", 222, 0.01),  # du of the repository, as users report it
    ],
)
def test_counts_times_stored_bits_give_the_published_checkpoints_size(
    model_id: str, published_gib: float, tolerance: float
) -> None:
    catalog = load_catalog()
    model = MODELS[model_id]
    assert isinstance(model, ModelArchitecture)
    stored_bytes = sum(
        count * catalog.precisions[model.quantization.of(part)].bits_per_weight / 8
        for part, count in parameter_counts(model).parts.items()
    )
    assert stored_bytes / 2**30 == pytest.approx(published_gib, rel=tolerance)
