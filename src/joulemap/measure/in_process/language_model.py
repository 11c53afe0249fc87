"""Building a language model in this process: from its files, or with random weights from its shape alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joulemap.catalog import Attention, DenseMlp, ModelArchitecture, MoeMlp, load_catalog
from joulemap.errors import CatalogError, EnvironmentLacksError, InfeasibleError, InputError, JoulemapError
from joulemap.measure.in_process.fp8 import quantize_linears
from joulemap.measure.in_process.fused_norms import fuse_norms
from joulemap.measure.in_process.libraries import device_of, load
from joulemap.measure.in_process.thread_work import first_line

EXTRA = "transformers"
NEEDED_FOR = "--transformers"
DTYPES = {"bfloat16": "bfloat16", "float16": "float16", "float32": "float32", "fp8": "bfloat16"}
"""Type of the parameters that are not quantised, by weight precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which model to run, and how."""

    name: str
    """A folder, a config.json, an id of a hub, or a model of the catalog."""
    random_weights: bool = False
    """Fill the weights with noise: energy hardly depends on them, and nothing need be downloaded."""
    precision: str = "bfloat16"
    device: str | None = None
    layers: int | None = None
    """Build so many layers only; of use in tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in memory, ready to run."""

    torch: Any
    model: Any
    model_id: str
    nickname: str | None
    precision: str
    device: Any
    params: float
    """Number of parameters."""
    attention: str
    notes: tuple[str, ...]


def load_language_model(choice: ModelChoice, *, attention: str) -> LoadedModel:
    """Build a model on its device.

    Args:
        choice: Which one.
        attention: The attention implementation, by its name in transformers.

    Raises:
        MissingExtraError: PyTorch or transformers is not installed.
        InputError: The model's files cannot be used, or its precision is not known.
        InfeasibleError: It does not fit into memory.
    """
    torch = load("torch", extra=EXTRA, needed_for=NEEDED_FOR)
    transformers = load("transformers", extra=EXTRA, needed_for=NEEDED_FOR)
    if choice.precision not in DTYPES:
        msg = f"weights in {choice.precision!r} cannot be made here"
        raise InputError(msg, fix="--precision " + "|".join(DTYPES))
    device = device_of(torch, choice.device)
    if choice.precision == "fp8" and device.type != "cuda":
        msg = "fp8 matrix products need an NVIDIA GPU of the Hopper or a later generation"
        raise EnvironmentLacksError(msg, fix="--precision bfloat16")
    config, model_id, nickname = _config(transformers, choice)
    dtype = getattr(torch, DTYPES[choice.precision])
    notes = []
    try:
        if choice.random_weights:
            # Made where they are used: filling 14 billion parameters on a CPU first would take minutes.
            with torch.device(device):
                model = transformers.AutoModelForCausalLM.from_config(
                    config, dtype=dtype, attn_implementation=attention
                )
            notes.append("random weights")
        else:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                choice.name, dtype=dtype, attn_implementation=attention
            ).to(device)
        model = model.eval().requires_grad_(requires_grad=False)
        params = float(sum(p.numel() for p in model.parameters()))
        fused = fuse_norms(torch, model)
        if fused:
            notes.append(f"{fused} RMS norms by PyTorch's fused kernel")
        if choice.precision == "fp8":
            notes.append(quantize_linears(torch, model))
    except torch.OutOfMemoryError as error:
        msg = f"{model_id} in {choice.precision} does not fit into the memory of {device}: {first_line(error)}"
        raise InfeasibleError(msg, fix="choose a smaller model or --precision fp8") from error
    except JoulemapError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"the model {choice.name!r} cannot be built: {first_line(error)}"
        raise InputError(msg, fix="give a folder with config.json (and weights, or --random-weights)") from error
    return LoadedModel(
        torch=torch,
        model=model,
        model_id=model_id,
        nickname=nickname,
        precision=choice.precision,
        device=device,
        params=params,
        attention=attention,
        notes=tuple(notes),
    )


def _config(transformers: Any, choice: ModelChoice) -> tuple[Any, str, str | None]:
    """Return the model's configuration, its id and its nickname."""
    path = Path(choice.name)
    nickname = None
    if path.is_file() or (path / "config.json").is_file():
        file = path if path.is_file() else path / "config.json"
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            config = transformers.AutoConfig.for_model(**told)
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{file} is no model configuration that transformers knows: {first_line(error)}"
            raise InputError(msg) from error
        model_id = str(told.get("_name_or_path") or file.parent.name or file.stem)
    elif choice.random_weights:
        architecture = load_catalog().model(choice.name)
        if not isinstance(architecture, ModelArchitecture):
            msg = f"{architecture.id} is no language model"
            raise InputError(msg, fix="--diffusers runs diffusion pipelines")
        config, model_id = config_from_catalog(transformers, architecture), architecture.id
        nickname = architecture.nickname
    else:
        try:
            config = transformers.AutoConfig.from_pretrained(choice.name)
        except (OSError, ValueError) as error:
            msg = f"the model {choice.name!r} is neither a folder here nor to be had from a hub"
            raise InputError(msg, fix="add --random-weights to build it from its shape alone") from error
        model_id = choice.name
    if choice.layers is not None:
        config.num_hidden_layers = choice.layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: choice.layers]
    return config, model_id, nickname


def config_from_catalog(transformers: Any, architecture: ModelArchitecture) -> Any:
    """Return a transformers configuration with the shape of a model of the catalog.

    Shapes with full attention and one kind of layer are built, dense or with experts: as Qwen3 where queries and
    keys are normalised, else as Qwen2 (with biases) or Llama.

    Raises:
        CatalogError: The model has another shape.
    """
    group = architecture.layers[0]
    attention, mlp = group.mixer, group.mlp
    plain = (
        len(architecture.layers) == 1
        and isinstance(attention, Attention)
        and attention.scope == "full"
        and not (attention.sinks or attention.output_gate or attention.value_is_key)
    )
    if not plain or not isinstance(attention, Attention) or mlp is None or not mlp.gated:
        msg = f"{architecture.id} has a shape that cannot be built from the catalog"
        raise CatalogError(msg, fix="give its config.json instead")
    shape: dict[str, Any] = {
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.hidden_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "max_position_embeddings": architecture.max_context_tokens,
        "tie_word_embeddings": architecture.tied_embeddings,
    }
    if isinstance(mlp, MoeMlp):
        if mlp.shared_intermediate_size or not attention.qk_norm:
            msg = f"{architecture.id} has shared experts, which cannot be built from the catalog"
            raise CatalogError(msg, fix="give its config.json instead")
        return transformers.Qwen3MoeConfig(
            **shape,
            intermediate_size=mlp.intermediate_size * mlp.experts_per_token,
            moe_intermediate_size=mlp.intermediate_size,
            num_experts=mlp.num_experts,
            num_experts_per_tok=mlp.experts_per_token,
        )
    return _dense_config(transformers, attention, mlp, shape)


def _dense_config(transformers: Any, attention: Attention, mlp: DenseMlp, shape: dict[str, Any]) -> Any:
    shape["intermediate_size"] = mlp.intermediate_size
    if attention.qk_norm:
        return transformers.Qwen3Config(**shape)
    if attention.qkv_bias:
        # Qwen2 takes the head's width from hidden size and heads.
        return transformers.Qwen2Config(**{k: v for k, v in shape.items() if k != "head_dim"})
    return transformers.LlamaConfig(**shape)
