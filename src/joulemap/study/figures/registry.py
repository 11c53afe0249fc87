"""Every figure by name."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from joulemap.study.figures.batch import batch_deepseek_r1, batch_qwen_coder_30b
from joulemap.study.figures.diffusion import text_to_image, text_to_video
from joulemap.study.figures.gpu_count import gpu_count, unlocked_batch
from joulemap.study.figures.gpu_generation import gpu_generation
from joulemap.study.figures.modality import modality
from joulemap.study.figures.model_size import model_size
from joulemap.study.figures.precision import precision
from joulemap.study.figures.tasks import energy_per_response, output_length
from joulemap.study.figures.theme import Chart
from joulemap.study.figures.throughput_per_watt import throughput_per_watt
from joulemap.study.runs import StudyRuns, study_runs

FIGURES: dict[str, Callable[[StudyRuns], Chart]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        output_length,
        energy_per_response,
        modality,
        text_to_image,
        text_to_video,
        batch_deepseek_r1,
        batch_qwen_coder_30b,
        model_size,
        gpu_generation,
        precision,
        gpu_count,
        unlocked_batch,
        throughput_per_watt,
    )
}
"""The function of each figure by its name, in the study's order."""


def draw(frame: pl.DataFrame, name: str) -> Chart:
    """Return one figure of the study.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
        name: A key of ``FIGURES``.

    Raises:
        MissingRunsError: The runs that the figure shows are not there.
    """
    return FIGURES[name](study_runs(frame))
