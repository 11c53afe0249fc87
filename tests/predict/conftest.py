"""Runs of the study that the prediction's tests read."""

from __future__ import annotations

import polars as pl
import pytest

from joulemap.store.run_store import RunStore


@pytest.fixture(scope="session")
def study_frame(study_store: RunStore) -> pl.DataFrame:
    """All runs of the study."""
    return study_store.frame


@pytest.fixture(scope="session")
def few_backbones(study_frame: pl.DataFrame) -> pl.DataFrame:
    """Text runs of five backbones on H100: enough to fit and to hold one out, in seconds."""
    names = ["Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B", "meta-llama/Llama-3.1-8B-Instruct"]
    names += ["google/gemma-3-12b-it", "google/gemma-3-27b-it"]
    chosen = pl.col("model_id").is_in(names) & (pl.col("gpu_model") == "H100") & (pl.col("task") == "lm-arena-chat")
    return study_frame.filter(chosen)
