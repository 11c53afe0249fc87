"""Compute volume of diffusion transformers: operations and traffic of a denoising step, and of decoding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from joulemap.catalog.diffusion import DiffusionArchitecture, DiffusionBlockGroup
from joulemap.physics.arrays import FloatOrArray
from joulemap.physics.compute_volume import BF16_BYTES, attention_flops, linear_flops

PADDED_HEAD_DIMS = (64, 96, 128, 256)
"""Head dimensions for which fused attention has kernels; others are padded up (FlashAttention 2)."""
BASE_PASSES = 20.0
"""Reads and writes of a hidden state around norms, modulation, gates and residuals of one block, unfused."""
MLP_PASSES = 4.0
"""The same of the feed-forward part's inner state (activation function, unfused)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryTreatment:
    """What a model's code does to queries and keys before they meet."""

    normalised: bool = True
    """Self-attention normalises them."""
    rotated: bool = True
    """Self-attention rotates them by position (RoPE)."""
    cross_normalised: bool = False
    """Cross-attention normalises the latents' queries; the text's few keys are not counted."""
    cross_rotated: bool = False


USUAL_TREATMENT = QueryTreatment()


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionVolume:
    """What one sample asks of one denoising step, and once per output; all GPUs together."""

    latent_tokens: float
    text_tokens: float
    linear_flops: float
    attention_flops: float
    """With head dimensions padded as kernels pad them."""
    activation_bytes: float
    """Traffic of element-wise operations apart from what is done to queries and keys."""
    normalised_bytes: float
    """One pass over the queries or keys that are normalised, summed over blocks."""
    rotated_bytes: float
    """One pass over the queries or keys that are rotated to carry position, summed over blocks."""
    weight_bytes: float
    blocks: float
    """Blocks that latent tokens pass, weighted by the kernels that each launches."""
    attention_calls: float
    """Self-attentions whose sequence parallel GPUs exchange."""
    hidden_size: float
    joint: float
    """1 where text and latent tokens attend to each other in one sequence."""
    samples: float
    """Samples that one output needs in a step: 2 with classifier-free guidance."""
    text_flops: float
    pixels: float
    """Pixels of the output, all frames together."""
    deep_decoder: float
    """1 for autoencoders that compress 32-fold or more, which decode at many channels."""


