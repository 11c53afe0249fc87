"""What images and videos in the prompt cost per token."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.study.comparisons import modality_ratios
from joulemap.study.figures.theme import BLUE, INK, ORANGE, RULE, Chart, finished, log_axis
from joulemap.study.runs import StudyRuns


def modality(runs: StudyRuns) -> Chart:
    """Draw the energy per token of image and video prompts over that of text prompts."""
    ratios = modality_ratios(runs).sort("video_ratio")
    order = ratios["model"].to_list()
    long = ratios.unpivot(["image_ratio", "video_ratio"], index=["model", "num_gpus"]).with_columns(
        input=pl.col("variable").replace_strict({"image_ratio": "Image and text", "video_ratio": "Video and text"}),
        label=pl.col("value").map_elements(lambda v: f"{v:.1f}x", pl.String),
    )
    x = alt.X(
        "value:Q",
        **log_axis(
            [0.85, *long["value"], 1.15 * long["value"].to_numpy().max()],
            "Energy per token ÷ that of the text model",
        ),
    )
    base = alt.Chart(long).encode(x, y=alt.Y("model:N", sort=order, title=None))
    points = base.mark_point(filled=True, size=95, opacity=1).encode(
        color=alt.Color("input:N", scale=alt.Scale(range=[BLUE, ORANGE]), title=None),
        shape=alt.Shape("input:N", scale=alt.Scale(range=["circle", "triangle-up"]), title=None),
    )
    # Labels outside: of images, mostly the lower ones, on the left, of videos on the right.
    image_text = base.transform_filter("datum.variable == 'image_ratio'").mark_text(
        dx=-9, align="right", fontSize=10.5, color=INK
    )
    video_text = base.transform_filter("datum.variable == 'video_ratio'").mark_text(
        dx=9, align="left", fontSize=10.5, color=INK
    )
    labels = [text.encode(text="label:N") for text in (image_text, video_text)]
    one = alt.Chart(pl.DataFrame({"value": [1.0]})).mark_rule(color=RULE, strokeDash=[4, 3]).encode(x)
    image, video = ratios["image_ratio"].to_list(), ratios["video_ratio"].to_list()
    return finished(
        alt.layer(one, points, *labels).properties(width=420, height=210),
        finding=(
            f"Images raise the energy per token {min(image):.1f}x to {max(image):.1f}x, "
            f"videos {min(video):.1f}x to {max(video):.1f}x"
        ),
        basis="Qwen 3 multimodal models against their text siblings in Text Conversation, B200, same GPU count, "
        "lowest energy over the batch",
        width_px=640,
    )
