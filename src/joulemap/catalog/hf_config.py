"""A model's shape from its Hugging Face ``config.json``, so that a user's own model works like the catalog's."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from joulemap.catalog.architecture import Attention, LatentAttention, LayerGroup, ModelArchitecture, MoeMlp
from joulemap.catalog.config_reader import MAX_CONTEXT_TOKENS, ConfigReader, read_config
from joulemap.catalog.hf_encoders import read_audio, read_vision
from joulemap.catalog.hf_layers import HIDDEN_KEYS, read_layers
from joulemap.catalog.hf_quantization import read_quantization
from joulemap.catalog.tables import read_tables

TEXT_SECTIONS = ("text_config", "llm_config", "language_config")
CONTEXT_KEYS = ("max_position_embeddings", "max_sequence_length", "n_positions", "seq_length", "max_seq_len")
DEFAULT_CONTEXT_TOKENS = 4096


def architecture_from_hf_config(
    source: Path | str | Mapping[str, Any], *, model_id: str | None = None
) -> ModelArchitecture:
    """Return the shape of a model whose ``config.json`` is given.

    Known by name: Llama, Mistral, Mixtral, Qwen 2 and 3 (dense, mixture, vision, omni), DeepSeek V2 and V3,
    gpt-oss, Gemma 1 to 4, Llama 4, Nemotron-H and Nano v2, GLM 4, Phi 3, Mamba-2 hybrids and their like. Any
    other ``model_type`` is read by the usual keys, which the result's ``notes`` then say.

    Args:
        source: The file, the folder that holds it, or its content.
        model_id: What to call the model; by default the name in the config, or the folder's.

    Raises:
        CatalogError: The file cannot be read, a key that the shape needs is missing, or a value cannot be meant.
    """
    config = read_config(source)
    outer, text = _language_part(config)
    model_type = text.text("model_type") or config.text("model_type")
    family = families().get(model_type)
    notes = [] if family is not None else [_unknown_type(model_type)]
    if family is not None and "unsupported" in family:
        config.reject("model_type", f"is {model_type!r}, which {family['unsupported']}")
    family = family or {}
    text = text.with_defaults(family.get("defaults", {}))
    if text.integer("hidden_size_per_layer_input", default=0, low=0):
        notes.append("per-layer input embeddings are not counted")
    layers = read_layers(text, family)
    hidden = text.integer(*HIDDEN_KEYS)
    name = model_id or _name(config, source)
    return ModelArchitecture(
        id=name,
        nickname=name.rpartition("/")[2],
        backbone=f"{model_type or 'unknown'}-{sum(g.count for g in layers)}x{hidden}",
        kind=_kind(layers),
        hidden_size=hidden,
        layers=layers,
        vocab_size=text.integer("vocab_size"),
        tied_embeddings=text.flag("tie_word_embeddings", default=family.get("tied", False)),
        max_context_tokens=text.integer(*CONTEXT_KEYS, default=DEFAULT_CONTEXT_TOKENS, high=MAX_CONTEXT_TOKENS),
        quantization=read_quantization(config, text, sum(g.count for g in layers)),
        vision=read_vision(outer, hidden),
        audio=read_audio(outer, hidden),
        notes=tuple(notes),
    )


@functools.cache
def families() -> dict[str, dict[str, Any]]:
    """Return what each ``model_type`` fixes without saying so, by type."""
    return {name: family for family in read_tables("hf-families")["families"] for name in family["types"]}


def _language_part(config: ConfigReader) -> tuple[ConfigReader, ConfigReader]:
    """Return the object that holds the encoders, and the language model's own."""
    thinker = config.section("thinker_config")
    outer = config if thinker is None else thinker
    for key in TEXT_SECTIONS:
        section = outer.section(key)
        if section is not None:
            return outer, section.inside(outer, {})
    return outer, outer


def _unknown_type(model_type: str) -> str:
    if not model_type:
        return "the config states no model_type; read by the usual keys"
    return f"model_type {model_type[:60]!r} is not known by name; read by the usual keys"


def _name(config: ConfigReader, source: Path | str | Mapping[str, Any]) -> str:
    given = config.text("_name_or_path")
    if given:
        return given
    if isinstance(source, Mapping):
        return config.text("model_type") or "model"
    path = Path(source).absolute()
    return path.name if path.is_dir() else (path.parent.name if path.name == "config.json" else path.stem)


def _kind(layers: tuple[LayerGroup, ...]) -> Literal["dense", "moe", "hybrid", "ssm"]:
    attends = any(isinstance(g.mixer, Attention | LatentAttention) for g in layers)
    recurs = any(g.mixer is not None and not isinstance(g.mixer, Attention | LatentAttention) for g in layers)
    if recurs:
        return "hybrid" if attends else "ssm"
    return "moe" if any(isinstance(g.mlp, MoeMlp) for g in layers) else "dense"
