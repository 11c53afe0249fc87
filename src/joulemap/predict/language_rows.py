"""Configurations of language models as arrays: one entry a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, GpuModel, ModelArchitecture
from joulemap.physics.arrays import Floats
from joulemap.physics.shape import LanguageShape, language_shape
from joulemap.predict.frames import Index, coded, column_of, filled, floats_of, gpu_figures
from joulemap.predict.language_form import TASK_INPUT_TOKENS
from joulemap.predict.served import as_served

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
PROMPT_SIGMA = {
    "gpqa": 0.5,
    "lm-arena-chat": 1.6,
    "sourcegraph-fim": 1.0,
    "image-chat": 0.7,
    "video-chat": 0.5,
}
"""Standard deviation of the logarithm of prompt lengths. Assumed: arena chats run from a line to pages, code and
pictures are more alike, and exam questions most."""
PROMPT_SIGMA_DEFAULT = 0.8
SORTED, PLAIN = "sorted", "plain"
"""Samplers: top-p or top-k by sorting all logits, as in the study; greedy, or one that need not sort."""
NARROW_HOSTS = (("B200", 1),)
"""GPU model and count of the study's systems whose jobs had few host cores: there, ITL leaps from 5–9 to over
30 ms without the GPU being busier (single B200). It belongs to that system, not to the GPU."""
INPUT_TOKENS_DEFAULT = 512.0
"""Prompt length where neither it nor a known task is given."""

Flags = np.ndarray[Any, np.dtype[np.bool_]]

_SHAPE_FIELDS = tuple(f.name for f in fields(LanguageShape))


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
    """Of one copy."""
    copies: Floats
    """Copies of a model without experts that data parallelism makes; each has its share of the batch."""
    replicas: Floats
    """Attention data parallelism around shared experts."""
    expert_split: Floats
    """1 where experts are divided between GPUs whole."""
    batch: Floats
    """Sequences of one copy running together, time-averaged; not a number where it is to be found."""
    ceiling: Floats
    """Configured ceiling; the batch itself where none is given."""
    output_tokens: Floats
    spread: Floats
    """Squared coefficient of variation of reply lengths."""
    input_tokens: Floats
    """Not a number where the task's is to be used."""
    prompt_spread: Floats
    """Standard deviation of the logarithm of prompt lengths."""
    task_index: Index
    """Position in ``TASK_INPUT_TOKENS``; −1 for any other task."""
    pixels: Floats
    """0 for text, 1 for image, 2 for video inputs."""
    narrow_host: Floats
    as_study: Flags
    """Whether the task is one of the study's, and the engine none that is known to sample otherwise."""
    sorted_sampler: Floats
    """1 where tokens are sampled from sorted logits (top-p or top-k), 0 where they need not be sorted."""
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


