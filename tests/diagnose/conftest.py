"""All runs of the study, diagnosed once a session."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Diagnosis
from joulemap.diagnose.series import Curves
from joulemap.store.run_store import RunStore


@pytest.fixture(scope="session")
def study_curves(study_store: RunStore) -> Curves:
    """The batch curves of the study."""
    return Curves(study_store.frame)


@pytest.fixture(scope="session")
def study_diagnoses(study_store: RunStore, study_curves: Curves) -> Mapping[str, Diagnosis]:
    """Diagnoses of all runs of the study, by run id."""
    diagnoses = diagnose_frame(study_store.frame, curves=study_curves)
    return {str(d.run_id): d for d in diagnoses}
