"""Everything that a report on the study rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from joulemap.store.run_store import RunStore
from joulemap.study import Claim, reproduce


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudyPayload:
    """The study's claims computed again, and the runs that its figures show."""

    claims: tuple[Claim, ...]
    frame: pl.DataFrame

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"claims": [claim.to_json() for claim in self.claims]}


def study_payload(*, store: RunStore) -> StudyPayload:
    """Compute what a report on the study rests on.

    Raises:
        EmptyStoreError: There are no runs.
    """
    frame = store.non_empty_frame()
    return StudyPayload(claims=tuple(reproduce(frame)), frame=frame)
