"""FP8 against BF16 along the batch."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.study.comparisons import is_data_parallel_case, precision_pairs
from joulemap.study.figures.theme import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    RULE,
    SIGNED_PERCENT,
    Chart,
    batch_axis,
    finished,
    panel_title,
)
from joulemap.study.runs import MissingRunsError, StudyRuns

_BANDS = ((8, 16), (17, 64), (65, 256), (257, 4096))


def precision(runs: StudyRuns) -> Chart:
    """Draw the change of energy and latency from BF16 to FP8 against the batch."""
    pairs = precision_pairs(runs).filter(~is_data_parallel_case())
    if pairs.is_empty():
        msg = "there is no FP8 and BF16 pair without attention data parallelism"
        raise MissingRunsError(msg)
    small = pairs.filter(pl.col("batch_ceiling") <= _BANDS[0][1])["energy_change"]
    large = pairs.filter(pl.col("batch_ceiling") > _BANDS[1][1])["energy_change"]
    panels = [
        _panel(pairs, "energy_change", "Energy per token"),
        _panel(pairs, "itl_change", "Median inter-token latency"),
    ]
    return finished(
        alt.hconcat(*panels, spacing=26).resolve_scale(y="shared"),
        finding=(
            f"FP8 took less energy than BF16 in {(small < 0).sum()} of {len(small)} pairs up to batch "
            f"{_BANDS[0][1]}, but in {(large < 0).sum()} of {len(large)} above batch {_BANDS[1][1]}"
        ),
        basis="Pairs of one model, task, GPU, GPU count and batch; black lines: medians of batches up to 16, 64, "
        "256 and above",
        width_px=780,
    )


def _panel(pairs: pl.DataFrame, column: str, heading: str) -> Chart:
    axis = batch_axis(pairs["batch_ceiling"])
    x = alt.X("batch_ceiling:Q", **axis)
    y = alt.Y(
        f"{column}:Q",
        scale=alt.Scale(padding=14),
        axis=alt.Axis(labelExpr=SIGNED_PERCENT),
        title="Change from BF16 to FP8",
    )
    models = sorted(set(pairs["model"]))
    points = (
        alt.Chart(pairs.select("model", "batch_ceiling", column))
        .mark_point(filled=True, size=55, opacity=0.75)
        .encode(
            x,
            y,
            color=alt.Color(
                "model:N", scale=alt.Scale(domain=models, range=[BLUE, ORANGE, GREEN, PINK]), title=None
            ),
            shape=alt.Shape("model:N", scale=alt.Scale(domain=models), title=None),
        )
    )
    medians = [
        {
            # A little beyond the band's batches, so that a band of one batch shows too.
            "from": within["batch_ceiling"].to_numpy().min() / 1.08,
            "to": within["batch_ceiling"].to_numpy().max() * 1.08,
            column: within[column].median(),
        }
        for low, high in _BANDS
        if not (within := pairs.filter(pl.col("batch_ceiling").is_between(low, high))).is_empty()
    ]
    median = (
        alt.Chart(pl.DataFrame(medians))
        .mark_rule(color=INK, strokeWidth=2.5)
        .encode(x=alt.X("from:Q", **axis), x2="to:Q", y=y)
    )
    zero = alt.Chart(pl.DataFrame({column: [0.0]})).mark_rule(color=RULE).encode(y)
    return alt.layer(zero, points, median).properties(width=330, height=280, title=panel_title(heading))
