"""How a model's weights are stored, from the ``quantization_config`` of its Hugging Face config."""

from __future__ import annotations

import re
from collections.abc import Iterable

from joulemap.catalog.architecture import Quantization, WeightPart
from joulemap.catalog.config_reader import ConfigReader
from joulemap.catalog.types import Precision

DTYPES: dict[str, Precision] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "float8_e4m3fn": "fp8",
}

ALWAYS_KEPT: tuple[WeightPart, ...] = ("embeddings", "lm_head", "router", "norms", "vision", "audio")
"""Parts that no method in use quantises unless it says so."""

IGNORED_PARTS: tuple[tuple[str, WeightPart], ...] = (
    ("shared_expert", "shared_experts"),
    ("self_attn", "attention"),
    ("attention", "attention"),
    ("mixer", "mamba"),
    ("experts", "experts"),
    ("mlp", "mlp"),
)
"""What the name of an ignored module tells, first match first."""


def read_quantization(config: ConfigReader, text: ConfigReader, num_layers: int) -> Quantization:
    """Return the precision of each part of the weights.

    Args:
        config: The whole config, which may hold ``quantization_config``.
        text: The language model's part of it, for the data type.
        num_layers: Layers of the language model; an exception counts where it covers at least half of them.

    Raises:
        CatalogError: The method of quantisation is not known.
    """
    base = _dtype(text) or _dtype(config) or "bf16"
    given = config.section("quantization_config") or text.section("quantization_config")
    if given is None:
        return Quantization(precision=base, activation_precision=base)
    precision = _precision(given)
    weight_only = precision in ("int4", "mxfp4") or given.text("quant_method") in ("gptq", "awq", "bitsandbytes")
    kept: dict[WeightPart, Precision] = dict.fromkeys(ALWAYS_KEPT, base)
    kept |= dict.fromkeys(_ignored(given, num_layers), base)
    if given.text("quant_method") == "mxfp4":
        kept |= {"attention": base, "mlp": base, "shared_experts": base}
    return Quantization(
        precision=precision,
        exceptions=kept,
        activation_precision=base if weight_only else precision,
        block=_block(given),
    )


def _dtype(config: ConfigReader) -> Precision | None:
    key = config.first("dtype", "torch_dtype")
    if key is None:
        return None
    name = config.text(key).removeprefix("torch.")
    if name in ("", "auto"):
        return None
    if name not in DTYPES:
        config.reject(key, f"names a data type that is not known: {name[:60]!r}; known: {', '.join(DTYPES)}")
    return DTYPES[name]


def _precision(given: ConfigReader) -> Precision:
    method = given.text("quant_method")
    match method:
        case "fp8" | "fbgemm_fp8":
            return "fp8"
        case "mxfp4":
            return "mxfp4"
        case "awq" | "gptq" | "auto-round" | "bitsandbytes":
            bits = 8 if given.flag("load_in_8bit") else given.integer("bits", default=4, high=64)
            return _integer(given, bits)
        case "modelopt" | "modelopt_fp4":
            algorithm = given.text("quant_algo", default="FP8").upper()
            if "NVFP4" in algorithm or "FP4" in algorithm:
                return "nvfp4"
            return "fp8"
        case "compressed-tensors":
            return _compressed(given)
    return given.reject("quant_method", f"is not known: {method[:60]!r}")


def _compressed(given: ConfigReader) -> Precision:
    for group in given.sections("config_groups"):
        weights = group.section("weights")
        if weights is None:
            continue
        bits = weights.integer("num_bits", high=64)
        if weights.text("type") != "float":
            return _integer(weights, bits)
        if bits == 4:
            return "mxfp4" if weights.integer("group_size", default=16) == 32 else "nvfp4"
        return "fp8"
    return given.reject("config_groups", "holds no group with weights")


def _integer(given: ConfigReader, bits: int) -> Precision:
    if bits not in (4, 8):
        given.reject("bits", f"must be 4 or 8, not {bits}")
    return "int4" if bits == 4 else "int8"


def _ignored(given: ConfigReader, num_layers: int) -> Iterable[WeightPart]:
    key = given.first("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules")
    covered: dict[WeightPart, set[str]] = {}
    for name in given.texts(key) if key else ():
        part = next((part for word, part in IGNORED_PARTS if word in name), None)
        if part is None or "gate" in name.rpartition(".")[2] or "norm" in name:
            continue
        layer = re.search(r"layers\.(\d+)", name)
        covered.setdefault(part, set()).add(layer.group(1) if layer else "all")
    return [part for part, layers in covered.items() if "all" in layers or 2 * len(layers) >= num_layers]


def _block(given: ConfigReader) -> tuple[int, ...]:
    block = tuple(given.integers("weight_block_size", low=1))
    if block:
        return block
    return {"mxfp4": (32,), "modelopt": (16,), "modelopt_fp4": (16,)}.get(given.text("quant_method"), ())
