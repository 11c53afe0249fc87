"""Configurations of diffusion models as arrays: one entry a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, DiffusionArchitecture, GpuModel
from joulemap.physics.arrays import Floats
from joulemap.physics.compute_volume import BF16_BYTES
from joulemap.physics.diffusion import USUAL_TREATMENT, DiffusionVolume, QueryTreatment, diffusion_volume
from joulemap.predict.frames import Index, coded, column_of, filled, floats_of, gpu_figures

QUERY_TREATMENT = {
    "pixart-sigma": QueryTreatment(normalised=False, rotated=False),
    "sd3.5-large": QueryTreatment(rotated=False),
    "sd3.5-medium": QueryTreatment(rotated=False),
    "cogvideox-2b": QueryTreatment(rotated=False),
    "sana-1.5-1.6b": QueryTreatment(rotated=False, cross_normalised=True),
    "sana-1.5-4.8b": QueryTreatment(rotated=False, cross_normalised=True),
    "wan-2.1-1.3b": QueryTreatment(cross_normalised=True),
    "wan-2.1-14b": QueryTreatment(cross_normalised=True),
    "hunyuan-dit-1.2": QueryTreatment(cross_normalised=True, cross_rotated=True),
}
"""Backbones that do other than normalise and rotate in self-attention alone; source: Diffusers, the transformer
classes that these models' configurations name (``qk_norm``, rotary embedding, of each attention)."""

_VOLUME_FIELDS = tuple(f.name for f in fields(DiffusionVolume))


@dataclass(frozen=True, slots=True)
class DiffusionRows:
    """Arrays of one length; see :func:`diffusion_rows`."""

    volume: dict[str, Floats]
    """Fields of :class:`DiffusionVolume`, of one sample."""
    gpu: dict[str, Floats]
    gpu_index: Index
    gpu_models: tuple[GpuModel, ...]
    gpus: Floats
    ulysses: Floats
    ring: Floats
    batch: Floats
    steps: Floats
    video: Floats
    """1 for video, 0 for images."""
    weight_bytes: Floats
    """All weights of the pipeline, which every GPU holds."""
    power_cap_w: Floats

    def __len__(self) -> int:
        return len(self.gpus)

    def take(self, which: Index) -> DiffusionRows:
        """Return the rows at the given positions."""
        values = {f.name: _taken(getattr(self, f.name), which) for f in fields(self) if f.name != "gpu_models"}
        return DiffusionRows(**values, gpu_models=self.gpu_models)


def _taken(value: Any, which: Index) -> Any:
    if isinstance(value, dict):
        return {name: array[which] for name, array in value.items()}
    return value[which]


def diffusion_rows(
    frame: pl.DataFrame, catalog: Catalog, models: Mapping[str, DiffusionArchitecture]
) -> DiffusionRows:
    """Return the configurations of a table as arrays.

    Args:
        frame: Columns of the run table; ``model_id``, ``gpu_model``, ``num_gpus`` and ``batch_size`` are needed,
            others default to what the model's publisher uses, parallelism to Ulysses over all GPUs.
        catalog: For GPUs.
        models: Architectures by the ids in ``model_id``.
    """
    frame = _with_defaults(frame, models)
    names, gpu_index = coded(frame["gpu_model"])
    gpu_models = tuple(catalog.gpu(name) for name in names)
    size = ["model_id", "height_px", "width_px", "num_frames"]
    shapes = frame.select(size).unique(maintain_order=True)
    made = [_volume(models[i], int(h), int(w), int(f)) for i, h, w, f in shapes.iter_rows()]
    at = frame.select(size).join(shapes.with_row_index("shape"), on=size, how="left", maintain_order="left")[
        "shape"
    ]
    volume_index = at.to_numpy().astype(np.intp)
    gpu = {name: figures[gpu_index] for name, figures in gpu_figures(gpu_models).items()}
    weights = {i: _weight_bytes(m) for i, m in models.items()}
    gpus = floats_of(frame, "num_gpus", 1.0)
    ulysses, ring = floats_of(frame, "ulysses_degree", np.nan), floats_of(frame, "ring_degree", np.nan)
    return DiffusionRows(
        volume={name: np.array([getattr(v, name) for v in made])[volume_index] for name in _VOLUME_FIELDS},
        gpu=gpu,
        gpu_index=gpu_index,
        gpu_models=gpu_models,
        gpus=gpus,
        ulysses=filled(ulysses, gpus / filled(ring, np.ones(len(gpus)))),
        ring=filled(ring, gpus / filled(ulysses, gpus)),
        batch=floats_of(frame, "batch_size", 1.0),
        steps=floats_of(frame, "inference_steps", np.nan),
        video=np.array([models[i].output == "video" for i in frame["model_id"]], dtype=np.float64),
        weight_bytes=np.array([weights[i] for i in frame["model_id"]]),
        power_cap_w=np.minimum(filled(floats_of(frame, "power_limit_w", np.nan), gpu["tdp_w"]), gpu["tdp_w"]),
    )


def _with_defaults(frame: pl.DataFrame, models: Mapping[str, DiffusionArchitecture]) -> pl.DataFrame:
    """Return the table with sizes, frames and steps as the publisher uses them where none are given."""
    ids = list(models)
    defaults = {
        "inference_steps": [models[i].defaults.steps for i in ids],
        "height_px": [models[i].defaults.height_px for i in ids],
        "width_px": [models[i].defaults.width_px for i in ids],
        "num_frames": [models[i].defaults.num_frames for i in ids],
    }
    columns = []
    for name, values in defaults.items():
        usual = frame["model_id"].replace_strict(ids, values, return_dtype=pl.Int64)
        columns.append(column_of(frame, name, pl.Int64).fill_null(usual).alias(name))
    return frame.with_columns(columns)


def _volume(model: DiffusionArchitecture, height_px: int, width_px: int, frames: int) -> DiffusionVolume:
    treatment = QUERY_TREATMENT.get(model.backbone, USUAL_TREATMENT)
    return diffusion_volume(model, height_px, width_px, frames, treatment=treatment)


def _weight_bytes(model: DiffusionArchitecture) -> float:
    own = model.published.total if model.published else 0.0
    vae = model.vae.params or 0
    return float(BF16_BYTES * (own + vae + sum(e.params or 0 for e in model.text_encoders)))
