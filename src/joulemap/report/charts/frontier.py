"""The chart of time–energy frontiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from joulemap.optimize.tradeoff import Frontier
from joulemap.report.document import WIDE_PX
from joulemap.study.figures.theme import (
    INK,
    MUTED,
    NARROWEST_TWO_COLUMNS_PX,
    RULE,
    SERIES,
    Chart,
    finished,
    log_axis,
)
from joulemap.units import MS_PER_S

_AXES = {
    "itl_median_s": "Median inter-token latency (ms)",
    "latency_mean_s": "Mean request latency (s)",
    "latency_median_s": "Batch latency (s)",
    "output_throughput_per_s": "Outputs per second",
}
_BASES = ["measured", "interpolated", "modelled"]
_LABEL_PX = 40
_SHAPES = ["circle", "diamond", "triangle-up"]


def frontier_chart(
    frontiers: Mapping[str, Frontier], width_px: int = WIDE_PX, *, choice: Mapping[str, Any] | None = None
) -> Chart:
    """Draw all candidates faintly, the frontiers as lines with their batches, and their knees.

    Args:
        frontiers: One frontier, or two to compare, by label.
        width_px: Width of the whole chart.
        choice: A candidate to mark: a row with the frontier's columns.
    """
    first = next(iter(frontiers.values()))
    data = pl.concat(
        [f.table.select(_drawn(f.time_quantity, label, _every(f, width_px))) for label, f in frontiers.items()]
    )
    x = alt.X("time:Q", **log_axis(data["time"], _AXES[first.time_quantity]))
    seen = data.filter("on_frontier")
    y = alt.Y(
        "energy:Q",
        **log_axis([*data["energy"], *seen["low"], *seen["high"]], f"Energy per {first.output_unit} (J)"),
    )
    columns = 2 if width_px < NARROWEST_TWO_COLUMNS_PX else 4
    present = sorted(data["group"].unique().to_list())
    colour = alt.Color(
        "group:N",
        scale=alt.Scale(domain=present, range=_colours(len(present))),
        title=None,
        legend=alt.Legend(columns=columns, symbolOpacity=1),
    )
    shape = alt.Shape("basis:N", scale=alt.Scale(domain=_BASES, range=_SHAPES), legend=None)
    tooltip = ["configuration:N", "time:Q", "energy:Q", "low:Q", "high:Q", "basis:N"]
    base = alt.Chart(data)
    others = base.transform_filter(~alt.datum.on_frontier).mark_point(filled=True, size=18, opacity=0.25)
    on = base.transform_filter(alt.datum.on_frontier)
    layers = [
        others.encode(x, y, color=colour, shape=shape, tooltip=tooltip),
        on.mark_rule(color=RULE, opacity=0.6).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        on.mark_line(color=INK, strokeWidth=1).encode(x, y, detail="label:N", order="time:Q"),
        on.mark_point(filled=True, size=55).encode(x, y, color=colour, shape=shape, tooltip=tooltip),
        base.transform_filter(alt.datum.knee).mark_point(size=220, color=INK, strokeWidth=1.5).encode(x, y),
        on.transform_filter(alt.datum.labelled)
        .mark_text(align="left", baseline="bottom", dx=6, dy=-3, fontSize=9.5, color=MUTED)
        .encode(x, y, text="batch:N"),
    ]
    if choice is not None:
        chosen = pl.DataFrame(
            [{"time": _time(choice, first.time_quantity), "energy": choice["energy_per_output_j"]}]
        )
        layers.append(
            alt.Chart(chosen).mark_point(shape="diamond", size=420, color=INK, strokeWidth=2).encode(x, y)
        )
    return finished(
        alt.layer(*layers).properties(
            width=width_px, height=380, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
        ),
        finding=_finding(frontiers),
        basis="Line: frontier, with batches; bars: 90 % intervals of energy; ring: knee; faint: what the frontier "
        "beats. Circles are measured, diamonds interpolated, triangles modelled"
        + ("; large diamond: the recommended one" if choice is not None else ""),
        width_px=width_px,
    )


def _colours(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]


def _every(frontier: Frontier, width_px: int) -> int:
    """Return of how many points on the frontier one is labelled, lest the labels print over each other."""
    return 1 + frontier.points.height * _LABEL_PX // width_px


def _time(row: Mapping[str, Any], quantity: str) -> float:
    return float(row[quantity]) * (MS_PER_S if quantity == "itl_median_s" else 1.0)


def _drawn(quantity: str, label: str, every: int) -> list[pl.Expr]:
    scale = MS_PER_S if quantity == "itl_median_s" else 1.0
    configuration = pl.format(
        "{}x {}, {}, batch {}", "num_gpus", "gpu_model", "weight_precision", pl.col("batch_ceiling").cast(pl.Int64)
    )
    group = pl.format("{}x {} {}", "num_gpus", "gpu_model", "weight_precision") if not label else pl.lit(label)
    return [
        (pl.col(quantity) * scale).alias("time"),
        pl.col("energy_per_output_j").alias("energy"),
        pl.col("energy_per_output_j_low").alias("low"),
        pl.col("energy_per_output_j_high").alias("high"),
        pl.col("basis"),
        pl.col("on_frontier"),
        pl.col("knee"),
        configuration.alias("configuration"),
        pl.format("{}", pl.col("batch_ceiling").cast(pl.Int64)).alias("batch"),
        # Neighbours on the frontier would print over each other: every second one is enough to read it.
        (pl.col("on_frontier") & (pl.col("on_frontier").cum_sum() % every == 0)).alias("labelled"),
        group.alias("group"),
        pl.lit(label).alias("label"),
    ]


def _finding(frontiers: Mapping[str, Frontier]) -> str:
    if len(frontiers) == 1:
        (shown,) = frontiers.values()
        points = shown.points
        count = f"{points.height} of {shown.table.height} configurations"
        least = points.sort("energy_per_output_j").row(0, named=True)
        return (
            f"{shown.model}, {shown.task}: nothing beats {count}; the least energy is "
            f"{least['energy_per_output_j']:.3g} J/{shown.output_unit} "
            f"on {least['num_gpus']}x {least['gpu_model']} ({least['basis']})"
        )
    (a, first), (b, second) = frontiers.items()
    wide, narrow = (a, b) if first.hypervolume >= second.hypervolume else (b, a)
    volumes = sorted((first.hypervolume, second.hypervolume), reverse=True)
    return (
        f"{first.model}, {first.task}: the frontier of {wide} dominates more than that of {narrow} "
        f"(hypervolume {volumes[0]:.2f} against {volumes[1]:.2f})"
    )
