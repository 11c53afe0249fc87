"""What more GPUs cost at the same batch, and what they save by unlocking larger ones."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.study.claims.gpu_count import gpt_oss_120b
from joulemap.study.comparisons import gpu_count_pairs
from joulemap.study.figures.theme import (
    BLUE,
    GPU_COLOURS,
    GPU_SHAPES,
    ORANGE,
    RULE,
    Chart,
    batch_axis,
    finished,
    log_axis,
)
from joulemap.study.runs import StudyRuns


def gpu_count(runs: StudyRuns) -> Chart:
    """Draw the change of energy and latency from fewer to more GPUs, each pair a point."""
    pairs = {gpu: gpu_count_pairs(runs, gpu) for gpu in ("B200", "H100")}
    rises = " and ".join(
        f"{frame.filter(pl.col('energy_change') > 0).height} of {frame.height} pairs on {gpu}"
        for gpu, frame in pairs.items()
    )
    data = pl.concat(
        frame.select(energy=1 + pl.col("energy_change"), itl=1 + pl.col("itl_change"), gpu_model=pl.lit(gpu))
        for gpu, frame in pairs.items()
    )
    x = alt.X("itl:Q", **log_axis([1.0, *data["itl"]], "Median inter-token latency with more GPUs ÷ with fewer"))
    y = alt.Y("energy:Q", **log_axis([1.0, *data["energy"]], "Energy per token with more GPUs ÷ with fewer"))
    points = (
        alt.Chart(data)
        .mark_point(filled=True, size=60, opacity=0.65)
        .encode(
            x,
            y,
            color=alt.Color("gpu_model:N", scale=GPU_COLOURS, title=None),
            shape=alt.Shape("gpu_model:N", scale=GPU_SHAPES, title=None),
        )
    )
    no_change = pl.DataFrame({"energy": [1.0], "itl": [1.0]})
    zero_x = alt.Chart(no_change).mark_rule(color=RULE).encode(x)
    zero_y = alt.Chart(no_change).mark_rule(color=RULE).encode(y)
    return finished(
        alt.layer(zero_x, zero_y, points).properties(width=520, height=340),
        finding=f"At the same batch, more GPUs raise the energy per token in {rises}",
        basis="Each point: one text model and task at one batch, on fewer and on more GPUs",
        width_px=640,
    )


def unlocked_batch(runs: StudyRuns) -> Chart:
    """Draw the batch sweeps of GPT OSS 120B on one and two H100."""
    names = {1: "1 GPU", 2: "2 GPUs"}
    curves = {n: gpt_oss_120b(runs, n).sort("batch_ceiling") for n in names}
    data = pl.concat(
        curve.select("batch_ceiling", "energy_per_output_j", gpus=pl.lit(names[n])) for n, curve in curves.items()
    )
    one, two = (curve["energy_per_output_j"].to_numpy().min() for curve in curves.values())
    domain = list(names.values())
    chart = (
        alt.Chart(data)
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(filled=True, size=60))
        .encode(
            x=alt.X("batch_ceiling:Q", **batch_axis(data["batch_ceiling"])),
            y=alt.Y("energy_per_output_j:Q", **log_axis(data["energy_per_output_j"], "Energy per token (J)")),
            color=alt.Color("gpus:N", scale=alt.Scale(domain=domain, range=[ORANGE, BLUE]), title=None),
            shape=alt.Shape("gpus:N", scale=alt.Scale(domain=domain, range=["square", "circle"]), title=None),
        )
        .properties(width=520, height=300)
    )
    largest = [curve["batch_ceiling"].to_numpy().max() for curve in curves.values()]
    return finished(
        chart,
        finding=(
            f"GPT OSS 120B: a second H100 lifts the largest batch from {largest[0]:,.0f} to {largest[1]:,.0f} and "
            f"cuts the lowest energy per token by {100 * (1 - two / one):.0f}%"
        ),
        basis="Problem Solving on H100; every configuration measured",
        width_px=640,
    )
