"""The measurement itself cannot carry a diagnosis."""

from __future__ import annotations

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Change, Finding

NAME = "measurement-unfit"
SHORTEST_S = 5.0
"""Energy counters tick every 20–100 ms and power sensors average over a second: shorter windows are quantised."""
FEWEST_REQUESTS = 10


def find(case: Case) -> Finding | None:
    """Find it where a run is marked invalid, or was measured over too short a window."""
    evidence = []
    if case.row["valid"] is False:
        evidence += [str(reason) for reason in case.row["validity_reasons"] or ["marked invalid"]]
    duration = case.row["duration_s"]
    if duration is not None and duration < SHORTEST_S:
        evidence.append(f"the window is {duration:.1f} s long, shorter than {SHORTEST_S:g} s")
    completed, failed = case.row["completed_requests"], case.row["failed_requests"]
    if completed is not None and completed < FEWEST_REQUESTS and case.is_token:
        evidence.append(f"only {completed} requests were completed")
    if failed and completed is not None and failed > 0.05 * (completed + failed):
        evidence.append(f"{failed} of {completed + failed} requests failed")
    tdp_w = case.latents.get("power_of_limit")
    if tdp_w is not None and tdp_w.value > 1.1:
        evidence.append(f"power is {tdp_w.value:.2f} of the GPUs' limit: other GPUs may have been measured too")
    if tdp_w is not None and tdp_w.value < 0.08:
        evidence.append(f"power is {tdp_w.value:.2f} of the GPUs' limit, below idle: the wrong GPUs, or too few")
    if not evidence:
        return None
    return Finding(
        name=NAME,
        cause="what was measured does not stand for the steady state of this configuration",
        evidence=tuple(evidence),
        lever="measure again: a longer window, a warm server, and the GPUs that serve it",
        change=Change(),
        confidence=0.9,
        # Nothing else can be trusted before this is mended.
        weight=10.0,
        falsified_by="a second measurement that agrees",
    )
