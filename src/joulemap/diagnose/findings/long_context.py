"""Reading the KV cache of long contexts costs much of the energy."""

from __future__ import annotations

import polars as pl

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Finding, FindingKind, Part
from joulemap.diagnose.findings.wording import confidence_of, weight_of

NAME = "long-context"
MUCH = 0.2
"""Share of the energy from which KV traffic is a finding."""


def alternative(frame: pl.DataFrame) -> pl.DataFrame:
    """The same with half the bytes per cached number."""
    return frame.filter(pl.col("output_unit") == "token").with_columns(kv_cache_precision=pl.lit("fp8"))


def find(case: Case) -> Finding | None:
    """Find it where KV traffic takes a large share of the energy."""
    share = case.shares.get(Part.KV_TRAFFIC, 0.0)
    context = case.latent("context_tokens")
    change = case.changes.get(NAME)
    if share < MUCH or context is None or change is None:
        return None
    return Finding(
        name=NAME,
        cause="every token reads the cache of its whole context",
        evidence=(f"KV traffic is {share:.0%} of the energy", f"mean context {context:,.0f} tokens"),
        lever="FP8 KV cache, shorter replies (a limit on reasoning), a model with fewer KV heads or "
        "latent attention",
        change=change,
        confidence=confidence_of(change),
        weight=weight_of(change),
        falsified_by="energy per token that does not rise with context at the same batch",
        kind=FindingKind.CHOICE,
    )
