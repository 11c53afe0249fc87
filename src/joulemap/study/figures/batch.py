"""What happens along a batch sweep."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.study.claims.batch import deepseek_r1, qwen_coder_30b, sweep_ends
from joulemap.study.figures.theme import BLUE, GREEN, ORANGE, PINK, Chart, batch_axis, finished, panel_title
from joulemap.study.runs import StudyRuns, stated
from joulemap.units import MS_PER_S

_PANELS = (
    ("energy_per_output_j", "Energy per token (J)", BLUE),
    ("output_throughput_per_s", "Output throughput (token/s)", GREEN),
    ("itl_median_ms", "Median inter-token latency (ms)", ORANGE),
    ("power_w", "Power of all GPUs (W)", PINK),
)


def batch_deepseek_r1(runs: StudyRuns) -> Chart:
    """Draw the batch sweep of DeepSeek R1."""
    return _sweep(deepseek_r1(runs), "DeepSeek R1", "Problem Solving, 8x B200")


def batch_qwen_coder_30b(runs: StudyRuns) -> Chart:
    """Draw the batch sweep of Qwen 3 Coder 30B A3B."""
    return _sweep(qwen_coder_30b(runs), "Qwen 3 Coder 30B A3B", "Code Completion, 1x B200")


def _sweep(curve: pl.DataFrame, model: str, where: str) -> Chart:
    curve = stated(curve, "output_throughput_per_s", "itl_median_s", "power_w").sort("batch_ceiling")
    curve = curve.with_columns(itl_median_ms=pl.col("itl_median_s") * MS_PER_S)
    first, last = sweep_ends(curve)
    ratios = {c: last[c] / first[c] for c in ("energy_per_output_j", "output_throughput_per_s", "itl_median_s")}
    panels = [
        alt.Chart(curve.select("batch_ceiling", column))
        .mark_line(color=colour, strokeWidth=2, point=alt.OverlayMarkDef(filled=True, size=45, color=colour))
        .encode(
            x=alt.X("batch_ceiling:Q", **batch_axis(curve["batch_ceiling"])),
            y=alt.Y(f"{column}:Q", scale=alt.Scale(zero=True, nice=5), axis=alt.Axis(tickCount=5), title=None),
        )
        .properties(width=270, height=150, title=panel_title(heading))
        for column, heading, colour in _PANELS
    ]
    return finished(
        alt.concat(*panels, columns=2, spacing=22),
        finding=(
            f"{model}: from batch {first['batch_ceiling']:.0f} to {last['batch_ceiling']:.0f}, energy per token "
            f"falls {1 / ratios['energy_per_output_j']:.1f}x, throughput grows "
            f"{ratios['output_throughput_per_s']:.1f}x and latency {ratios['itl_median_s']:.1f}x"
        ),
        basis=f"{where}; every configuration measured",
        width_px=640,
    )
