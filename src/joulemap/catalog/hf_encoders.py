"""Vision and audio encoders of a multimodal model from its Hugging Face config."""

from __future__ import annotations

from joulemap.catalog.architecture import AudioEncoder, Projector, VisionEncoder
from joulemap.catalog.config_reader import MAX_COUNT, ConfigReader

RADIO_SIZES = {
    # RADIO's config names a timm model instead of its sizes: (hidden, layers, heads, feed-forward width).
    "vit_base_patch16_224": (768, 12, 12, 3072),
    "vit_large_patch16_224": (1024, 24, 16, 4096),
    "vit_huge_patch16_224": (1280, 32, 16, 5120),
    "radio_v2.5-h": (1280, 32, 16, 5120),
}
"""As in vLLM 0.11.1, transformers_utils/configs/radio.py."""

AUDIO_CONV_KERNEL = 9
"""Weights of one 3 x 3 convolution kernel of Qwen's audio encoders."""


def read_vision(outer: ConfigReader, text_hidden_size: int) -> VisionEncoder | None:
    """Return the vision encoder, or ``None`` where the model has none.

    Args:
        outer: The object that holds ``vision_config``.
        text_hidden_size: Width of the language model, into which the projector leads.
    """
    config = outer.section("vision_config")
    if config is None:
        return None
    version = config.text("version") or config.text("model_name")
    radio = RADIO_SIZES.get(version)
    if radio is not None:
        return _radio(outer, config, radio, text_hidden_size)
    hidden = config.integer("embed_dim", "hidden_size", "width")
    if config.text("model_type").startswith(
        ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "qwen3_omni", "glm4v")
    ):
        return _qwen(config, hidden, text_hidden_size)
    if config.has("pooling_kernel_size"):
        return _gemma4(outer, config, hidden, text_hidden_size)
    if config.has("pixel_shuffle_ratio"):
        return _llama4(config, hidden, text_hidden_size)
    if config.text("model_type") == "pixtral":
        return _pixtral(outer, config, hidden, text_hidden_size)
    return _siglip(outer, config, hidden, text_hidden_size)


def _qwen(config: ConfigReader, hidden: int, text_hidden_size: int) -> VisionEncoder:
    # Qwen2-VL calls the encoder's width embed_dim and the language model's width hidden_size.
    old = config.has("embed_dim")
    merge = config.integer("spatial_merge_size", default=2, high=64)
    merged = hidden * merge**2
    ratio = config.number("mlp_ratio", default=4.0, low=0.1, high=100.0)
    output = config.integer("out_hidden_size", default=config.integer("hidden_size") if old else text_hidden_size)
    return VisionEncoder(
        layers=config.integer("depth", "num_hidden_layers", high=MAX_COUNT),
        hidden_size=hidden,
        heads=config.integer("num_heads", "num_attention_heads", high=MAX_COUNT),
        intermediate_size=config.integer("intermediate_size", default=int(hidden * ratio)),
        gated_mlp=config.text("model_type").startswith("qwen2_5_vl"),
        patch_size_px=config.integer("patch_size", "spatial_patch_size", high=4096),
        temporal_patch_size=config.integer("temporal_patch_size", default=2, high=4096),
        position_embeddings=config.integer("num_position_embeddings", default=0, low=0),
        patches_per_token=merge**2,
        projector=Projector(
            linears=((merged, merged), (merged, output)),
            copies=1 + len(config.integers("deepstack_visual_indexes")),
        ),
    )


