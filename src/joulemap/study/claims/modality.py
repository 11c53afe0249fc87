"""Claims about what images and videos in the prompt cost."""

from __future__ import annotations

from joulemap.study.claim import ClaimDefinition, Outcome
from joulemap.study.comparisons import modality_ratios
from joulemap.study.runs import StudyRuns


def _image(runs: StudyRuns) -> Outcome:
    return _range(runs, "image_ratio")


def _video(runs: StudyRuns) -> Outcome:
    return _range(runs, "video_ratio")


def _range(runs: StudyRuns, column: str) -> Outcome:
    ratios = modality_ratios(runs).sort(column)
    low, high = ratios.row(0, named=True), ratios.row(-1, named=True)
    return Outcome(
        computed=f"{low[column]:.1f}x – {high[column]:.1f}x",
        values={"lowest_ratio": low[column], "highest_ratio": high[column]},
        note=f"least {low['model']}, most {high['model']}",
    )


CLAIMS = (
    ClaimDefinition(
        id="modality.image",
        statement="Energy per token, image and text over text, B200",
        published="1.1x – 5.2x",
        compute=_image,
    ),
    ClaimDefinition(
        id="modality.video",
        statement="Energy per token, video and text over text, B200",
        published="1.3x – 15.0x",
        compute=_video,
        released="1.3x – 14.8x",
        why="the data released on 2026-02-16, after the paper, gives 14.8x for Qwen 3 Omni 30B A3B",
    ),
)
