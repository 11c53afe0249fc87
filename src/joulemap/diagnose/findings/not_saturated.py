"""The curve over batch has not flattened where the measurements end."""

from __future__ import annotations

import math

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Change, Finding, FindingKind
from joulemap.diagnose.findings.wording import described, relief, weight_of

NAME = "not-saturated-at-largest-batch"
STILL_FALLING = 0.12
"""Energy saved by the last doubling of the batch, as a logarithm, from which the curve still falls."""


def find(case: Case) -> Finding | None:
    """Find it at the largest measured batch of a series whose energy still falls."""
    rows = [r for r in (case.series.rows if case.series else ()) if r["energy_per_output_j"] and r["batch_size"]]
    if len(rows) < 3 or rows[-1]["run_id"] != case.row["run_id"]:
        return None
    before = rows[-2]
    doublings = math.log2(rows[-1]["batch_size"] / before["batch_size"])
    if doublings <= 0.2:
        return None
    saved = math.log(before["energy_per_output_j"] / case.energy_j) / doublings
    if saved < STILL_FALLING:
        return None
    change: Change = relief(math.exp(saved))
    return Finding(
        name=NAME,
        cause=f"energy still falls by {1 - math.exp(-saved):.0%} with a doubling of the batch where the curve ends",
        evidence=(f"the step before: {described(before)}", f"this run: {described(case.row)}"),
        lever="whatever holds the batch: see the finding on its ceiling",
        change=change,
        confidence=0.8,
        # What holds the batch is the cause; this only shows that it matters.
        weight=0.5 * weight_of(change),
        falsified_by="a larger batch without less energy per output",
        kind=FindingKind.CHOICE,
    )
