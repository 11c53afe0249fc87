"""Charts as SVG: for files as they are, for pages in the page's own colours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

import vl_convert

from joulemap.study.figures.theme import GRID, INK, MUTED, PAPER, RAISED, RULE, Chart

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    GRID: "--grid",
    RAISED: "--raised",
    PAPER: "--chart-paper",
}
"""Colours of the theme that a page puts its own in the place of, and the CSS variables that hold them."""
_SVG = "http://www.w3.org/2000/svg"
_BY_COLOUR = {colour.lower(): f"var({name})" for colour, name in VARIABLES.items()}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DRAWN = frozenset({"svg", "g", "path", "rect", "line", "circle", "text", "tspan", "defs", "clipPath", "desc"})
"""The elements that Vega draws with; anything else has no business in a page."""


def svg_of(chart: Chart) -> str:
    """Return a chart as an SVG file."""
    spec = chart.to_dict()
    return _with_description(_root(spec), str(spec.get("description", "")), "chart")


def inline_svg(chart: Chart, name: str, *, own_colours: bool = False) -> str:
    """Return a chart as SVG to stand in a page: its ids are its own, its ink is the page's.

    Args:
        chart: The chart.
        name: Unique on the page; lower case and hyphens.
        own_colours: Keep the chart's own ink and paper, for a page whose colours are not known.
    """
    spec = chart.to_dict()
    # The page has margins of its own.
    root = _root(spec if own_colours else spec | {"config": {**spec.get("config", {}), "padding": 0}})
    for element in root.iter():
        if _local(element) not in _DRAWN:
            msg = f"a chart came out with the element {element.tag!r}"
            raise ValueError(msg)
        element.attrib = dict(_for_page(element, name, {} if own_colours else _BY_COLOUR))
    return _with_description(root, str(spec.get("description", "")), name)


def _root(spec: dict[str, Any]) -> ET.Element:
    # Nothing is fetched: the data of every chart is in it.
    return ET.fromstring(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))


def _with_description(root: ET.Element, text: str, name: str) -> str:
    description = ET.Element(f"{{{_SVG}}}desc", {"id": f"{name}-description"})
    description.text = text
    root.insert(0, description)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-description")
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


def _for_page(element: ET.Element, name: str, inks: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        if key.startswith("aria-") or key in ("role", "class", "pointer-events") or key.startswith("on"):
            continue  # the description speaks for the whole chart, and one label a mark would only bloat the page
        if key in ("fill", "stroke"):
            yield key, inks.get(_long(value), value)
        elif key == "id":
            yield key, f"{name}-{value}"
        else:
            yield key, _REFERENCE.sub(rf"url(#{name}-\1)", value)


def _long(colour: str) -> str:
    colour = colour.lower()
    return "#ffffff" if colour == "white" else colour


def _local(element: ET.Element) -> str:
    return str(element.tag).rpartition("}")[2]