def _shapes(frame: pl.DataFrame, catalog: Catalog, models: Mapping[str, ModelArchitecture]) -> dict[str, Floats]:
    """Return each row's shape by field, weights in the precision that they were served in."""
    ids, model_index = coded(frame["model_id"])
    precisions, precision_index = coded(column_of(frame, "weight_precision", pl.String).fill_null("auto"))
    pairs, index = np.unique(model_index * len(precisions) + precision_index, return_inverse=True)
    served = [as_served(models[ids[p // len(precisions)]], precisions[p % len(precisions)], catalog) for p in pairs]
    shapes = [language_shape(m, catalog.precisions) for m in served if isinstance(m, ModelArchitecture)]
    return {name: np.array([getattr(s, name) for s in shapes])[index] for name in _SHAPE_FIELDS}


def newer_engine(frame: pl.DataFrame, catalog: Catalog) -> Flags:
    """Return which rows were served by an engine that no longer samples as the study's did."""
    pairs = frame.select(
        column_of(frame, n, pl.String).fill_null("").alias(n) for n in ("engine", "engine_version")
    )
    versions, index = coded(pairs.select(pl.concat_str(pl.all(), separator=" ")).to_series())
    engines = catalog.engines
    newer = []
    for both in versions:
        name, _, version = both.partition(" ")
        newer.append(name in engines and engines[name].samples_without_sorting(version))
    return np.array(newer, dtype=np.bool_)[index]


def _sorted_sampler(frame: pl.DataFrame, as_study: Flags) -> Floats:
    """Return which rows sort logits: as said, else as the study did where its tasks and engine are, else none."""
    said = column_of(frame, "sampler", pl.String)
    usual = pl.Series(np.where(as_study, SORTED, PLAIN))
    return said.fill_null(usual).eq(SORTED).cast(pl.Float64).to_numpy()


def language_rows(frame: pl.DataFrame, catalog: Catalog, models: Mapping[str, ModelArchitecture]) -> LanguageRows:
    """Return the configurations of a table as arrays.

    Args:
        frame: Columns of the run table; ``model_id``, ``gpu_model``, ``num_gpus`` and ``mean_output_tokens`` are
            needed, others default to what the study used or to an engine's default. ``weight_precision`` is the
            one served, whatever the model was published in.
        catalog: For GPUs and number formats.
        models: Architectures by the ids in ``model_id``.
    """
    names, gpu_index = coded(frame["gpu_model"])
    gpu_models = tuple(catalog.gpu(name) for name in names)
    shape = _shapes(frame, catalog, models)
    gpu = {name: figures[gpu_index] for name, figures in gpu_figures(gpu_models).items()}
    tasks, task_codes = coded(column_of(frame, "task", pl.String).fill_null(""))
    known = list(TASK_INPUT_TOKENS)
    task_index = np.array([known.index(t) if t in known else -1 for t in tasks], dtype=np.intp)[task_codes]
    spread = np.array([REPLY_SPREAD.get(t, REPLY_SPREAD_DEFAULT) for t in tasks])[task_codes]
    sigma = np.array([PROMPT_SIGMA.get(t, PROMPT_SIGMA_DEFAULT) for t in tasks])[task_codes]
    as_study = (task_index >= 0) & ~newer_engine(frame, catalog)
    gpus, replicas = floats_of(frame, "num_gpus", 1.0), floats_of(frame, "data_parallel", 1.0)
    modality = column_of(frame, "input_modality", pl.String).fill_null("text")
    copies = np.where(shape["moe_layers"] > 0, 1.0, replicas)
    batch = floats_of(frame, "batch_size", np.nan) / copies
    narrow = np.zeros(frame.height)
    for name, count in NARROW_HOSTS:
        at = np.array([g.id == name for g in gpu_models])[gpu_index] & (gpus == count) & as_study
        narrow = np.where(at, 1.0, narrow)
    return LanguageRows(
        shape=shape,
        gpu=gpu,
        gpu_index=gpu_index,
        gpu_models=gpu_models,
        gpus=gpus / copies,
        copies=copies,
        replicas=replicas / copies,
        expert_split=np.where((floats_of(frame, "expert_parallel", 1.0) > 1) & (gpus > 1), 1.0, 0.0),
        batch=batch,
        ceiling=filled(floats_of(frame, "max_num_seqs", np.nan) / copies, batch),
        output_tokens=floats_of(frame, "mean_output_tokens", np.nan),
        spread=filled(floats_of(frame, "output_length_spread", np.nan), spread),
        input_tokens=floats_of(frame, "mean_input_tokens", np.nan),
        prompt_spread=sigma,
        task_index=task_index,
        pixels=modality.replace_strict({"text": 0.0, "image": 1.0, "video": 2.0}, default=0.0).to_numpy(),
        narrow_host=narrow,
        as_study=as_study,
        sorted_sampler=_sorted_sampler(frame, as_study),
        kv_bytes=np.where(
            column_of(frame, "kv_cache_precision", pl.String).fill_null("").str.starts_with("fp8").to_numpy(),
            1.0,
            2.0,
        ),
        power_cap_w=np.minimum(filled(floats_of(frame, "power_limit_w", np.nan), gpu["tdp_w"]), gpu["tdp_w"]),
    )
