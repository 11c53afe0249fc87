"""Writes a diffusion pipeline of real shape with random weights: ``make_pipeline.py NAME FOLDER [DEVICE]``.

``sd3.5-medium`` and ``flux.1-dev`` have the publishers' shapes of transformer, text encoders and decoder, so that
nothing need be downloaded; energy hardly depends on what the weights are. ``tiny`` is for trying it out on a CPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

CONTROL = ("<unk>", "<s>", "</s>", "<pad>")
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
T5_XXL = (4096, 10240, 24, 64)
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(max_tokens: int) -> Any:
    """Return a tokenizer that knows no word: every word is the unknown one, which costs as much as any."""
    vocabulary = {word: number for number, word in enumerate(CONTROL)}
    content: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": CONTROL[0]},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(content, file)
        file.flush()
        unknown, begin, end, pad = CONTROL
        return transformers.PreTrainedTokenizerFast(
            tokenizer_file=file.name,
            unk_token=unknown,
            bos_token=begin,
            eos_token=end,
            pad_token=pad,
            model_max_length=max_tokens,
        )


def clip(shape: dict[str, int], projection: int, *, projected: bool) -> Any:
    """Return a CLIP text encoder."""
    config = transformers.CLIPTextConfig(
        **shape,
        vocab_size=49408,
        max_position_embeddings=77,
        projection_dim=projection,
        eos_token_id=2,
        hidden_act="gelu",
    )
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)


def t5(width: int, feed_forward: int, layers: int, heads: int) -> Any:
    """Return the encoder of T5 v1.1."""
    config = transformers.T5Config(
        d_model=width,
        d_kv=width // heads,
        d_ff=feed_forward,
        num_layers=layers,
        num_heads=heads,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return transformers.T5EncoderModel(config)


def decoder(channels: tuple[int, ...] = (128, 256, 512, 512)) -> Any:
    """Return the autoencoder that both families use: 16 channels, 8 pixels a side."""
    return diffusers.AutoencoderKL(
        latent_channels=16,
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=2,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        sample_size=1024,
    )


def stable_diffusion(*, tiny: bool) -> Any:
    """Return Stable Diffusion 3.5 Medium (Stability AI's transformer/config.json), or a small one."""
    layers, heads, head_size = (2, 2, 16) if tiny else (24, 24, 64)
    one, two = (TINY, TINY) if tiny else (CLIP_L, CLIP_G)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=layers,
        attention_head_dim=head_size,
        num_attention_heads=heads,
        joint_attention_dim=64 if tiny else 4096,
        caption_projection_dim=heads * head_size,
        pooled_projection_dim=one["hidden_size"] + two["hidden_size"],
        pos_embed_max_size=384,
        dual_attention_layers=tuple(range(1 if tiny else 13)),
        qk_norm="rms_norm",
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=decoder((32, 32, 32, 32)) if tiny else decoder(),
        text_encoder=clip(one, one["hidden_size"], projected=True),
        tokenizer=tokenizer(77),
        text_encoder_2=clip(two, two["hidden_size"], projected=True),
        tokenizer_2=tokenizer(77),
        text_encoder_3=t5(64, 128, 2, 2) if tiny else t5(*T5_XXL),
        tokenizer_3=tokenizer(256),
    )


def flux() -> Any:
    """Return FLUX.1-dev (Black Forest Labs' transformer/config.json) with T5 v1.1 XXL."""
    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(guidance_embeds=True),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=decoder(),
        text_encoder=clip(CLIP_L, 768, projected=False),
        tokenizer=tokenizer(77),
        text_encoder_2=t5(*T5_XXL),
        tokenizer_2=tokenizer(512),
    )


PIPELINES: dict[str, Callable[[], Any]] = {
    "sd3.5-medium": lambda: stable_diffusion(tiny=False),
    "flux.1-dev": flux,
    "tiny": lambda: stable_diffusion(tiny=True),
}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(sys.argv[3] if len(sys.argv) > 3 else "cpu"):
        pipeline = PIPELINES[name]()
    pipeline.to(torch.bfloat16).save_pretrained(folder)
    params = sum(p.numel() for p in pipeline.transformer.parameters())
    print(f"Wrote {folder}: a transformer of {params / 1e9:.3f} B parameters")


if __name__ == "__main__":
    main()
