"""Charts as Vega-Lite: golden files, so that a change of a chart is seen and meant."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from joulemap.report.document import NARROW_PX, WIDE_PX, Document
from joulemap.report.renderers.svg import VARIABLES, inline_svg, svg_of

GOLDEN = Path(__file__).with_name("golden")
UPDATE = "JOULEMAP_UPDATE_GOLDEN"


def comparable(spec: dict[str, Any]) -> Any:
    """Return a specification without what is common to all charts, with values rounded: libm differs by machine."""
    spec = json.loads(json.dumps(spec))
    del spec["$schema"], spec["config"]
    data = spec.pop("datasets", {})
    # Data under no name, which is a hash of altair's.
    names = {name: f"data {i}" for i, name in enumerate(data)}
    spec = json.loads(_renamed(json.dumps(spec), names))
    return _rounded({**spec, "datasets": {names[name]: rows for name, rows in data.items()}})


def _renamed(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(old, new)
    return text


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {k: _rounded(v) for k, v in value.items()}
        case list():
            return [_rounded(v) for v in value]
    return value


def assert_golden(name: str, spec: dict[str, Any]) -> None:
    file = GOLDEN / f"{name}.json"
    found = comparable(spec)
    if os.environ.get(UPDATE):
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(file.read_text()), f"if the change is meant: {UPDATE}=1 pytest {__file__}"


@pytest.mark.parametrize("name", ["run_report", "explanation_report"])
def test_charts_are_the_golden_ones(name: str, request: pytest.FixtureRequest) -> None:
    document: Document = request.getfixturevalue(name)
    for drawing in document.drawings():
        assert_golden(f"{document.kind}-{drawing.name}", drawing.draw(WIDE_PX).to_dict())


@pytest.mark.parametrize("name", ["run_report", "explanation_report"])
def test_charts_fit_their_width_and_speak(name: str, request: pytest.FixtureRequest) -> None:
    document: Document = request.getfixturevalue(name)
    for drawing in document.drawings():
        for width_px in (WIDE_PX, NARROW_PX):
            svg = inline_svg(drawing.draw(width_px), drawing.name)
            assert 0.5 * width_px < _width_px(svg) <= 1.02 * width_px, f"{drawing.name} at {width_px}"
            # All ink is the page's: nothing would vanish on a dark one.
            assert not [colour for colour in VARIABLES if f'"{colour}"' in svg]
            assert "<desc" in svg
        spec = drawing.draw(WIDE_PX).to_dict()
        assert spec["description"].startswith(" ".join(spec["title"]["text"]))


def test_a_file_keeps_its_own_colours(run_report: Document) -> None:
    (drawing, *_) = run_report.drawings()
    svg = svg_of(drawing.draw(WIDE_PX))
    assert "var(" not in svg
    assert svg.startswith("<svg")


def _width_px(svg: str) -> float:
    return float(svg.partition(' width="')[2].partition('"')[0])
