"""Claims about using more GPUs."""

from __future__ import annotations

import polars as pl

from joulemap.study.claim import ClaimDefinition, Outcome
from joulemap.study.comparisons import gpu_count_pairs
from joulemap.study.runs import StudyRuns


def _b200(runs: StudyRuns) -> Outcome:
    return _pairs(runs, "B200")


def _h100(runs: StudyRuns) -> Outcome:
    return _pairs(runs, "H100")


def _pairs(runs: StudyRuns, gpu_model: str) -> Outcome:
    pairs = gpu_count_pairs(runs, gpu_model)
    rises = pairs.filter(pl.col("energy_change") > 0).height
    falls = pairs.filter(pl.col("itl_change") < 0).height
    return Outcome(
        computed=f"E rises in {_share(rises, pairs.height)}; ITL falls in {_share(falls, pairs.height)}",
        values={"pairs": pairs.height, "energy_rises": rises, "itl_falls": falls},
        note=f"{pairs.height} pairs of GPU counts at one batch",
    )


def _share(part: int, whole: int) -> str:
    return "every case" if part == whole else f"{100 * part / whole:.0f}%"


def gpt_oss_120b(runs: StudyRuns, num_gpus: int) -> pl.DataFrame:
    """Return the batch sweep of GPT OSS 120B on H100, Problem Solving."""
    return runs.pick(task="gpqa", model_id="openai/gpt-oss-120b", gpu_model="H100", num_gpus=num_gpus)


def _unlock(runs: StudyRuns) -> Outcome:
    one, two = (
        gpt_oss_120b(runs, n).select(pl.col("batch_ceiling").max(), pl.col("energy_per_output_j").min()).row(0)
        for n in (1, 2)
    )
    saved = 1 - two[1] / one[1]
    return Outcome(
        computed=(
            f"1 GPU stops at batch {one[0]:,.0f}, 2 GPUs reach {two[0]:,.0f}; "
            f"minimum E {100 * saved:.0f}% lower with 2 GPUs"
        ),
        values={"one_gpu_j_per_token": one[1], "two_gpus_j_per_token": two[1], "saved": saved},
        note=f"{one[1]:.3g} against {two[1]:.3g} J/token",
    )


CLAIMS = (
    ClaimDefinition(
        id="gpus.b200",
        statement="More B200s at the same batch, three text tasks",
        published="E rises in every case; ITL falls in 81%",
        compute=_b200,
    ),
    ClaimDefinition(
        id="gpus.h100",
        statement="More H100s at the same batch, three text tasks",
        published="E rises in 93%; ITL falls in every case",
        compute=_h100,
    ),
    ClaimDefinition(
        id="unlock",
        statement="GPT OSS 120B, Problem Solving, H100: a second GPU unlocks batch",
        published="1 GPU stops at batch 64, 2 GPUs reach 2,048; minimum E 68% lower with 2 GPUs",
        compute=_unlock,
    ),
)