def _llama4(config: ConfigReader, hidden: int, text_hidden_size: int) -> VisionEncoder:
    ratio = config.number("pixel_shuffle_ratio", default=0.5, low=0.01, high=1.0)
    merge = round(1 / ratio**2)
    side = config.integer("image_size", high=MAX_COUNT)
    patch = config.integer("patch_size", high=4096)
    patches = (side // patch) ** 2
    shuffled = config.integer("projector_input_dim", default=4096)
    output = config.integer("projector_output_dim", default=shuffled)
    inner = config.integer("intermediate_size", default=hidden * merge)
    return VisionEncoder(
        layers=config.integer("num_hidden_layers", high=MAX_COUNT),
        hidden_size=hidden,
        heads=config.integer("num_attention_heads", high=MAX_COUNT),
        intermediate_size=inner,
        patch_size_px=patch,
        position_embeddings=patches + 1,
        patches_per_token=merge,
        image_size_px=side,
        tokens_per_image=patches // merge,
        projector=Projector(
            linears=((inner, shuffled), (shuffled, output), (output, text_hidden_size)), bias=False
        ),
    )


def _gemma4(outer: ConfigReader, config: ConfigReader, hidden: int, text_hidden_size: int) -> VisionEncoder:
    pool = config.integer("pooling_kernel_size", high=64)
    tokens = outer.integer("vision_soft_tokens_per_image", default=None)
    return VisionEncoder(
        layers=config.integer("num_hidden_layers", high=MAX_COUNT),
        hidden_size=hidden,
        heads=config.integer("num_attention_heads", high=MAX_COUNT),
        head_dim=config.integer("head_dim", default=None),
        intermediate_size=config.integer("intermediate_size"),
        gated_mlp=True,
        attention_bias=config.flag("attention_bias"),
        patch_size_px=config.integer("patch_size", high=4096),
        position_embeddings=2 * config.integer("position_embedding_size", default=0, low=0),
        patches_per_token=pool**2,
        tokens_per_image=tokens,
        projector=Projector(linears=((hidden, text_hidden_size),), bias=False),
    )


def _siglip(outer: ConfigReader, config: ConfigReader, hidden: int, text_hidden_size: int) -> VisionEncoder:
    side = config.integer("image_size", default=None, high=MAX_COUNT)
    patch = config.integer("patch_size", high=4096)
    patches = 0 if side is None else (side // patch) ** 2
    tokens = outer.integer("mm_tokens_per_image", "image_seq_length", default=patches or None)
    return VisionEncoder(
        layers=config.integer("num_hidden_layers", "depth", "layers", high=MAX_COUNT),
        hidden_size=hidden,
        heads=config.integer("num_attention_heads", "num_heads", high=MAX_COUNT),
        intermediate_size=config.integer("intermediate_size", default=4 * hidden),
        patch_size_px=patch,
        position_embeddings=patches,
        patches_per_token=max(patches // tokens, 1) if tokens else 1,
        image_size_px=side,
        tokens_per_image=tokens,
        projector=Projector(linears=((hidden, text_hidden_size),), bias=False),
    )


def _pixtral(outer: ConfigReader, config: ConfigReader, hidden: int, text_hidden_size: int) -> VisionEncoder:
    merge = outer.integer("spatial_merge_size", default=1, high=64)
    merger = ((hidden * merge**2, hidden),) if merge > 1 else ()
    return VisionEncoder(
        layers=config.integer("num_hidden_layers", high=MAX_COUNT),
        hidden_size=hidden,
        heads=config.integer("num_attention_heads", high=MAX_COUNT),
        intermediate_size=config.integer("intermediate_size"),
        gated_mlp=True,
        attention_bias=False,
        patch_size_px=config.integer("patch_size", high=4096),
        patches_per_token=merge**2,
        projector=Projector(
            linears=(*merger, (hidden, text_hidden_size), (text_hidden_size, text_hidden_size)), bias=False
        ),
    )


def _radio(
    outer: ConfigReader, config: ConfigReader, sizes: tuple[int, int, int, int], text_hidden_size: int
) -> VisionEncoder:
    hidden, layers, heads, width = sizes
    ratio = outer.number("downsample_ratio", default=0.5, low=0.01, high=1.0)
    merge = round(1 / ratio**2)
    side = outer.integer("force_image_size", default=512, high=MAX_COUNT)
    patch = outer.integer("patch_size", default=16, high=4096)
    largest = config.integer("max_resolution", "max_img_size", default=2048, high=MAX_COUNT)
    inner = outer.integer("projector_hidden_size", default=text_hidden_size)
    return VisionEncoder(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        intermediate_size=width,
        patch_size_px=patch,
        position_embeddings=(largest // patch) ** 2,
        patches_per_token=merge,
        image_size_px=side,
        tokens_per_image=(side // patch) ** 2 // merge,
        projector=Projector(linears=((hidden * merge, inner), (inner, text_hidden_size)), bias=False),
    )


def read_audio(outer: ConfigReader, text_hidden_size: int) -> AudioEncoder | None:
    """Return the audio encoder of a Qwen Omni or Audio model, or ``None`` where there is none of that kind."""
    config = outer.section("audio_config")
    if config is None or not config.has("encoder_layers"):
        return None
    hidden = config.integer("d_model")
    channels = config.integer("downsample_hidden_size", default=0, low=0)
    output = config.integer("output_dim", default=text_hidden_size)
    conv = channels * AUDIO_CONV_KERNEL * (1 + 2 * channels) + 3 * channels
    mel_bins = config.integer("num_mel_bins", default=128)
    flattened = channels * (mel_bins // 8) * hidden
    return AudioEncoder(
        layers=config.integer("encoder_layers", high=MAX_COUNT),
        hidden_size=hidden,
        heads=config.integer("encoder_attention_heads", high=MAX_COUNT),
        intermediate_size=config.integer("encoder_ffn_dim"),
        conv_params=conv + flattened + 2 * hidden,
        projector=Projector(linears=((hidden, hidden), (hidden, output))),
    )
