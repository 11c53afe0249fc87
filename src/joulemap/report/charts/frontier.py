"""The chart of time–energy frontiers."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import polars as pl

from joulemap.optimize.tradeoff import Frontier
from joulemap.study.figures.theme import (
    INK,
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
_SHAPES = ["circle", "diamond", "triangle-up"]
_PX = 620


def frontier_chart(frontiers: Mapping[str, Frontier]) -> Chart:
    """Draw all candidates faintly, the frontiers as lines, and their knees.

    Args:
        frontiers: One frontier, or two to compare, by label.
    """
    first = next(iter(frontiers.values()))
    data = pl.concat([f.table.select(_drawn(f.time_quantity, label)) for label, f in frontiers.items()])
    x = alt.X("time:Q", **log_axis(data["time"], _AXES[first.time_quantity]))
    seen = data.filter("on_frontier")
    y = alt.Y(
        "energy:Q",
        **log_axis([*data["energy"], *seen["low"], *seen["high"]], f"Energy per {first.output_unit} (J)"),
    )
    present = sorted(data["group"].unique().to_list())
    colour = alt.Color("group:N", scale=alt.Scale(domain=present, range=SERIES[: len(present)]), title=None)
    shape = alt.Shape("basis:N", scale=alt.Scale(domain=_BASES, range=_SHAPES), title=None)
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
    ]
    return finished(
        alt.layer(*layers).properties(width=_PX - 80, height=380),
        finding=_finding(frontiers),
        basis="Line: frontier; bars: 90 % intervals of energy; ring: knee; faint: what the frontier beats. "
        "Circles are measured, diamonds interpolated, triangles modelled.",
        width_px=_PX,
    )


def _drawn(quantity: str, label: str) -> list[pl.Expr]:
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
