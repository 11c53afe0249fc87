"""The numbers of a language model's shape that compute volume, memory and time are reckoned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from joulemap.catalog.architecture import (
    Attention,
    GatedDeltaNet,
    LatentAttention,
    LayerGroup,
    Mamba2,
    ModelArchitecture,
    MoeMlp,
    WeightPart,
)
from joulemap.catalog.types import PrecisionFormat
from joulemap.physics.parameters import feed_forward_parameters, mixer_parameters, parameter_counts

BITS_PER_BYTE = 8.0
KV_BYTES = 2.0
"""Bytes of one cached number at the engine's default, 16 bits."""
STATE_BYTES = 4.0
"""Bytes of one number of a recurrent state as served, 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageShape:
    """A language model's shape as plain numbers; parameters and bytes are of the whole model, all GPUs together."""

    layers: float
    attention_layers: float
    """Layers with attention of any kind."""
    recurrent_layers: float
    """Layers with a state-space or delta-rule mixer."""
    dense_layers: float
    moe_layers: float
    shared_layers: float
    """Layers that have shared experts beside the routed ones."""
    hidden_size: float
    vocab_size: float
    mixer_params: float
    mlp_params: float
    """Dense feed-forward parts and shared experts."""
    expert_params: float
    """One routed expert of one layer; 0 for dense models."""
    head_params: float
    experts: float
    """Routed experts of a layer; 1 for dense models."""
    experts_per_token: float
    """0 for dense models."""
    mixer_bytes: float
    mlp_bytes: float
    expert_bytes: float
    head_bytes: float
    weight_bytes: float
    """All weights, encoders and embeddings included."""
    full_kv_heads: float
    """KV heads × head dimension × 2, summed over full-attention layers; cached numbers per token."""
    windowed_kv_heads: float
    """The same of layers that attend within a window or chunk."""
    kv_heads: float
    """KV heads of one layer: beyond so many GPUs, tensor parallelism repeats the cache."""
    latent_kv: float
    """Cached numbers per token of all latent-attention layers; the cache is repeated on each GPU."""
    window_tokens: float
    """Window of the windowed layers; 0 where there are none."""
    full_width: float
    """Query heads × head dimension, summed over full-attention layers."""
    windowed_width: float
    latent_width: float
    """Query heads × (key + value) dimensions / 2 of latent layers in absorbed form."""
    state_bytes: float
    """Recurrent state of one sequence."""
    vision_params: float
    patches_per_token: float
    fp8_linear: float
    """1 where mixers and dense parts are multiplied in FP8."""
    fp8_experts: float
    mxfp4_experts: float
    block_scaled: float
    """1 where FP8 weights carry a scale per block, which needs separate quantisation of activations."""


