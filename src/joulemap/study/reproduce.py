"""Check every published claim of the study against the runs of a store."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from joulemap.study.claim import Claim
from joulemap.study.claims import CLAIMS
from joulemap.study.claims.dataset import CONFIGURATIONS
from joulemap.study.runs import RELEASE, study_runs


def reproduce(frame: pl.DataFrame, *, every_source: bool = False) -> list[Claim]:
    """Return every published claim beside what the runs give for it, in the study's order.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``). Invalid runs are left out; where two
            runs share a configuration, the later counts.
        every_source: Take runs of every source, not only the study's own where there are some.

    Returns:
        The claims; one whose runs are missing has no computed value and says what is missing.
    """
    runs = study_runs(frame, every_source=every_source)
    claims = [definition.check(runs) for definition in CLAIMS]
    if runs.all.height == CONFIGURATIONS and runs.of_release:
        return claims
    what = "of the study's release" if runs.of_release else f"none of the study's release of {RELEASE}"
    held = f"from {runs.all.height:,} runs, {what}, which has {CONFIGURATIONS:,}"
    return [
        claim if claim.match else replace(claim, note="; ".join(filter(None, (claim.note, held))))
        for claim in claims
    ]
