from __future__ import annotations

import polars as pl
import pytest

from joulemap.store.run_store import RunStore


@pytest.fixture(scope="session")
def study_frame(study_store: RunStore) -> pl.DataFrame:
    """The run table of the study."""
    return study_store.frame
