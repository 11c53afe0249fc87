"""Steps, pixels and frames set the energy of a picture or a video."""

from __future__ import annotations

import polars as pl

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Finding, FindingKind, Part
from joulemap.diagnose.findings.wording import confidence_of, weight_of

NAME = "diffusion-steps-resolution-frames-dominate"
MUCH = 0.4


def alternative(frame: pl.DataFrame) -> pl.DataFrame:
    """Half the denoising steps."""
    return frame.filter(pl.col("inference_steps") > 1).with_columns(
        inference_steps=(pl.col("inference_steps") / 2).cast(pl.Int64)
    )


def find(case: Case) -> Finding | None:
    """Find it where a diffusion run spends its energy on arithmetic."""
    change = case.changes.get(NAME)
    share = case.shares.get(Part.COMPUTE, 0.0)
    if case.is_token or change is None or share < MUCH:
        return None
    row = case.row
    shape = [f"{row['inference_steps']} steps"]
    if row["pixels"]:
        shape.append(f"{row['width_px']}×{row['height_px']} pixels")
    if (row["num_frames"] or 1) > 1:
        shape.append(f"{row['num_frames']} frames")
    return Finding(
        name=NAME,
        cause="the work is steps × pixels × frames, whatever the number of parameters; attention grows with the "
        "square of pixels × frames",
        evidence=(" × ".join(shape), f"arithmetic is {share:.0%} of the energy"),
        lever="fewer steps (a distilled model), a lower resolution or fewer frames; "
        "the change is for half the steps",
        change=change,
        confidence=confidence_of(change),
        weight=0.8 * weight_of(change),
        falsified_by="a batch time that does not follow the number of steps",
        kind=FindingKind.CHOICE,
    )
