"""The transformer's shape in each class of Diffusers, from the values of its ``config.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from joulemap.catalog.config_reader import MAX_COUNT, ConfigReader
from joulemap.catalog.diffusion import DiffusionBlockGroup

TIME_CHANNELS = 256
"""Width of the sinusoidal embedding of time in every class read here."""

Linears = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerShape:
    """What a config says of a diffusion transformer, without the pipeline around it."""

    hidden_size: int
    blocks: tuple[DiffusionBlockGroup, ...]
    in_channels: int
    out_channels: int
    patch_size: int
    temporal_patch_size: int = 1
    embedder_linears: Linears
    other_params: int = 0


def flux(config: ConfigReader) -> TransformerShape:
    """Read ``FluxTransformer2DModel``: its input channels are those of a packed 2 x 2 patch."""
    block, h = _block(config)
    single = replace(block, streams=1, count=_count(config, "num_single_layers"), modulation_linears=((h, 3 * h),))
    packed = config.integer("in_channels")
    text = config.integer("joint_attention_dim", default=4096)
    pooled = config.integer("pooled_projection_dim", default=768)
    times = 2 if config.flag("guidance_embeds") else 1
    return TransformerShape(
        hidden_size=h,
        blocks=(_joint(block, _count(config, "num_layers")), single),
        in_channels=max(packed // 4, 1),
        out_channels=max(config.integer("out_channels", default=packed) // 4, 1),
        patch_size=2,
        embedder_linears=(
            (packed, h), (text, h), *times * _mlp(TIME_CHANNELS, h), *_mlp(pooled, h), (h, 2 * h), (h, packed),
        ),
    )  # fmt: skip


def stable_diffusion_3(config: ConfigReader) -> TransformerShape:
    """Read ``SD3Transformer2DModel``: the last block only reads the text; some have a second self-attention."""
    block, h = _block(config)
    count = _count(config, "num_layers")
    dual = len([i for i in config.integers("dual_attention_layers") if i < count - 1])
    joint = _joint(block, count - dual - 1)
    groups = (
        replace(joint, count=dual, extra_self_attention=True, modulation_linears=((h, 9 * h), (h, 6 * h))),
        joint,
        replace(joint, count=1, text_ends=True, modulation_linears=((h, 6 * h), (h, 2 * h))),
    )
    patch, channels, out = _patches(config)
    text = config.integer("joint_attention_dim", default=4096)
    pooled = config.integer("pooled_projection_dim", default=2048)
    return TransformerShape(
        hidden_size=h,
        blocks=tuple(group for group in groups if group.count),
        in_channels=channels,
        out_channels=out,
        patch_size=patch,
        embedder_linears=(
            (patch**2 * channels, h), (text, h), *_mlp(TIME_CHANNELS, h), *_mlp(pooled, h), (h, 2 * h),
            (h, patch**2 * out),
        ),
        other_params=config.integer("pos_embed_max_size", default=96, high=MAX_COUNT) ** 2 * h,
    )  # fmt: skip


def pixart(config: ConfigReader) -> TransformerShape:
    """Read ``PixArtTransformer2DModel``: one modulation for all blocks, cross-attention to the caption."""
    block, h = _block(config)
    count = _count(config, "num_layers")
    return _single_modulation(
        config, h, replace(block, count=count, cross_attention_dim=config.integer("cross_attention_dim")), 4096
    )


def sana(config: ConfigReader) -> TransformerShape:
    """Read ``SanaTransformer2DModel``: linear self-attention and a gated feed-forward part with a convolution."""
    block, h = _block(config)
    block = replace(
        block,
        count=_count(config, "num_layers"),
        attention="linear",
        gated_mlp=True,
        mlp_conv_kernel=3,
        mlp_intermediate_size=int(h * _ratio(config, 2.5)),
        cross_attention_dim=config.integer("cross_attention_dim", default=h),
    )
    return _single_modulation(config, h, block, 2304)


def wan(config: ConfigReader) -> TransformerShape:
    """Read ``WanTransformer3DModel``: patches of frames, rows and columns; width of the feed-forward part given."""
    block, h = _block(config)
    count = _count(config, "num_layers")
    block = replace(block, count=count, cross_attention_dim=h, mlp_intermediate_size=config.integer("ffn_dim"))
    sides = config.integers("patch_size", low=1, high=64) or [1, 2, 2]
    if len(sides) != 3 or sides[1] != sides[2]:
        config.reject("patch_size", "must be three numbers, of which the last two are equal")
    cells = sides[0] * sides[1] * sides[2]
    channels = config.integer("in_channels", default=16)
    out = config.integer("out_channels", default=channels)
    times = config.integer("freq_dim", default=TIME_CHANNELS)
    text = config.integer("text_dim", default=4096)
    return TransformerShape(
        hidden_size=h,
        blocks=(block,),
        in_channels=channels,
        out_channels=out,
        patch_size=sides[1],
        temporal_patch_size=sides[0],
        embedder_linears=(
            (cells * channels, h), *_mlp(times, h), (h, 6 * h), *_mlp(text, h), (h, cells * out),
        ),
        other_params=count * 6 * h + 2 * h,
    )  # fmt: skip


def hunyuan_video(config: ConfigReader) -> TransformerShape:
    """Read ``HunyuanVideoTransformer3DModel``: joint and single blocks, and a refiner of the text."""
    block, h = _block(config)
    refiner = replace(
        block, count=_count(config, "num_refiner_layers", 2), tokens="text", modulation_linears=((h, 2 * h),)
    )
    single = replace(block, count=_count(config, "num_single_layers", 40), modulation_linears=((h, 3 * h),))
    patch, channels, out = _patches(config)
    frames = config.integer("patch_size_t", default=1, high=64)
    text = config.integer("text_embed_dim", default=4096)
    pooled = config.integer("pooled_projection_dim", default=768)
    times = 2 if config.flag("guidance_embeds", default=True) else 1
    return TransformerShape(
        hidden_size=h,
        blocks=(refiner, _joint(block, _count(config, "num_layers", 20)), single),
        in_channels=channels,
        out_channels=out,
        patch_size=patch,
        temporal_patch_size=frames,
        embedder_linears=(
            (frames * patch**2 * channels, h), (text, h), *_mlp(TIME_CHANNELS, h), *_mlp(text, h),
            *times * _mlp(TIME_CHANNELS, h), *_mlp(pooled, h), (h, 2 * h), (h, frames * patch**2 * out),
        ),
    )  # fmt: skip


def hunyuan_dit(config: ConfigReader) -> TransformerShape:
    """Read ``HunyuanDiT2DModel``: cross-attention to the text, long skip connections in the second half."""
    block, h = _block(config)
    count = _count(config, "num_layers")
    text = config.integer("cross_attention_dim", default=1024)
    text_2 = config.integer("cross_attention_dim_t5", default=2048)
    block = replace(block, cross_attention_dim=text, modulation_linears=((h, h),))
    skips = max(count - count // 2 - 1, 0)
    groups = (replace(block, count=count - skips), replace(block, count=skips, token_linears=((2 * h, h),)))
    patch, channels, out = _patches(config)
    out = 2 * out if config.flag("learn_sigma", default=True) else out
    pooled = config.integer("pooled_projection_dim", default=1024)
    lengths = config.integer("text_len", default=77), config.integer("text_len_t5", default=256)
    return TransformerShape(
        hidden_size=h,
        blocks=tuple(group for group in groups if group.count),
        in_channels=channels,
        out_channels=out,
        patch_size=patch,
        embedder_linears=(
            (patch**2 * channels, h), *_mlp(TIME_CHANNELS, h), (text_2, 4 * text_2), (4 * text_2, text),
            *3 * ((text_2, text_2),), (text_2, pooled), (pooled, 4 * h), (4 * h, h), (h, 2 * h),
            (h, patch**2 * out),
        ),
        other_params=sum(lengths) * text + (lengths[1] + 1) * text_2,
    )  # fmt: skip


def cogvideox(config: ConfigReader) -> TransformerShape:
    """Read ``CogVideoXTransformer3DModel``: text and latents share weights, each with its own modulation."""
    block, h = _block(config)
    times = config.integer("time_embed_dim", default=512)
    block = replace(
        block, count=_count(config, "num_layers"), tokens="both", modulation_linears=2 * ((times, 6 * h),)
    )
    patch, channels, out = _patches(config)
    frames = config.integer("patch_size_t", default=1, high=64)
    text = config.integer("text_embed_dim", default=4096)
    return TransformerShape(
        hidden_size=h,
        blocks=(block,),
        in_channels=channels,
        out_channels=out,
        patch_size=patch,
        temporal_patch_size=frames,
        embedder_linears=(
            (frames * patch**2 * channels, h), (text, h), (h, times), (times, times), (times, 2 * h),
            (h, frames * patch**2 * out),
        ),
    )  # fmt: skip


def other(config: ConfigReader) -> TransformerShape:
    """Read a class that is not known by name: one stream, cross-attention where its width is given."""
    block, h = _block(config)
    width = config.first("cross_attention_dim", "joint_attention_dim", "caption_channels")
    block = replace(
        block,
        count=_count(config, "num_layers"),
        cross_attention_dim=None if width is None else config.integer(width),
        modulation_linears=((h, 6 * h),),
    )
    patch, channels, out = _patches(config)
    return TransformerShape(
        hidden_size=h,
        blocks=(block,),
        in_channels=channels,
        out_channels=out,
        patch_size=patch,
        embedder_linears=((patch**2 * channels, h), *_mlp(TIME_CHANNELS, h), (h, patch**2 * out)),
    )


SHAPES: Mapping[str, Callable[[ConfigReader], TransformerShape]] = {
    "FluxTransformer2DModel": flux,
    "SD3Transformer2DModel": stable_diffusion_3,
    "PixArtTransformer2DModel": pixart,
    "SanaTransformer2DModel": sana,
    "WanTransformer3DModel": wan,
    "HunyuanVideoTransformer3DModel": hunyuan_video,
    "HunyuanDiT2DModel": hunyuan_dit,
    "CogVideoXTransformer3DModel": cogvideox,
}
"""How to read each class, by its ``_class_name``."""


def _block(config: ConfigReader) -> tuple[DiffusionBlockGroup, int]:
    heads = config.integer("num_attention_heads", high=MAX_COUNT)
    head_dim = config.integer("attention_head_dim", high=MAX_COUNT)
    h = config.integer("hidden_size", default=heads * head_dim)
    block = DiffusionBlockGroup(
        count=1,
        hidden_size=h,
        heads=heads,
        head_dim=head_dim,
        tokens="both" if config.has("num_single_layers") else "latent",
        mlp_intermediate_size=int(h * _ratio(config, 4.0)),
    )
    return block, h


def _joint(block: DiffusionBlockGroup, count: int) -> DiffusionBlockGroup:
    h = block.hidden_size
    return replace(block, count=count, streams=2, tokens="both", modulation_linears=2 * ((h, 6 * h),))


def _single_modulation(
    config: ConfigReader, h: int, block: DiffusionBlockGroup, caption_width: int
) -> TransformerShape:
    patch, channels, out = _patches(config)
    caption = config.integer("caption_channels", default=caption_width)
    return TransformerShape(
        hidden_size=h,
        blocks=(block,),
        in_channels=channels,
        out_channels=out,
        patch_size=patch,
        embedder_linears=(
            (patch**2 * channels, h), *_mlp(TIME_CHANNELS, h), (h, 6 * h), *_mlp(caption, h), (h, patch**2 * out),
        ),
        other_params=block.count * 6 * h + 2 * h,
    )  # fmt: skip


def _mlp(inputs: int, h: int) -> Linears:
    return ((inputs, h), (h, h))


def _patches(config: ConfigReader) -> tuple[int, int, int]:
    channels = config.integer("in_channels", high=MAX_COUNT)
    return (
        config.integer("patch_size", default=1, high=64),
        channels,
        config.integer("out_channels", default=channels),
    )


def _count(config: ConfigReader, key: str, default: int | None = None) -> int:
    if default is None:
        return config.integer(key, high=MAX_COUNT)
    return config.integer(key, default=default, high=MAX_COUNT)


def _ratio(config: ConfigReader, default: float) -> float:
    return config.number("mlp_ratio", default=default, low=0.1, high=100.0)
