"""Tokens per second and watt, by model and GPU."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.study.figures.theme import GPU_COLOURS, GPU_SHAPES, Chart, finished, log_axis
from joulemap.study.runs import StudyRuns, minimum_energy

_TASK = "lm-arena-chat"


def throughput_per_watt(runs: StudyRuns) -> Chart:
    """Draw the best throughput per watt of each model in Text Conversation."""
    best = (
        minimum_energy(runs.pick(task=_TASK, gpu_model=("B200", "H100")), ["model_id", "gpu_model"])
        .select("model", "gpu_model", throughput_per_watt=1 / pl.col("energy_per_output_j"))
        .sort("throughput_per_watt", descending=True)
    )
    order = best.unique("model", keep="first", maintain_order=True)["model"].to_list()
    top, bottom = best.row(0, named=True), best.row(-1, named=True)
    chart = (
        alt.Chart(best)
        .mark_point(filled=True, size=80, opacity=0.9)
        .encode(
            x=alt.X(
                "throughput_per_watt:Q",
                **log_axis(best["throughput_per_watt"], "Throughput per watt (token/s per W = token/J)"),
            ),
            y=alt.Y("model:N", sort=order, title=None, scale=alt.Scale(paddingInner=0.35, paddingOuter=0.2)),
            yOffset=alt.YOffset("gpu_model:N", scale=alt.Scale(domain=["B200", "H100"])),
            color=alt.Color("gpu_model:N", scale=GPU_COLOURS, title=None),
            shape=alt.Shape("gpu_model:N", scale=GPU_SHAPES, title=None),
        )
        .properties(width=400, height=24 * len(order))
    )
    ratio = top["throughput_per_watt"] / bottom["throughput_per_watt"]
    return finished(
        chart,
        finding=(
            f"Throughput per watt spans {ratio:.0f}x, from {bottom['model']} on {bottom['gpu_model']} to "
            f"{top['model']} on {top['gpu_model']}"
        ),
        basis="Text Conversation, minimum-energy configuration of each model and GPU; 1 ÷ energy per token",
        width_px=640,
    )
