"""Energy per token against the size of the model."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.study.claims.batch import experts_against_dense
from joulemap.study.figures.theme import BLUE, GREEN, INK, ORANGE, Chart, finished, log_axis, panel_title
from joulemap.study.runs import StudyRuns, minimum_energy, stated

_ARCHITECTURES = ["Dense Transformer", "MoE", "Mamba-Transformer Hybrid"]
_TASK, _GPU = "gpqa", "B200"
_NAME_WIDTH_RATIO, _NAME_HEIGHT_RATIO = 2.5, 1.12
"""How much of the logarithmic axes a name takes up."""


def model_size(runs: StudyRuns) -> Chart:
    """Draw the energy per token against total and against active parameters."""
    best = minimum_energy(runs.pick(task=_TASK, gpu_model=_GPU), ["model_id"])
    best = stated(best, "total_params_billions", "activated_params_billions")
    panels = [
        _panel(best, "total_params_billions", "Total parameters"),
        _panel(best, "activated_params_billions", "Active parameters"),
    ]
    dense_j, experts_j = experts_against_dense(runs)
    return finished(
        alt.hconcat(*panels, spacing=26).resolve_scale(y="shared"),
        finding=(
            f"With 3 of 30 billion parameters active, Qwen 3 30B A3B takes {dense_j / experts_j:.1f}x less energy "
            "per token than Qwen 3 32B"
        ),
        basis=f"Problem Solving on {_GPU}, minimum-energy configuration of each model",
        width_px=840,
    )


def _crowded(data: pl.DataFrame, column: str) -> list[str]:
    """Return the models whose name would run into another model's point on its right."""
    rows = data.select("model", column, "energy_per_output_j").rows()
    return [
        name
        for name, size, energy in rows
        if any(
            1 < other_size / size < _NAME_WIDTH_RATIO
            and 1 / _NAME_HEIGHT_RATIO < other / energy < _NAME_HEIGHT_RATIO
            for _, other_size, other in rows
        )
    ]


def _panel(best: pl.DataFrame, column: str, heading: str) -> Chart:
    rank = best.select(pl.corr(column, "energy_per_output_j", method="spearman")).item()
    data = best.select("model", "architecture", "energy_per_output_j", column)
    # Room on both sides for the names.
    sizes = data[column].to_list()
    x = alt.X(f"{column}:Q", **log_axis([min(sizes) / 3, *sizes, 4 * max(sizes)], f"{heading} (billion)"))
    y = alt.Y("energy_per_output_j:Q", **log_axis(data["energy_per_output_j"], "Energy per token (J)"))
    points = (
        alt.Chart(data)
        .mark_point(filled=True, size=80, opacity=0.9)
        .encode(
            x,
            y,
            color=alt.Color(
                "architecture:N", scale=alt.Scale(domain=_ARCHITECTURES, range=[BLUE, ORANGE, GREEN]), title=None
            ),
            shape=alt.Shape(
                "architecture:N",
                scale=alt.Scale(domain=_ARCHITECTURES, range=["circle", "square", "triangle-up"]),
                title=None,
            ),
        )
    )
    sides = [
        alt.Chart(data.filter(pl.col("model").is_in(_crowded(data, column)) == is_left))
        .mark_text(align="right" if is_left else "left", dx=-8 if is_left else 8, fontSize=9.5, color=INK)
        .encode(x, y, text="model:N")
        for is_left in (False, True)
    ]
    return alt.layer(points, *sides).properties(
        width=330, height=330, title=panel_title(f"{heading}: rank correlation {rank:.2f}")
    )
