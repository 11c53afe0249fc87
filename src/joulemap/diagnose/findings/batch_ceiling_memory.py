"""The batch stops where KV-cache memory ends."""

from __future__ import annotations

import polars as pl

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Bound, Change, Finding
from joulemap.diagnose.findings.wording import at_most, confidence_of, described, relief, weight_of

NAME = "batch-ceiling-by-kv-memory"
WORTH = 1.08
"""Gain from twice the batch below which memory for more of it is not worth having."""


def alternative(frame: pl.DataFrame) -> pl.DataFrame:
    """Twice the batch on the same GPUs: what half the cache per token (FP8) would allow."""
    return frame.filter(pl.col("output_unit") == "token").with_columns(
        batch_size=pl.col("batch_size") * 2.0,
        max_num_seqs=(pl.col("batch_ceiling") * 2.0).ceil().cast(pl.Int64),
        kv_cache_precision=pl.lit("fp8"),
    )


def find(case: Case) -> Finding | None:
    """Find it where memory holds the batch and a larger one would save energy."""
    if case.batch_holder is not Bound.MEMORY_CAPACITY or case.batch_gain_ratio < WORTH or not case.is_token:
        return None
    change: Change = at_most(case.changes.get(NAME) or relief(case.batch_gain_ratio), case.batch_gain_ratio)
    usage = case.latents.get("kv_cache_utilization")
    evidence = [f"{case.batch:.0f} requests ran together under a ceiling of {case.row['batch_ceiling']:g}"]
    if usage is not None:
        evidence.append(f"KV-cache utilisation {usage.value:.0%} ({usage.basis.value})")
    more = [s.rows[-1] for s in case.siblings.get("num_gpus", ()) if (s.largest_ceiling or 0) > case.batch]
    evidence += [f"with more memory the batch went further: {described(row)}" for row in more[:1]]
    return Finding(
        name=NAME,
        cause="the batch ends where the KV cache fills GPU memory, so weights are read for too few requests",
        evidence=tuple(evidence),
        lever="hold less cache per request (FP8 KV cache, shorter replies, lower max_model_len) or add memory "
        "(more GPUs, a GPU with more memory, a higher gpu_memory_utilization)",
        change=change,
        confidence=confidence_of(change),
        weight=weight_of(change),
        falsified_by="KV-cache utilisation well below 100 % while requests wait in the engine's queue",
    )