def latent_tokens(model: DiffusionArchitecture, height_px: int, width_px: int, frames: int) -> float:
    """Return the tokens of one sample: ``⌊h / (c p)⌋ · ⌊w / (c p)⌋ · ⌈f' / p_t⌉`` with ``f' = (f − 1) / c_t + 1``.

    Args:
        model: Gives compression c and c_t (of the autoencoder), patch p and p_t (of the transformer).
        height_px: Height h of the output in pixels.
        width_px: Width w of the output in pixels.
        frames: Frames f; 1 for images.

    Valid for sizes that the patches divide; else the rest is cut off. Reference: arXiv 2212.09748.

    >>> from joulemap.catalog import load_catalog
    >>> latent_tokens(load_catalog().model("black-forest-labs/FLUX.1-dev"), 1024, 1024, 1)
    4096.0
    """
    side = model.vae.spatial_compression * model.patch_size
    latent_frames = (frames - 1) // model.vae.temporal_compression + 1
    return float((height_px // side) * (width_px // side) * math.ceil(latent_frames / model.temporal_patch_size))


def diffusion_volume(
    model: DiffusionArchitecture,
    height_px: int,
    width_px: int,
    frames: int,
    *,
    treatment: QueryTreatment = USUAL_TREATMENT,
) -> DiffusionVolume:
    """Return the compute volume of one sample of a diffusion transformer.

    Per block with T tokens, hidden size h, attention width d, feed-forward width f and m matrices:
    ``2 T (4 h d + m h f)`` for matrix products, ``4 T² d`` for full or ``4 T d · head`` for linear attention,
    ``4 T t d`` for cross-attention to t text tokens.

    Args:
        model: The transformer and its pipeline.
        height_px: Height of the output in pixels.
        width_px: Width of the output in pixels.
        frames: Frames; 1 for images.
        treatment: What is done to queries and keys.

    Valid for 16-bit weights without feature caching. Reference: arXiv 2212.09748; the models' published code.
    """
    x, t = latent_tokens(model, height_px, width_px, frames), float(model.text_tokens)
    groups = [(b, _tokens(b, x, t)) for b in model.blocks]
    latents = [(b, tokens) for b, tokens in groups if b.tokens != "text"]
    return DiffusionVolume(
        latent_tokens=x,
        text_tokens=t,
        linear_flops=sum(b.count * _linear(b, tokens, x, t) for b, tokens in groups),
        attention_flops=sum(b.count * _attention(b, tokens, x, t) for b, tokens in groups),
        activation_bytes=sum(b.count * _activation_bytes(b, tokens) for b, tokens in groups),
        normalised_bytes=sum(
            _query_bytes(b, tokens, treatment.normalised, treatment.cross_normalised) for b, tokens in groups
        ),
        rotated_bytes=sum(
            _query_bytes(b, tokens, treatment.rotated, treatment.cross_rotated) for b, tokens in groups
        ),
        weight_bytes=BF16_BYTES * sum(b.count * _params(b) for b, _ in groups),
        blocks=sum(b.count * _kernels(b) for b, _ in latents),
        attention_calls=float(sum(b.count * _calls(b) for b, _ in latents)),
        hidden_size=float(max(b.hidden_size for b in model.blocks)),
        joint=float(any(b.streams == 2 or b.tokens == "both" for b in model.blocks)),
        samples=2.0 if model.guidance == "cfg" else 1.0,
        text_flops=sum(float(linear_flops(e.max_tokens, e.params or 0)) for e in model.text_encoders),
        pixels=float(height_px * width_px * frames),
        deep_decoder=float(model.vae.spatial_compression >= 32),
    )


def _tokens(block: DiffusionBlockGroup, latent: float, text: float) -> float:
    if block.streams == 2 or block.tokens == "both":
        return latent + text
    return latent if block.tokens == "latent" else text


def _inner(block: DiffusionBlockGroup) -> float:
    return float(block.heads * block.head_dim)


def _calls(block: DiffusionBlockGroup) -> int:
    return 2 if block.extra_self_attention else 1


def _query_bytes(block: DiffusionBlockGroup, tokens: float, own: bool, across: bool) -> float:
    """Return one pass over queries or keys; cross-attention has queries of as many tokens, but few keys."""
    passes = float(own * _calls(block)) + 0.5 * (across and block.cross_attention_dim is not None)
    return block.count * tokens * _inner(block) * BF16_BYTES * passes


def _params(block: DiffusionBlockGroup) -> float:
    matrices = 3 if block.gated_mlp else 2
    return 4.0 * block.hidden_size * _inner(block) + matrices * block.hidden_size * block.mlp_intermediate_size


def _linear(block: DiffusionBlockGroup, tokens: float, latent: float, text: float) -> float:
    h, d = block.hidden_size, _inner(block)
    flops = linear_flops(tokens, _params(block))
    if block.extra_self_attention:
        flops += linear_flops(latent, 4 * h * d)
    if block.cross_attention_dim:
        flops += linear_flops(tokens, 2 * h * d) + linear_flops(text, 2 * block.cross_attention_dim * d)
    flops += sum(linear_flops(tokens, i * o) for i, o in block.token_linears)
    return float(flops + (attention_flops(tokens, block.head_dim, d) if block.attention == "linear" else 0.0))


def _attention(block: DiffusionBlockGroup, tokens: float, latent: float, text: float) -> float:
    d = _inner(block)
    flops = attention_flops(tokens, tokens, d) if block.attention == "full" else 0.0
    if block.extra_self_attention:
        flops += attention_flops(latent, latent, d)
    if block.cross_attention_dim:
        flops += attention_flops(tokens, text, d)
    return float(flops * _padded_head(block.head_dim) / block.head_dim)


def _padded_head(head_dim: int) -> int:
    return next((size for size in PADDED_HEAD_DIMS if size >= head_dim), head_dim)


def _activation_bytes(block: DiffusionBlockGroup, tokens: float) -> float:
    convolved = 2.0 if block.mlp_conv_kernel else 1.0
    passes = BASE_PASSES + MLP_PASSES * convolved * block.mlp_intermediate_size / block.hidden_size
    return tokens * block.hidden_size * BF16_BYTES * passes


def _kernels(block: DiffusionBlockGroup) -> float:
    """Return a block's launches relative to a plain block of self-attention and feed-forward part."""
    parts = 1.0 + 0.5 * bool(block.cross_attention_dim) + 0.5 * block.extra_self_attention
    return parts * (1.5 if block.streams == 2 else 1.0)


def repeated_text(
    latent: FloatOrArray, text: FloatOrArray, joint: FloatOrArray, gpus: FloatOrArray
) -> FloatOrArray:
    """Return how much more work each GPU has because text tokens cannot be divided: ``(x/n + t) / ((x + t)/n)``.

    Sequence parallelism divides the text tokens of a joint sequence only where the GPU count divides them.

    Args:
        latent: x, latent tokens.
        text: t, text tokens.
        joint: 1 where both are in one sequence.
        gpus: n.

    Valid for Ulysses and ring parallelism. Reference: xDiT, arXiv 2411.01738, section on MM-DiT.

    >>> float(repeated_text(4096.0, 512.0, 1.0, 8.0))
    1.0
    """
    repeats = (joint > 0) & (np.mod(text, gpus) > 0)
    return np.where(repeats, (latent / gpus + text) / ((latent + text) / gpus), 1.0)


def matrix_saturation(
    hidden_size: FloatOrArray, rows: FloatOrArray, half_hidden: FloatOrArray, half_rows: FloatOrArray
) -> FloatOrArray:
    """Return the share of a large product's efficiency that a small one reaches: ``h/(h + h₀) · r/(r + r₀)``.

    Args:
        hidden_size: h, the shorter dimension of the weights.
        rows: r, tokens in the product on one GPU.
        half_hidden: h₀, where the first factor is ½.
        half_rows: r₀, where the second factor is ½.

    An interpolation, valid within the sizes calibrated on. Reference: wave and tile quantisation, NVIDIA's
    matrix multiplication guide.

    >>> matrix_saturation(1000.0, 500.0, 1000.0, 500.0)
    0.25
    """
    return hidden_size / (hidden_size + half_hidden) * rows / (rows + half_rows)
