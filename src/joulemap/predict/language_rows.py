"""Configurations of language models as arrays: one entry a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, GpuModel, ModelArchitecture
from joulemap.physics.arrays import Floats
from joulemap.physics.shape import LanguageShape, language_shape
from joulemap.predict.language_form import TASK_INPUT_TOKENS

Index = np.ndarray[tuple[int], np.dtype[np.intp]]

REPLY_SPREAD = {
    "gpqa": 0.45,
    "lm-arena-chat": 0.95,
    "sourcegraph-fim": 2.25,
    "image-chat": 0.95,
    "video-chat": 0.30,
}
"""Squared coefficient of variation of reply lengths, from the study's published histograms (median over models)."""
REPLY_SPREAD_DEFAULT = 0.5
"""Where neither task nor distribution is known: between a fixed length (0) and chat (about 1)."""
NARROW_HOSTS = (("B200", 1),)
"""GPU model and count of the study's systems whose jobs had few host cores: there, ITL leaps from 5–9 to over
30 ms without the GPU being busier (single B200). It belongs to that system, not to the GPU."""
INPUT_TOKENS_DEFAULT = 512.0
"""Prompt length where neither it nor a known task is given."""

_SHAPE_FIELDS = tuple(f.name for f in fields(LanguageShape))
_GPU_FIELDS = ("bandwidth", "peak", "peak_fp8", "tdp_w", "link", "memory_bytes")


@dataclass(frozen=True, slots=True)
class LanguageRows:
    """Arrays of one length; see :func:`language_rows`."""

    shape: dict[str, Floats]
    """Fields of :class:`LanguageShape`."""
    gpu: dict[str, Floats]
    """Datasheet figures: ``bandwidth``, ``peak``, ``peak_fp8``, ``tdp_w``, ``link``, ``memory_bytes``."""
    gpu_index: Index
    """Position in ``gpu_models``."""
    gpu_models: tuple[GpuModel, ...]
    gpus: Floats
    replicas: Floats
    """Attention data parallelism."""
    expert_split: Floats
    """1 where experts are divided between GPUs whole."""
    batch: Floats
    """Sequences running together, time-averaged; not a number where it is to be found."""
    ceiling: Floats
    """Configured ceiling; the batch itself where none is given."""
    output_tokens: Floats
    spread: Floats
    """Squared coefficient of variation of reply lengths."""
    input_tokens: Floats
    """Not a number where the task's is to be used."""
    task_index: Index
    """Position in ``TASK_INPUT_TOKENS``; −1 for any other task."""
    pixels: Floats
    """0 for text, 1 for image, 2 for video inputs."""
    narrow_host: Floats
    kv_bytes: Floats
    """Bytes of one cached number."""
    power_cap_w: Floats

    def __len__(self) -> int:
        return len(self.gpus)

    def take(self, which: Index) -> LanguageRows:
        """Return the rows at the given positions."""
        values = {f.name: _taken(getattr(self, f.name), which) for f in fields(self) if f.name != "gpu_models"}
        return LanguageRows(**values, gpu_models=self.gpu_models)


def _taken(value: Any, which: Index) -> Any:
    if isinstance(value, dict):
        return {name: array[which] for name, array in value.items()}
    return value[which]


