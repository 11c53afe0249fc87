"""Candidates that several tests of the optimiser read."""

from __future__ import annotations

import polars as pl
import pytest

from joulemap.optimize.candidates import Candidates, candidates
from joulemap.optimize.scope import Scope
from joulemap.store.run_store import RunStore


@pytest.fixture(scope="session")
def study_frame(study_store: RunStore) -> pl.DataFrame:
    """All runs of the study."""
    return study_store.frame


@pytest.fixture(scope="session")
def gpt_oss(study_frame: pl.DataFrame) -> Candidates:
    """GPT OSS 120B at Problem Solving: measured, interpolated and modelled."""
    return candidates(study_frame, Scope(model="GPT OSS 120B", task="gpqa"))


@pytest.fixture(scope="session")
def flux(study_frame: pl.DataFrame) -> Candidates:
    """FLUX.1-dev making pictures."""
    return candidates(study_frame, Scope(model="FLUX.1-dev", task="text-to-image"))
