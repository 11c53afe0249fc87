"""What an image and a video cost, beside steps, size and frames."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.study.figures.theme import GPU_COLOURS, GPU_SHAPES, INK, MUTED, Chart, finished, log_axis
from joulemap.study.runs import StudyRuns, minimum_energy

_BILLIONS = pl.col("total_params_billions").map_elements(lambda b: f"{b:g}B", pl.String)


def text_to_image(runs: StudyRuns) -> Chart:
    """Draw the energy per image of each model."""
    best = _best(runs, "text-to-image")
    columns = {
        "parameters": _BILLIONS,
        "steps": pl.format("{}", "inference_steps"),
    }
    return _by_model(
        best,
        columns,
        unit="image",
        finding=_span(best, "image"),
    )


def text_to_video(runs: StudyRuns) -> Chart:
    """Draw the energy per video of each model."""
    best = _best(runs, "text-to-video")
    columns = {
        "parameters": _BILLIONS,
        "steps": pl.format("{}", "inference_steps"),
        "frames": pl.format("{}", "num_frames"),
        "pixels": pl.format("{}×{}", "width_px", "height_px"),
    }
    return _by_model(
        best,
        columns,
        unit="video",
        finding=_span(best, "video"),
    )


def _best(runs: StudyRuns, task: str) -> pl.DataFrame:
    rows = runs.pick(task=task, gpu_model=("B200", "H100"))
    return minimum_energy(rows, ["model_id", "gpu_model"]).sort("energy_per_output_j")


def _span(best: pl.DataFrame, unit: str) -> str:
    first = best.filter(gpu_model=best["gpu_model"].min())
    low, high = first.row(0, named=True), first.row(-1, named=True)
    ratio = high["energy_per_output_j"] / low["energy_per_output_j"]
    return f"Energy per {unit} spans {ratio:.0f}x on {low['gpu_model']}, from {low['model']} to {high['model']}"


def _by_model(best: pl.DataFrame, columns: dict[str, pl.Expr], *, unit: str, finding: str) -> Chart:
    order = best.unique("model", keep="first", maintain_order=True)["model"].to_list()
    band = alt.Scale(type="band", paddingInner=0.3, paddingOuter=0.15)
    y = alt.Y("model:N", sort=order, title=None, scale=band)
    points = (
        alt.Chart(best.select("model", "gpu_model", "energy_per_output_j"))
        .mark_point(filled=True, size=85, opacity=0.9)
        .encode(
            x=alt.X("energy_per_output_j:Q", **log_axis(best["energy_per_output_j"], f"Energy per {unit} (J)")),
            y=y,
            yOffset=alt.YOffset("gpu_model:N", scale=alt.Scale(domain=["B200", "H100"])),
            color=alt.Color("gpu_model:N", scale=GPU_COLOURS, title=None),
            shape=alt.Shape("gpu_model:N", scale=GPU_SHAPES, title=None),
        )
        .properties(width=360, height=30 * len(order))
    )
    shown = best.unique("model", keep="first", maintain_order=True).select("model", **columns)
    table = shown.unpivot(list(columns), index="model", variable_name="property", value_name="text")
    facts = (
        alt.Chart(table)
        .mark_text(fontSize=11, color=INK)
        .encode(
            x=alt.X(
                "property:N",
                sort=list(columns),
                title=None,
                axis=alt.Axis(
                    orient="top", labelAngle=0, domain=False, ticks=False, labelColor=MUTED, labelLimit=120
                ),
            ),
            y=alt.Y("model:N", sort=order, axis=None, scale=band, bandPosition=0.5),
            text="text:N",
        )
        .properties(width=88 * len(columns), height=30 * len(order))
    )
    return finished(
        alt.hconcat(points, facts, spacing=10),
        finding=finding,
        basis="Minimum-energy configuration of each model and GPU",
        width_px=560 + 88 * len(columns),
    )
