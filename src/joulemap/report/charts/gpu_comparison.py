"""The chart of GPU models compared."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.plan.procurement import Comparison
from joulemap.study.figures.theme import SERIES, Chart, finished

WIDTH_PX = 620


def comparison_chart(found: Comparison) -> Chart:
    """Draw GPU models compared: the least energy of each model within each limit, by GPU model."""
    rows = [
        {
            "model": f"{m.label} · {m.task}",
            "limit": f"≤ {m.limit_s:g} s",
            "GPU": s.gpu_model,
            "energy": s.energy_per_output_j / min(x.energy_per_output_j for x in m.sides),
        }
        for m in found.matches
        for s in m.sides
    ]
    data = pl.DataFrame(
        rows, schema={"model": pl.String, "limit": pl.String, "GPU": pl.String, "energy": pl.Float64}
    )
    chart = (
        alt.Chart(data)
        .mark_point(filled=True, size=45, opacity=0.7)
        .encode(
            alt.X("energy:Q", scale=alt.Scale(type="log"), title="Energy over that of the best GPU, log scale"),
            alt.Y("model:N", title=None),
            color=alt.Color("GPU:N", scale=alt.Scale(domain=list(found.gpu_models), range=SERIES), title=None),
            shape=alt.Shape("limit:N", title="Limit on latency"),
        )
        .properties(width=WIDTH_PX - 280)
    )
    wins = "; ".join(f"{d.newer} against {d.older} in {d.wins} of {d.pairs} ({d.task})" for d in found.duels)
    return finished(
        alt.hconcat(chart),
        finding=f"Less energy at matched latency: {wins}",
        basis="Each point: a model's lowest energy within the limit on one GPU model; 1 is the best GPU model",
        width_px=WIDTH_PX,
    )
