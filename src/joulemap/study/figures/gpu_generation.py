"""B200 against H100 at matched latency."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.study.comparisons import LATENCY_LIMITS_S, gpu_generations
from joulemap.study.figures.theme import BLUE, INK, ORANGE, RULE, SIGNED_PERCENT, Chart, finished, panel_title
from joulemap.study.runs import StudyRuns
from joulemap.units import MS_PER_S

_HEADINGS = {
    "text": "Language models: energy per token, limit on the median inter-token latency",
    "image": "Text to Image: energy per image, limit on the latency of a batch",
    "video": "Text to Video: energy per video, limit on the latency of a batch",
}


def gpu_generation(runs: StudyRuns) -> Chart:
    """Draw the change of energy per output from H100 to B200, each pair a point."""
    pairs = {kind: gpu_generations(runs, kind) for kind in LATENCY_LIMITS_S}
    panels = [_panel(kind, frame, is_last=kind == "video") for kind, frame in pairs.items()]
    wins = {kind: frame.filter(pl.col("change") < 0).height for kind, frame in pairs.items()}
    share = {kind: f"{wins[kind]} of {frame.height}" for kind, frame in pairs.items()}
    return finished(
        alt.vconcat(*panels, spacing=12).resolve_scale(x="shared"),
        finding=f"At matched latency, B200 takes less energy than H100 in {share['text']} language-model, "
        f"{share['image']} image and {share['video']} video comparisons",
        basis="Each point: one model's lowest energy within the limit on B200 against H100; ticks mark the medians",
        width_px=660,
    )


def _panel(kind: str, pairs: pl.DataFrame, *, is_last: bool) -> Chart:
    limits = LATENCY_LIMITS_S[kind][2]
    names = [f"≤ {limit * MS_PER_S:g} ms" if kind == "text" else f"≤ {limit:,.0f} s" for limit in limits]
    lower = pl.when(pl.col("change") < 0).then(pl.lit("B200 lower")).otherwise(pl.lit("H100 lower"))
    data = pairs.select(
        limit=pl.col("limit_s").replace_strict(dict(zip(limits, names, strict=True)), return_dtype=pl.String),
        change=pl.col("change"),
        lower=lower,
    )
    axis = alt.Axis(labelExpr=SIGNED_PERCENT, grid=True, tickCount=8, labels=is_last, ticks=is_last)
    title = "Change of energy from H100 to B200" if is_last else None
    x = alt.X("change:Q", scale=alt.Scale(nice=8), axis=axis, title=title)
    y = alt.Y("limit:N", sort=names, title=None)
    domain, colours = ["B200 lower", "H100 lower"], [BLUE, ORANGE]
    points = (
        alt.Chart(data)
        .mark_point(filled=True, size=48, opacity=0.6)
        .encode(
            x,
            y,
            color=alt.Color("lower:N", scale=alt.Scale(domain=domain, range=colours), title=None),
            shape=alt.Shape("lower:N", scale=alt.Scale(domain=domain, range=["circle", "square"]), title=None),
        )
    )
    medians = data.group_by("limit", maintain_order=True).agg(pl.col("change").median())
    median = alt.Chart(medians).mark_tick(color=INK, thickness=2.5, height=22).encode(x, y)
    zero = alt.Chart(pl.DataFrame({"change": [0.0]})).mark_rule(color=RULE).encode(x)
    return alt.layer(zero, points, median).properties(
        width=520, height=34 * len(names), title=panel_title(_HEADINGS[kind])
    )
