"""The shapes of language and multimodal models.

A model is a backbone (the shape of its weights) served in some precision. The shape is a tuple of layer
groups: so many layers, each a token mixer (attention, latent attention, Mamba-2, gated delta rule) followed
by a feed-forward part (dense or mixture of experts), either of which may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from joulemap.catalog.types import Precision, Source

AttentionScope = Literal["full", "sliding", "chunked"]
"""What a token attends to: all tokens before it, the last ``window_tokens``, or those of its own chunk."""

WeightPart = Literal[
    "embeddings", "lm_head", "attention", "mamba", "mlp", "router", "experts", "shared_experts", "norms",
    "vision", "audio",
]  # fmt: skip
"""The parts by which parameters are counted and precisions given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Multi-head, multi-query or grouped-query attention with a KV cache."""

    heads: int
    kv_heads: int
    head_dim: int
    scope: AttentionScope = "full"
    window_tokens: int | None = None
    """Length of the window or chunk; ``None`` for full attention."""
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    """Whether queries and keys are normalised with learned weights of ``head_dim``."""
    value_is_key: bool = False
    """Whether the value projection is the key projection (one matrix)."""
    output_gate: bool = False
    """Whether the query projection is twice as wide, its second half gating the output."""
    sinks: bool = False
    """Whether each head has one learned sink logit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (MLA): the cache holds one compressed vector per token and layer."""

    heads: int
    q_lora_rank: int | None
    """Rank of the query compression; ``None`` where queries are not compressed."""
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2:
    """A Mamba-2 state-space mixer: constant state per sequence instead of a KV cache."""

    heads: int
    head_dim: int
    state_size: int
    groups: int
    conv_kernel: int
    conv_bias: bool = True
    state_precision: Precision = "fp32"
    """Precision of the recurrent state as served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaNet:
    """A gated delta-rule linear-attention mixer: constant state per sequence instead of a KV cache."""

    key_heads: int
    value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int
    state_precision: Precision = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseMlp:
    """A feed-forward part through which every token goes."""

    intermediate_size: int
    gated: bool = True
    """Whether there are three matrices (gate, up, down) rather than two (up, down)."""
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeMlp:
    """A mixture-of-experts feed-forward part."""

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    """Of one routed expert."""
    gated: bool = True
    expert_bias: bool = False
    router_bias: bool = False
    shared_intermediate_size: int = 0
    """Of all shared experts together, or of a dense part beside the experts; 0 where there is none."""
    shared_gate: bool = False
    """Whether a learned scalar gates the shared expert."""


Mixer = Attention | LatentAttention | Mamba2 | GatedDeltaNet
FeedForward = DenseMlp | MoeMlp


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """So many identical layers, wherever in the stack they stand."""

    count: int
    mixer: Mixer | None = None
    mlp: FeedForward | None = None
    norms: int = 2
    """Normalisations of ``hidden_size`` weights in each layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projector:
    """Linear layers that bring an encoder's output into the language model."""

    linears: tuple[tuple[int, int], ...]
    """(inputs, outputs) of each linear layer."""
    copies: int = 1
    """How many such stacks there are (deepstack feeds several layers of the language model)."""
    bias: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionEncoder:
    """A vision transformer in front of the language model."""

    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    patch_size_px: int
    temporal_patch_size: int = 1
    """Video frames in one patch."""
    gated_mlp: bool = False
    head_dim: int | None = None
    """``None``: ``hidden_size / heads``."""
    attention_bias: bool = True
    position_embeddings: int = 0
    """Learned position vectors of ``hidden_size``."""
    patches_per_token: int = 1
    """Patches merged into one token of the language model."""
    projector: Projector
    image_size_px: int | None = None
    """Side of the square that every image or tile is resized to; ``None`` where resolution is native."""
    tokens_per_image: int | None = None
    """Tokens that one image or tile becomes in the language model, where fixed; else ``None``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioEncoder:
    """An audio transformer in front of the language model."""

    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    conv_params: int
    """Parameters of the convolutions before the transformer and of the layer after them."""
    projector: Projector


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """The precisions in which the weights are stored and multiplied."""

    precision: Precision
    """Of every part that ``exceptions`` does not list."""
    exceptions: Mapping[WeightPart, Precision] = field(default_factory=dict)
    """Parts that are kept in another precision."""
    activation_precision: Precision
    """Of the activations in the quantised matrix products."""
    block: tuple[int, ...] = ()
    """Weights that share one scale: (rows, columns) or (columns,); empty where a row or a tensor shares one."""
    source: Source | None = None

    def of(self, part: WeightPart) -> Precision:
        """Return the precision of a part's weights."""
        return self.exceptions.get(part, self.precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedParams:
    """What the publisher says of the model's size, and how it counts."""

    total: float
    active: float
    """Parameters that one token passes; equal to ``total`` for dense models."""
    non_embedding_params: float | None = None
    """All but the embedding and output tables, where the publisher states it."""
    total_parts: str
    """What ``total`` counts: ``"all"``, ``"language"`` (no encoders)."""
    active_parts: str
    """What ``active`` counts: as ``total_parts``, or ``"no-embeddings"``, ``"no-input-embeddings"``."""
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """A language or multimodal model as served."""

    id: str
    """The publisher's name, for example ``"Qwen/Qwen3-32B"``."""
    nickname: str
    backbone: str
    """Names the shape of the language model's weights; variants of one shape share it."""
    kind: Literal["dense", "moe", "hybrid", "ssm"]
    hidden_size: int
    layers: tuple[LayerGroup, ...]
    vocab_size: int
    tied_embeddings: bool
    max_context_tokens: int
    quantization: Quantization
    vision: VisionEncoder | None = None
    audio: AudioEncoder | None = None
    published: PublishedParams | None = None
    aliases: tuple[str, ...] = ()
    verified: bool = True
    """Whether the shape was read in a file of the publisher, or a verbatim copy of one."""
    notes: tuple[str, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Source by field name; ``""`` holds that of every field not listed. Empty for a model of the user's own."""

    @property
    def num_layers(self) -> int:
        """The number of layers of the language model."""
        return sum(group.count for group in self.layers)