def language_shape(model: ModelArchitecture, precisions: Mapping[str, PrecisionFormat]) -> LanguageShape:
    """Return the shape numbers of a model as served.

    Args:
        model: The architecture with its quantisation.
        precisions: The catalog's number formats, for the bits of a weight.

    >>> from joulemap.catalog import load_catalog
    >>> catalog = load_catalog()
    >>> shape = language_shape(catalog.model("Qwen/Qwen3-8B"), catalog.precisions)
    >>> shape.layers, round(shape.weight_bytes / 1e9, 1)
    (36.0, 16.4)
    """
    h = model.hidden_size
    counts = parameter_counts(model)
    quantization = model.quantization

    def size(part: WeightPart) -> float:
        return precisions[quantization.of(part)].bits_per_weight / BITS_PER_BYTE

    groups = model.layers
    mixers = [(g, g.mixer) for g in groups if g.mixer is not None]
    attention = [(g, m) for g, m in mixers if isinstance(m, Attention)]
    full = [(g, m) for g, m in attention if m.window_tokens is None]
    windowed = [(g, m) for g, m in attention if m.window_tokens is not None]
    latent = [(g, m) for g, m in mixers if isinstance(m, LatentAttention)]
    moe = [(g, g.mlp) for g in groups if isinstance(g.mlp, MoeMlp)]
    moe_layers = _layers([g for g, _ in moe])
    mixer_params = sum(g.count * mixer_parameters(m, h) for g, m in mixers)
    feed_forward = [(g, feed_forward_parameters(g.mlp, h)) for g in groups if g.mlp is not None]
    mlp = sum(g.count * parts.get("mlp", 0) for g, parts in feed_forward)
    shared = sum(g.count * parts.get("shared_experts", 0) for g, parts in feed_forward)
    experts_all = sum(g.count * parts.get("experts", 0) for g, parts in feed_forward)
    experts = sum(g.count * m.num_experts for g, m in moe) / moe_layers if moe_layers else 1.0
    expert_params = experts_all / (moe_layers * experts) if moe_layers else 0.0
    expert_precision = quantization.of("experts")
    fp8 = quantization.activation_precision == "fp8"
    return LanguageShape(
        layers=float(model.num_layers),
        attention_layers=_layers([g for g, _ in attention + latent]),
        recurrent_layers=_layers([g for g, m in mixers if isinstance(m, Mamba2 | GatedDeltaNet)]),
        dense_layers=_layers([g for g in groups if g.mlp is not None]) - moe_layers,
        moe_layers=moe_layers,
        shared_layers=_layers([g for g, m in moe if m.shared_intermediate_size]),
        hidden_size=float(h),
        vocab_size=float(model.vocab_size),
        mixer_params=float(mixer_params),
        mlp_params=float(mlp + shared),
        expert_params=float(expert_params),
        head_params=float(model.vocab_size * h),
        experts=float(experts),
        experts_per_token=sum(g.count * m.experts_per_token for g, m in moe) / moe_layers if moe_layers else 0.0,
        mixer_bytes=float(mixer_params) * size("attention"),
        mlp_bytes=mlp * size("mlp") + shared * size("shared_experts"),
        expert_bytes=float(expert_params) * size("experts"),
        head_bytes=float(model.vocab_size * h) * size("lm_head"),
        weight_bytes=sum(count * size(part) for part, count in counts.parts.items()),
        full_kv_heads=sum(2.0 * g.count * m.kv_heads * m.head_dim for g, m in full),
        windowed_kv_heads=sum(2.0 * g.count * m.kv_heads * m.head_dim for g, m in windowed),
        kv_heads=float(max((m.kv_heads for _, m in attention), default=1)),
        latent_kv=sum(float(g.count) * (m.kv_lora_rank + m.qk_rope_head_dim) for g, m in latent),
        window_tokens=float(max((m.window_tokens or 0 for _, m in windowed), default=0)),
        full_width=sum(float(g.count) * m.heads * m.head_dim for g, m in full),
        windowed_width=sum(float(g.count) * m.heads * m.head_dim for g, m in windowed),
        latent_width=sum(g.count * m.heads * (2 * m.kv_lora_rank + m.qk_rope_head_dim) / 2 for g, m in latent),
        state_bytes=sum(g.count * _state_numbers(m) for g, m in mixers) * STATE_BYTES,
        vision_params=float(counts.parts.get("vision", 0)),
        patches_per_token=float(model.vision.patches_per_token) if model.vision else 0.0,
        fp8_linear=float(fp8 and quantization.of("mlp") == "fp8"),
        fp8_experts=float(bool(moe_layers) and fp8 and expert_precision == "fp8"),
        mxfp4_experts=float(bool(moe_layers) and expert_precision in ("mxfp4", "nvfp4", "int4")),
        block_scaled=float(fp8 and bool(quantization.block)),
    )


def _layers(groups: list[LayerGroup]) -> float:
    return float(sum(group.count for group in groups))


def _state_numbers(mixer: object) -> float:
    """Return the numbers that one sequence keeps in one layer's recurrent state."""
    match mixer:
        case Mamba2():
            inner = mixer.heads * mixer.head_dim
            convolved = inner + 2 * mixer.groups * mixer.state_size
            return float(inner * mixer.state_size + convolved * mixer.conv_kernel)
        case GatedDeltaNet():
            keys, values = mixer.key_heads * mixer.key_head_dim, mixer.value_heads * mixer.value_head_dim
            return float(
                keys * mixer.value_head_dim * mixer.value_heads / mixer.key_heads + (2 * keys + values) * 4
            )
    return 0.0
