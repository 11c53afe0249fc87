"""Charts as Vega-Lite golden files, so that a change is seen and meant; and how they stand in a page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from joulemap.report.charts.batch_curves import batch_curves_chart
from joulemap.report.charts.causal_graph import causal_graph_chart
from joulemap.report.charts.frontier import frontier_chart
from joulemap.report.charts.ledger import ledger_chart
from joulemap.report.charts.plan import plan_chart
from joulemap.report.charts.predicted import Prediction, predictions_chart
from joulemap.report.charts.predicted_scatter import predicted_scatter_chart
from joulemap.report.charts.simulation import simulation_chart
from joulemap.report.charts.timeline import timeline_chart
from joulemap.report.document import NARROW_PX, WIDE_PX, Document
from joulemap.report.documents.explanation import bare_explanation_document
from joulemap.report.documents.graph_values import graph_values
from joulemap.report.renderers.svg import VARIABLES, inline_svg, svg_of
from joulemap.study.figures.theme import Chart
from tests.report import values

GOLDEN = Path(__file__).with_name("golden")
UPDATE = "JOULEMAP_UPDATE_GOLDEN"

PREDICTIONS = [
    Prediction(name="power", measured_value=500.0, predicted_value=520.0, low=480.0, high=560.0, unit="W"),
    Prediction(name="median ITL", measured_value=0.02, predicted_value=0.03, low=0.025, high=0.036, unit="s"),
]

CHOICE = values.frontier().table.row(1, named=True)
INKS = (*VARIABLES, "black", "#000", "white", "#888", "#ddd")
"""The theme's inks, and those that Vega takes where a chart names none."""


def _graph(width_px: int) -> Chart:
    found = values.diagnosis()
    return causal_graph_chart(
        graph_values(found, None), found.bound_by, finding="Bound by memory", basis="Settings", width_px=width_px
    )


CHARTS: dict[str, Callable[[int], Chart]] = {
    "ledger": lambda px: ledger_chart([("this run", values.diagnosis())], px),
    "ledgers": lambda px: ledger_chart([("A", values.diagnosis()), ("B", values.diagnosis(scale=2.0))], px),
    "waterfall": lambda px: bare_explanation_document(values.explanation()).drawings()[0].draw(px),
    "causal-graph": _graph,
    "batch-curves": lambda px: batch_curves_chart(values.curves(), px, run_id="1x H10016"),
    "timeline": lambda px: timeline_chart(values.timeline(), px),
    "predicted": lambda px: predictions_chart(PREDICTIONS, px),
    "predicted-scatter": lambda px: predicted_scatter_chart({"power": PREDICTIONS[:1], "ITL": PREDICTIONS[1:]}, px),
    "frontier": lambda px: frontier_chart(
        {"": values.frontier()}, px, choice=values.frontier().table.row(1, named=True)
    ),
    "plan": lambda px: plan_chart(values.plan(), px),
    "plan-of-an-hour": lambda px: plan_chart(values.plan(hours=1), px),
    "simulation": lambda px: simulation_chart(values.simulation(), px),
}
"""Every chart of the reports, of values made by hand."""


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("width_px", [WIDE_PX, NARROW_PX])
def test_charts_are_the_golden_ones(name: str, width_px: int) -> None:
    file = GOLDEN / f"{name}-{width_px}.json"
    found = comparable(CHARTS[name](width_px).to_dict())
    if os.environ.get(UPDATE):
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(file.read_text()), f"if the change is meant: {UPDATE}=1 pytest {__file__}"


def test_no_golden_file_is_left_over() -> None:
    wanted = {f"{name}-{width_px}.json" for name in CHARTS for width_px in (WIDE_PX, NARROW_PX)}
    assert {file.name for file in GOLDEN.iterdir()} == wanted


@pytest.mark.parametrize("name", CHARTS)
def test_charts_fit_their_width_and_speak(name: str) -> None:
    for width_px in (WIDE_PX, NARROW_PX):
        chart = CHARTS[name](width_px)
        svg = inline_svg(chart, name)
        assert 0.6 * width_px < _width_px(svg) <= 1.03 * width_px, f"{name} at {width_px}: {_width_px(svg)}"
        # All ink is the page's: nothing would vanish on a dark one.
        assert not [colour for colour in INKS if f'"{colour}"' in svg]
        assert "<desc" in svg
        spec = chart.to_dict()
        assert spec["description"].startswith(" ".join(spec["title"]["text"]))


def test_a_file_keeps_its_own_colours() -> None:
    svg = svg_of(CHARTS["ledger"](WIDE_PX))
    assert "var(" not in svg
    assert svg.startswith("<svg")


@pytest.mark.parametrize(
    "name", ["run_report", "explanation_report", "sweep_report", "frontier_report", "recommendation_report"]
)
def test_charts_of_real_runs_fit_their_width(name: str, request: pytest.FixtureRequest) -> None:
    document: Document = request.getfixturevalue(name)
    for drawing in document.drawings():
        for width_px in (WIDE_PX, NARROW_PX):
            svg = inline_svg(drawing.draw(width_px), drawing.name)
            assert 0.6 * width_px < _width_px(svg) <= 1.03 * width_px, f"{drawing.name}: {_width_px(svg)}"


def comparable(spec: dict[str, Any]) -> Any:
    """Return a specification without what is common to all charts, with values rounded: libm differs by machine."""
    spec = json.loads(json.dumps(spec))
    del spec["$schema"], spec["config"]
    data = spec.pop("datasets", {})
    # Data under plain names; altair's are hashes.
    text = json.dumps(spec)
    for i, name in enumerate(data):
        text = text.replace(name, f"data {i}")
    named = {f"data {i}": rows for i, rows in enumerate(data.values())}
    return _rounded({**json.loads(text), "datasets": named})


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {k: _rounded(v) for k, v in value.items()}
        case list():
            return [_rounded(v) for v in value]
    return value


def _width_px(svg: str) -> float:
    return float(svg.partition(' width="')[2].partition('"')[0])
