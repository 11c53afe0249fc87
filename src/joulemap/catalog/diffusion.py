"""The shapes of diffusion transformers and of the pipelines around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from joulemap.catalog.architecture import PublishedParams, Quantization
from joulemap.catalog.types import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionBlockGroup:
    """So many identical transformer blocks."""

    count: int
    hidden_size: int
    heads: int
    head_dim: int
    streams: Literal[1, 2] = 1
    """2: latent tokens and text tokens have weights of their own and attend to each other."""
    tokens: Literal["latent", "both", "text"]
    """Which tokens pass the block: the latent's, both in one sequence, or the text's alone."""
    attention: Literal["full", "linear"] = "full"
    cross_attention_dim: int | None = None
    """Width of the text states that a cross-attention reads; ``None`` where there is no cross-attention."""
    extra_self_attention: bool = False
    """Whether the latent tokens have a second self-attention of their own."""
    mlp_intermediate_size: int
    gated_mlp: bool = False
    mlp_conv_kernel: int = 0
    """Side of a depthwise convolution inside the feed-forward part; 0 where there is none."""
    text_ends: bool = False
    """Whether text tokens are only read here (no output projection and no feed-forward part for them)."""
    modulation_linears: tuple[tuple[int, int], ...] = ()
    """(inputs, outputs) of the linear layers applied once per sample: time modulation."""
    token_linears: tuple[tuple[int, int], ...] = ()
    """(inputs, outputs) of further linear layers applied to each token, such as long skip connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vae:
    """The autoencoder between pixels and latents."""

    spatial_compression: int
    """Pixels per latent cell along a side."""
    temporal_compression: int
    """Frames per latent frame after the first; 1 for images."""
    latent_channels: int
    params: int | None = None
    decoder_params: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """A text encoder, run once per prompt."""

    name: str
    params: int | None
    """Parameters that are run (the encoder alone where only it is loaded); ``None`` where not known."""
    max_tokens: int
    """Length to which the pipeline pads or cuts the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDefaults:
    """What the publisher's example uses and, where that is silent, its pipeline in Diffusers."""

    steps: int
    guidance_scale: float
    height_px: int
    width_px: int
    num_frames: int = 1
    fps_hz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionArchitecture:
    """A diffusion transformer and its pipeline."""

    id: str
    nickname: str
    backbone: str
    output: Literal["image", "video"]
    hidden_size: int
    blocks: tuple[DiffusionBlockGroup, ...]
    in_channels: int
    out_channels: int
    patch_size: int
    """Latent cells in one token along a side."""
    temporal_patch_size: int = 1
    """Latent frames in one token."""
    text_tokens: int
    """Text tokens that the transformer reads."""
    embedder_linears: tuple[tuple[int, int], ...]
    """(inputs, outputs) of the linear layers outside the blocks: patches, time, text, output."""
    other_params: int = 0
    """Parameters that are none of the above: position tables, learned tokens, pooling."""
    guidance: Literal["cfg", "distilled", "none"]
    """``cfg``: each step runs the transformer on a conditioned and an unconditioned sample, doubling its batch."""
    defaults: PipelineDefaults
    vae: Vae
    text_encoders: tuple[TextEncoder, ...]
    quantization: Quantization
    published: PublishedParams | None = None
    aliases: tuple[str, ...] = ()
    verified: bool = True
    """Whether the shape was read in a file of the publisher, or a verbatim copy of one."""
    notes: tuple[str, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Source by field name; ``""`` holds that of every field not listed."""

    @property
    def num_layers(self) -> int:
        """The number of transformer blocks that latent tokens pass."""
        return sum(group.count for group in self.blocks if group.tokens != "text")
