"""Prompts that are read between decode steps stretch them."""

from __future__ import annotations

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Finding, Part
from joulemap.diagnose.findings.wording import relief, weight_of

NAME = "prefill-interference"
MUCH = 0.25
"""Share of the step from which reading prompts is a finding."""


def find(case: Case) -> Finding | None:
    """Find it where reading prompts takes a large share of the step."""
    prefill = case.latents.get("prefill_fraction")
    if prefill is None or prefill.value < MUCH or not case.is_token:
        return None
    share = case.shares.get(Part.PREFILL, 0.0)
    # Prompts have to be read somewhere: what can be saved is the static power of sequences that wait meanwhile.
    static = case.shares.get(Part.STATIC_WORKING, 0.0)
    change = relief(1.0 / (1.0 - 0.5 * min(static * prefill.value, 0.5)), spread=0.5)
    evidence = [f"reading prompts takes {prefill.value:.0%} of a step and {share:.0%} of the energy above static"]
    p99, median = case.row["itl_p99_s"], case.row["itl_median_s"]
    if p99 and median:
        evidence.append(f"the 99th percentile of ITL is {p99 / median:.1f} times the median")
    return Finding(
        name=NAME,
        cause="running requests wait while prompts are read between their steps",
        evidence=tuple(evidence),
        lever="smaller prefill chunks (max_num_batched_tokens) for latency; prefix caching, or "
        "prefill on other GPUs",
        change=change,
        confidence=0.6,
        weight=weight_of(change),
        falsified_by="an ITL distribution without a second mode",
    )
