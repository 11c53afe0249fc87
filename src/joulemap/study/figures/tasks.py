"""How long replies are, and what a response costs, by task."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.study.figures.theme import BLUE, INK, ORANGE, Chart, finished, log_axis
from joulemap.study.runs import TASK_NAMES, MissingRunsError, StudyRuns, minimum_energy, stated

_BINS_PER_DECADE = 12
_GPU = "B200"
_HAS_LENGTHS = pl.col("output_length_edges").is_not_null() & (pl.col("output_length_counts").list.sum() > 0)


def output_length(runs: StudyRuns) -> Chart:
    """Draw the distribution of reply lengths of each task."""
    best = _best(runs).filter(_HAS_LENGTHS)
    if best.is_empty():
        msg = "there is no distribution of output lengths"
        raise MissingRunsError(msg)
    data = _distributions(best, scale=None)
    means = _means(best, "mean_output_tokens")
    high, low = _compared(means)
    return _by_task(
        data,
        means,
        axis="Output tokens per response",
        unit="tokens",
        finding=f"{high} responses are {means[high] / means[low]:.0f}x as long as those of {low}",
        basis=(
            f"Distribution over responses, each model weighted equally, at its minimum-energy configuration on "
            f"{_GPU}; the line marks the mean over models"
        ),
    )


def energy_per_response(runs: StudyRuns) -> Chart:
    """Draw the distribution of the energy per response of each task."""
    best = stated(_best(runs), "energy_per_request_j")
    replies = best.filter(_HAS_LENGTHS)
    single = best.filter(pl.col("output_unit") != "token").select(
        pl.col("task").replace(TASK_NAMES).alias("task"),
        pl.col("energy_per_request_j").alias("x"),
        kind=pl.lit("model"),
    )
    if replies.is_empty() and single.is_empty():
        msg = f"there is no {_GPU} runs to show"
        raise MissingRunsError(msg)
    data = pl.concat([_distributions(replies, scale="energy_per_output_j"), single], how="diagonal")
    means = _means(best, "energy_per_request_j")
    high, low = _compared(means)
    return _by_task(
        data,
        means,
        axis="Energy per response (J)",
        unit="J",
        finding=f"{high} responses take {means[high] / means[low]:.0f}x the energy of those of {low}",
        basis=(
            f"Text responses: length of each × the configuration's mean energy per token; image and video: one "
            f"tick a model. Minimum-energy configurations on {_GPU}; the line marks the mean over models"
        ),
    )


def _compared(means: dict[str, float]) -> tuple[str, str]:
    """Return the two tasks that the study compares, or else the dearest and the cheapest."""
    study = TASK_NAMES["gpqa"], TASK_NAMES["lm-arena-chat"]
    if means.keys() >= set(study):
        return study
    return max(means, key=means.__getitem__), min(means, key=means.__getitem__)


def _best(runs: StudyRuns) -> pl.DataFrame:
    return minimum_energy(runs.pick(gpu_model=_GPU, task=tuple(TASK_NAMES)), ["task", "model_id"])


def _means(best: pl.DataFrame, column: str) -> dict[str, float]:
    means = stated(best, column).group_by("task", maintain_order=True).agg(pl.col(column).mean())
    return {TASK_NAMES[task]: mean for task, mean in means.iter_rows()}


def _distributions(best: pl.DataFrame, scale: str | None) -> pl.DataFrame:
    """Return the density of each task over a logarithmic grid, as the mean over its models."""
    rows: list[dict[str, Any]] = []
    for (task,), models in best.group_by("task", maintain_order=True):
        histograms = [
            (
                np.array(row["output_length_edges"]) * (row[scale] if scale else 1.0),
                np.array(row["output_length_counts"]),
            )
            for row in models.iter_rows(named=True)
        ]
        lowest = min(max(edges[0], 1e-3) for edges, _ in histograms)
        highest = max(edges[-1] for edges, _ in histograms)
        count = max(2, int(np.ceil(np.log10(highest / lowest) * _BINS_PER_DECADE)))
        grid = np.geomspace(lowest, highest, count + 1)
        share = np.mean([_share_by_bin(edges, counts, grid) for edges, counts in histograms], axis=0)
        centres = np.sqrt(grid[1:] * grid[:-1])
        rows += [
            {"task": TASK_NAMES[str(task)], "x": float(x), "share": float(s), "kind": "density"}
            for x, s in zip(centres, share / share.max(), strict=True)
        ]
    return pl.DataFrame(rows, schema={"task": pl.String, "x": pl.Float64, "share": pl.Float64, "kind": pl.String})


def _share_by_bin(
    edges: NDArray[np.float64], counts: NDArray[np.int64], grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return which share of a histogram falls in each bin of a grid, spread evenly within each old bin."""
    cumulative = np.concatenate([[0.0], np.cumsum(counts)]) / max(1, counts.sum())
    return np.diff(np.interp(grid, edges, cumulative))


def _by_task(
    data: pl.DataFrame, means: dict[str, float], *, axis: str, unit: str, finding: str, basis: str
) -> Chart:
    order = [name for name in TASK_NAMES.values() if name in set(data["task"])]
    marks = pl.DataFrame([{"task": t, "x": m, "kind": "mean"} for t, m in means.items() if t in order])
    labels = marks.with_columns(label=pl.col("x").map_elements(lambda x: f"mean {x:,.0f} {unit}", pl.String))
    base = alt.Chart(pl.concat([data, labels], how="diagonal"))
    x = alt.X("x:Q", **log_axis([*data["x"], *marks["x"]], axis))
    area = base.transform_filter("datum.kind == 'density'").mark_area(
        color=BLUE, opacity=0.55, interpolate="monotone", line={"color": BLUE, "strokeWidth": 1.2}
    )
    ticks = base.transform_filter("datum.kind == 'model'").mark_tick(color=BLUE, thickness=2, height=26, yOffset=12)
    rule = base.transform_filter("datum.kind == 'mean'").mark_rule(color=ORANGE, strokeWidth=2)
    text = base.transform_filter("datum.kind == 'mean'").mark_text(
        color=INK, align="left", dx=8, fontSize=11, x="width"
    )
    layers = alt.layer(
        area.encode(x, alt.Y("share:Q", axis=None, stack=None)),
        ticks.encode(x),
        rule.encode(x),
        text.encode(text="label:N"),
    ).properties(width=520, height=56)
    header = alt.Header(labelAngle=0, labelAlign="left", labelAnchor="middle", title=None)
    faceted = layers.facet(row=alt.Row("task:N", sort=order, header=header), spacing=6)
    return finished(faceted, finding=finding, basis=basis, width_px=640)
