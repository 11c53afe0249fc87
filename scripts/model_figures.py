"""Draw the figures of ``docs/model.md``: ``python scripts/model_figures.py PREDICTIONS.parquet``.

The table is ``backtest(frame, "backbone").predictions``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"
SIZES = np.linspace(0.1, 2.0, 20)


def scatter(predictions: pl.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Return predicted against measured energy per token."""
    rows = predictions.filter((pl.col("quantity") == "energy_per_output_j") & (pl.col("form") == "language"))
    points = (
        alt.Chart(rows.select("measured", "predicted", "gpu_model"))
        .mark_circle(size=14, opacity=0.6)
        .encode(
            x=alt.X("measured:Q", scale=alt.Scale(type="log"), title="measured J/token"),
            y=alt.Y("predicted:Q", scale=alt.Scale(type="log"), title="predicted J/token, backbone held out"),
            color=alt.Color("gpu_model:N", title="GPU"),
        )
    )
    ends = [float(rows["measured"].to_numpy().min()), float(rows["measured"].to_numpy().max())]
    line = alt.Chart(pl.DataFrame({"x": ends, "y": ends})).mark_line(color="gray").encode(x="x:Q", y="y:Q")
    return alt.layer(line, points).properties(width=420, height=420)


def reliability(predictions: pl.DataFrame) -> alt.Chart:
    """Return the share of runs inside intervals that are so many times the 90 % interval's size."""
    error = np.abs(np.log((predictions["predicted"] / predictions["measured"]).to_numpy()))
    half = np.log((predictions["high"] / predictions["predicted"]).to_numpy())
    rows = []
    for (form, quantity), at in _groups(predictions):
        ratio = error[at] / half[at]
        ratio = ratio[~np.isnan(ratio)]
        rows += [
            {"size": float(s), "inside": float(np.mean(ratio <= s)), "quantity": f"{form}: {quantity}"}
            for s in SIZES
        ]
    chart: alt.Chart = (
        alt.Chart(pl.DataFrame(rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("size:Q", title="size of the interval relative to the 90 % one"),
            y=alt.Y("inside:Q", title="share of held-out runs inside", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("quantity:N", title=None),
        )
        .properties(width=420, height=300)
    )
    return chart


def _groups(predictions: pl.DataFrame) -> list[tuple[tuple[str, str], np.ndarray]]:
    keys = predictions.select("form", "quantity").unique(maintain_order=True).rows()
    found = []
    for form, quantity in keys:
        mask = (predictions["form"] == form) & (predictions["quantity"] == quantity)
        found.append(((form, quantity), np.flatnonzero(mask.to_numpy())))
    return found


def main(path: Path) -> None:
    """Write both figures."""
    predictions = pl.read_parquet(path)
    FIGURES.mkdir(exist_ok=True)
    for name, chart in (("backbone", scatter(predictions)), ("reliability", reliability(predictions))):
        target = FIGURES / f"model-{name}.svg"
        chart.save(str(target))
        print(f"Wrote {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
