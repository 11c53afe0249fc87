"""A diffusion model's shape from the config files of a Diffusers pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joulemap.catalog.config_reader import ConfigReader, read_config
from joulemap.catalog.diffusers_shapes import SHAPES, other
from joulemap.catalog.diffusion import DiffusionArchitecture, PipelineDefaults, TextEncoder, Vae
from joulemap.catalog.hf_quantization import read_quantization
from joulemap.catalog.tables import files, read_tables

TEXT_ENCODER_FOLDERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def architecture_from_diffusers(
    source: Path | str | Mapping[str, Any], *, model_id: str | None = None
) -> DiffusionArchitecture:
    """Return the shape of a diffusion model.

    Known by name are the transformers of FLUX.1, Stable Diffusion 3, PixArt, SANA, Hunyuan-DiT, Wan, HunyuanVideo
    and CogVideoX; any other with the usual keys is read as one stream with cross-attention, which ``notes`` then
    say. Steps, resolution, guidance and text length are the pipeline's defaults: a config does not hold them.

    Args:
        source: A pipeline's folder, its ``transformer`` folder, the ``config.json`` in it, or that file's content.
            From a folder, the autoencoder and the text encoders beside it are read too.
        model_id: What to call the model; by default the pipeline's folder.

    Raises:
        CatalogError: A file cannot be read, a key that the shape needs is missing, or a value cannot be meant.
    """
    folder = None if isinstance(source, Mapping) else _pipeline_folder(Path(source))
    config = read_config(
        source if folder is None or not (folder / "transformer").is_dir() else folder / "transformer"
    )
    class_name = config.text("_class_name")
    classes = read_tables("diffusers-classes")["classes"]
    usual = classes.get(class_name, classes["other"])
    shape = SHAPES.get(class_name, other)(config)
    name = model_id or (class_name or "model" if folder is None else folder.absolute().name)
    values = {f.name: getattr(shape, f.name) for f in dataclasses.fields(shape)}
    return DiffusionArchitecture(
        id=name,
        nickname=name.rpartition("/")[2],
        backbone=f"{class_name or 'unknown'}-{sum(b.count for b in shape.blocks)}x{shape.hidden_size}",
        output=usual["output"],
        text_tokens=usual["text_tokens"],
        guidance=usual["guidance"],
        defaults=PipelineDefaults(**usual["defaults"]),
        vae=_vae(folder, usual["vae"]),
        text_encoders=_text_encoders(folder, usual["text_tokens"]),
        quantization=read_quantization(config, config, len(shape.blocks)),
        notes=() if class_name in SHAPES else (f"class {class_name[:60]!r} is not known by name",),
        **values,
    )


def _pipeline_folder(path: Path) -> Path | None:
    """Return the folder that holds ``transformer``, ``vae`` and the rest, if that is where the path leads."""
    folder = path if path.is_dir() else path.parent
    if (folder / "transformer").is_dir():
        return folder
    return folder.parent if folder.name == "transformer" else None


def _vae(folder: Path | None, usual: Mapping[str, int]) -> Vae:
    config = _neighbour(folder, "vae")
    if config is None:
        return Vae(**usual)
    stages = config.items("block_out_channels") or config.items("encoder_block_out_channels")
    spatial = usual["spatial_compression"] if stages is None else 2 ** (max(min(len(stages), 16), 1) - 1)
    return Vae(
        spatial_compression=config.integer("spatial_compression_ratio", default=spatial, high=1024),
        temporal_compression=config.integer(
            "temporal_compression_ratio", default=usual["temporal_compression"], high=1024
        ),
        latent_channels=config.integer("latent_channels", "z_dim", default=usual["latent_channels"]),
    )


def _text_encoders(folder: Path | None, max_tokens: int) -> tuple[TextEncoder, ...]:
    found = []
    for name in TEXT_ENCODER_FOLDERS:
        config = _neighbour(folder, name)
        if config is None:
            continue
        layers = config.integer("num_hidden_layers", "num_layers", default=0, low=0)
        width = config.integer("d_model", "hidden_size", default=0, low=0)
        vocab = config.integer("vocab_size", default=0, low=0)
        known = _known_text_encoders().get((layers, width, vocab))
        kind = config.text("model_type") or "text encoder"
        length = config.integer("max_position_embeddings", default=max_tokens)
        found.append(
            TextEncoder(
                name=f"{kind}, {layers} layers of {width}" if known is None else known["name"],
                params=None if known is None else known["params"],
                max_tokens=min(length, max_tokens),
            )
        )
    return tuple(found)


def _known_text_encoders() -> dict[tuple[int, int, int], Mapping[str, Any]]:
    tables = (t for file in files("diffusion-") for t in read_tables(file)["text_encoders"].values())
    return {tuple(table["shape"]): table for table in tables}


def _neighbour(folder: Path | None, name: str) -> ConfigReader | None:
    if folder is None or not (folder / name / "config.json").is_file():
        return None
    return read_config(folder / name)
