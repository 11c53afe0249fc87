"""The measurement itself cannot carry a diagnosis."""

from __future__ import annotations

import math

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Change, Finding, FindingKind

NAME = "measurement-unfit"
SHORTEST_S = 5.0
"""Energy counters tick every 20–100 ms and power sensors average over a second: shorter windows are quantised."""
FEWEST_REQUESTS = 10


LEAST_POWER_RATIO = 0.6
"""Measured power over modelled power below which GPUs are missing; the study's lowest is 0.74."""


def _least_power(deviation: float) -> float:
    return min(LEAST_POWER_RATIO, math.exp(-2.0 * deviation))


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
    if case.power_ratio is not None and case.power_ratio < _least_power(case.power_deviation):
        evidence.append(
            f"power is {case.power_ratio:.2f} of what the work that was done takes: not all GPUs were measured, or "
            "the weights are narrower than stated"
        )
    if not evidence:
        return None
    return Finding(
        name=NAME,
        cause="what was measured does not stand for the steady state of this configuration",
        evidence=tuple(evidence),
        lever="measure again: a longer window, a warm server, and the GPUs that serve it",
        change=Change(),
        confidence=0.9,
        weight=10.0,
        falsified_by="a second measurement that agrees",
        kind=FindingKind.MEASUREMENT,
    )
