"""Models as they are served: a precision other than a model's own makes a variant of it."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from joulemap.catalog import Catalog, DiffusionArchitecture, ModelArchitecture, Quantization
from joulemap.errors import UnknownNameError, UsageError
from joulemap.predict.frames import column_of

PRECISION_NAMES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float8": "fp8",
    "fp8_e4m3": "fp8",
    "mxfp4": "mxfp4",
    "nvfp4": "nvfp4",
    "int8": "int8",
    "int4": "int4",
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8",
    "auto": "",
}
"""Names that engines and sources give to number formats, and the catalog's name; empty: the model's own."""


def known_precision(frame: pl.DataFrame) -> pl.Series:
    """Return which runs have weights in a precision that the model can describe; the model's own where unsaid."""
    return (
        column_of(frame, "weight_precision", pl.String)
        .fill_null("auto")
        .str.to_lowercase()
        .is_in(list(PRECISION_NAMES))
    )


def own_precision(model: ModelArchitecture | DiffusionArchitecture) -> str:
    """Return the precision of most of a model's weights."""
    moe = isinstance(model, ModelArchitecture) and any(hasattr(g.mlp, "num_experts") for g in model.layers)
    return model.quantization.of("experts" if moe else "mlp")


def as_served(
    model: ModelArchitecture | DiffusionArchitecture, wanted: str, catalog: Catalog
) -> ModelArchitecture | DiffusionArchitecture:
    """Return a model with its weights in the wanted precision.

    Args:
        model: The model as published.
        wanted: What a run or a user calls the precision; ``"auto"`` for the model's own.
        catalog: For the publisher's own variant in that precision, which is preferred.

    Raises:
        UnknownNameError: The precision is unknown.
        UsageError: A diffusion model is asked in a precision that it is not calibrated in.
    """
    precision = PRECISION_NAMES.get(wanted.casefold())
    if precision is None:
        kind = "precision"
        raise UnknownNameError(kind, wanted, PRECISION_NAMES)
    if precision in ("", own_precision(model)):
        return model
    if isinstance(model, DiffusionArchitecture):
        msg = f"{model.id} is calibrated in {own_precision(model)} only, not {precision}"
        raise UsageError(msg, fix=f"use --precision {own_precision(model)}")
    sibling = catalog.models.get(f"{model.id}-{precision.upper()}")
    if isinstance(sibling, ModelArchitecture):
        return sibling
    return replace(model, id=f"{model.id}@{precision}", quantization=_quantization(precision))


def _quantization(precision: str) -> Quantization:
    """Return weights in one precision, with embeddings, head, router and norms in 16 bits."""
    kept = dict.fromkeys(("embeddings", "lm_head", "router", "norms", "vision", "audio"), "bf16")
    return Quantization(
        precision=precision,  # type: ignore[arg-type]  # one of PRECISION_NAMES' values
        exceptions={} if precision in ("bf16", "fp16") else kept,  # type: ignore[arg-type]
        activation_precision="fp8" if precision == "fp8" else "bf16",
    )
