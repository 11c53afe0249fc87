"""Writes a diffusion pipeline of real shape with random weights: ``make_dit.py FOLDER [xl|tiny]``.

``xl`` is DiT-XL/2 at 512 pixels (Peebles and Xie, arXiv 2212.09748, table 1: 28 layers, width 1152, 16 heads,
patches of 2) with the decoder of Stable Diffusion's autoencoder; it needs no text encoder, so that nothing need be
downloaded. Energy hardly depends on what the weights are. ``tiny`` is for trying it out on a CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import diffusers
import torch


class Shape(NamedTuple):
    """What makes a pipeline large or small."""

    layers: int
    heads: int
    head_size: int
    latent_px: int
    channels: tuple[int, ...]


SHAPES = {"xl": Shape(28, 16, 72, 64, (128, 256, 512, 512)), "tiny": Shape(2, 2, 8, 8, (32, 32, 32, 32))}
CLASSES = 1000
LATENT_CHANNELS = 4


def main() -> None:
    folder, shape = Path(sys.argv[1]), SHAPES[sys.argv[2] if len(sys.argv) > 2 else "xl"]
    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=shape.heads,
        attention_head_dim=shape.head_size,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,
        num_layers=shape.layers,
        sample_size=shape.latent_px,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=CLASSES,
        attention_bias=True,
    )
    channels = shape.channels
    vae = diffusers.AutoencoderKL(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=2,
        sample_size=8 * shape.latent_px,
    )
    pipeline = diffusers.DiTPipeline(transformer=transformer, vae=vae, scheduler=diffusers.DDIMScheduler())
    pipeline.to(torch.bfloat16).save_pretrained(folder)
    params = sum(p.numel() for p in transformer.parameters())
    print(f"Wrote {folder}: a transformer of {params / 1e6:.0f} M parameters, {8 * shape.latent_px} pixels")


if __name__ == "__main__":
    main()