def language_rows(frame: pl.DataFrame, catalog: Catalog, models: Mapping[str, ModelArchitecture]) -> LanguageRows:
    """Return the configurations of a table as arrays.

    Args:
        frame: Columns of the run table; ``model_id``, ``gpu_model``, ``num_gpus`` and ``mean_output_tokens`` are
            needed, others default to what the study used or to an engine's default.
        catalog: For GPUs and number formats.
        models: Architectures by the ids in ``model_id``.
    """
    ids, model_index = _coded(frame["model_id"])
    names, gpu_index = _coded(frame["gpu_model"])
    gpu_models = tuple(catalog.gpu(name) for name in names)
    shapes = [language_shape(models[i], catalog.precisions) for i in ids]
    shape = {name: np.array([getattr(s, name) for s in shapes])[model_index] for name in _SHAPE_FIELDS}
    gpu_table = np.array([_gpu_figures(g) for g in gpu_models]).T
    tasks, task_codes = _coded(_column(frame, "task", pl.String).fill_null(""))
    known = list(TASK_INPUT_TOKENS)
    task_index = np.array([known.index(t) if t in known else -1 for t in tasks], dtype=np.intp)[task_codes]
    spread = np.array([REPLY_SPREAD.get(t, REPLY_SPREAD_DEFAULT) for t in tasks])[task_codes]
    gpus, replicas = _floats(frame, "num_gpus", 1.0), _floats(frame, "data_parallel", 1.0)
    modality = _column(frame, "input_modality", pl.String).fill_null("text")
    batch = _floats(frame, "batch_size", np.nan)
    narrow = np.zeros(frame.height)
    for name, count in NARROW_HOSTS:
        at = np.array([g.id == name for g in gpu_models])[gpu_index] & (gpus == count) & (task_index >= 0)
        narrow = np.where(at, 1.0, narrow)
    tdp = gpu_table[3][gpu_index]
    return LanguageRows(
        shape=shape,
        gpu={name: gpu_table[i][gpu_index] for i, name in enumerate(_GPU_FIELDS)},
        gpu_index=gpu_index,
        gpu_models=gpu_models,
        gpus=gpus,
        replicas=replicas,
        expert_split=np.where((_floats(frame, "expert_parallel", 1.0) > 1) & (gpus > 1), 1.0, 0.0),
        batch=batch,
        ceiling=_filled(_floats(frame, "max_num_seqs", np.nan), batch),
        output_tokens=_floats(frame, "mean_output_tokens", np.nan),
        spread=_filled(_floats(frame, "output_length_spread", np.nan), spread),
        input_tokens=_floats(frame, "mean_input_tokens", np.nan),
        task_index=task_index,
        pixels=modality.replace_strict({"text": 0.0, "image": 1.0, "video": 2.0}, default=0.0).to_numpy(),
        narrow_host=narrow,
        kv_bytes=np.where(
            _column(frame, "kv_cache_precision", pl.String).fill_null("").str.starts_with("fp8").to_numpy(),
            1.0,
            2.0,
        ),
        power_cap_w=np.minimum(_filled(_floats(frame, "power_limit_w", np.nan), tdp), tdp),
    )


def _gpu_figures(gpu: GpuModel) -> Sequence[float]:
    peaks = gpu.peak_flops_per_s
    peak = peaks.get("bf16") or peaks["fp16"]
    # Links are given both directions together; a collective sends at half of that.
    link = (gpu.nvlink_bandwidth_bytes_per_s or gpu.pcie_bandwidth_bytes_per_s) / 2.0
    figures = (gpu.memory_bandwidth_bytes_per_s, peak, peaks.get("fp8", peak), gpu.tdp_w, link, gpu.memory_bytes)
    return [float(x) for x in figures]


def _coded(series: pl.Series) -> tuple[list[str], Index]:
    """Return the distinct texts of a column, and each row's position among them."""
    distinct = series.unique(maintain_order=True)
    codes = series.replace_strict(distinct, pl.int_range(distinct.len(), eager=True), return_dtype=pl.Int64)
    return distinct.to_list(), codes.to_numpy().astype(np.intp)


def _column(frame: pl.DataFrame, name: str, kind: type[pl.DataType]) -> pl.Series:
    return (
        frame[name].cast(kind)
        if name in frame.columns
        else pl.Series([None], dtype=kind).new_from_index(0, frame.height)
    )


def _floats(frame: pl.DataFrame, name: str, default: float) -> Floats:
    return np.asarray(_column(frame, name, pl.Float64).fill_null(default).to_numpy(), dtype=np.float64)


def _filled(values: Floats, default: Floats) -> Floats:
    return np.where(np.isnan(values), default, values)
