"""Claims about what batching saves, and about mixture-of-experts models."""

from __future__ import annotations

from typing import Any

import polars as pl

from joulemap.study.claim import ClaimDefinition, Outcome
from joulemap.study.runs import MissingRunsError, StudyRuns

SMALLEST_BATCH = 16
"""The study reads the sweeps from this configured batch on."""


def sweep_ends(curve: pl.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the first configuration of a sweep from the study's smallest batch on, and the last.

    Raises:
        MissingRunsError: There are not two.
    """
    swept = curve.filter(pl.col("batch_ceiling") >= SMALLEST_BATCH).sort("batch_ceiling")
    if swept.height < 2:
        batches = ", ".join(f"{batch:.0f}" for batch in curve["batch_ceiling"].sort())
        msg = f"the store lacks two batches from {SMALLEST_BATCH} on; it has batch {batches}"
        raise MissingRunsError(msg)
    return swept.row(0, named=True), swept.row(-1, named=True)


def _reduction(curve: pl.DataFrame, digits: int) -> Outcome:
    first, last = sweep_ends(curve)
    ratio = first["energy_per_output_j"] / last["energy_per_output_j"]
    return Outcome(
        computed=f"{ratio:.{digits}f}x",
        values={"ratio": ratio},
        note=f"batch {first['batch_ceiling']:.0f} to {last['batch_ceiling']:.0f}",
    )


def deepseek_r1(runs: StudyRuns) -> pl.DataFrame:
    """Return the batch sweep of DeepSeek R1 on 8x B200, Problem Solving."""
    return runs.pick(task="gpqa", model_id="deepseek-ai/DeepSeek-R1-0528", gpu_model="B200", num_gpus=8)


def qwen_coder_30b(runs: StudyRuns) -> pl.DataFrame:
    """Return the batch sweep of Qwen 3 Coder 30B A3B on 1x B200, Code Completion."""
    model_id = "Qwen/Qwen3-Coder-30B-A3B-Instruct"
    return runs.pick(task="sourcegraph-fim", model_id=model_id, gpu_model="B200", num_gpus=1)


def _r1(runs: StudyRuns) -> Outcome:
    return _reduction(deepseek_r1(runs), digits=0)


def _coder(runs: StudyRuns) -> Outcome:
    return _reduction(qwen_coder_30b(runs), digits=1)


def experts_against_dense(runs: StudyRuns) -> tuple[float, float]:
    """Return the lowest energy per token (J) of Qwen 3 32B and of Qwen 3 30B A3B Thinking, 1x B200."""
    dense_j, experts_j = (
        min(runs.pick(task="gpqa", model_id=name, gpu_model="B200", num_gpus=1)["energy_per_output_j"])
        for name in ("Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B-Thinking-2507")
    )
    return dense_j, experts_j


def _experts(runs: StudyRuns) -> Outcome:
    dense_j, experts_j = experts_against_dense(runs)
    return Outcome(
        computed=f"{dense_j / experts_j:.2f}x lower",
        values={"dense_j_per_token": dense_j, "mixture_of_experts_j_per_token": experts_j},
        note=f"{experts_j:.3g} against {dense_j:.3g} J/token",
    )


CLAIMS = (
    ClaimDefinition(
        id="batch.r1",
        statement="DeepSeek R1, 8x B200, Problem Solving: energy reduction over the batch sweep from 16",
        published="3x",
        compute=_r1,
    ),
    ClaimDefinition(
        id="batch.coder",
        statement="Qwen 3 Coder 30B A3B, 1x B200, Code Completion: energy reduction over the batch sweep from 16",
        published="5.4x",
        compute=_coder,
    ),
    ClaimDefinition(
        id="moe",
        statement="Energy per token of Qwen 3 30B A3B Thinking against Qwen 3 32B, Problem Solving, 1x B200",
        published="3.56x lower",
        compute=_experts,
    ),
)
