"""The causal graph with a run's values on its nodes, and the path of what binds it lit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import altair as alt
import polars as pl

from joulemap.diagnose.diagnosis import Bound
from joulemap.records import Basis
from joulemap.study.figures.theme import INK, MUTED, NARROWEST_TWO_COLUMNS_PX, ORANGE, RAISED, RULE, Chart, finished

Kind = Literal["knob", "latent", "outcome"]
BASIS_MARKS = {Basis.MEASURED: "●", Basis.INTERPOLATED: "◆", Basis.MODELLED: "▲", Basis.ASSUMED: "○"}
"""As on pages: what a number rests on."""
_STAGES, _LANES = 6, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeValue:
    """What stands on a node."""

    text: str
    basis: Basis | None = None
    """``None`` for a setting."""


@dataclass(frozen=True, slots=True)
class _Node:
    stage: float
    lane: float
    words: str
    kind: Kind


_NODES: Mapping[str, _Node] = {
    "model": _Node(0, 0, "model, precision", "knob"),
    "gpus": _Node(0, 1, "GPUs", "knob"),
    "workload": _Node(0, 2, "workload", "knob"),
    "memory_footprint": _Node(1, 0, "memory footprint", "latent"),
    "memory_available": _Node(1, 1, "memory available", "latent"),
    "compute_volume": _Node(1, 2, "compute volume", "latent"),
    "application_limit": _Node(1, 3, "application limits", "knob"),
    "batch_size": _Node(2, 0.6, "batch size", "latent"),
    "host": _Node(2, 3, "host, launches", "knob"),
    "memory_bandwidth": _Node(3, 0, "memory bandwidth", "latent"),
    "compute": _Node(3, 1, "compute", "latent"),
    "communication": _Node(3, 2, "communi- cation", "latent"),
    "starved": _Node(3, 3, "starved", "latent"),
    "power": _Node(4, 0.6, "power", "outcome"),
    "time": _Node(4, 2.1, "time per output", "outcome"),
    "energy": _Node(5, 1.35, "energy per output", "outcome"),
}

_EDGES: Sequence[tuple[str, ...]] = (
    ("model", "memory_footprint"),
    ("model", "compute_volume"),
    ("gpus", "memory_available"),
    ("gpus", "communication"),
    ("workload", "memory_footprint"),
    ("workload", "compute_volume"),
    ("memory_footprint", "batch_size"),
    ("memory_available", "batch_size"),
    ("application_limit", "batch_size"),
    ("host", "starved"),
    ("compute_volume", "memory_bandwidth"),
    ("compute_volume", "compute"),
    ("batch_size", "memory_bandwidth"),
    ("batch_size", "compute"),
    *((use, outcome) for use in ("memory_bandwidth", "compute", "starved") for outcome in ("power", "time")),
    ("communication", "time"),
    ("power", "energy"),
    ("time", "energy"),
)
_CORNERS: Mapping[tuple[str, str], Sequence[tuple[float, float]]] = {
    ("gpus", "communication"): ((1, 1.5), (2, 1.75)),
    ("compute_volume", "memory_bandwidth"): ((2, 1.3),),
}
"""Where an edge bends, as stage and lane, to pass between nodes."""

_LIMITS_BATCH = ("batch_size", "memory_bandwidth", "time", "energy")
_PATHS: Mapping[Bound, tuple[str, ...]] = {
    Bound.MEMORY_CAPACITY: ("gpus", "memory_available", *_LIMITS_BATCH),
    Bound.APPLICATION_LIMIT: ("application_limit", *_LIMITS_BATCH),
    Bound.UNDER_FILLED: ("application_limit", *_LIMITS_BATCH),
    Bound.MEMORY_BANDWIDTH: ("workload", "compute_volume", "memory_bandwidth", "time", "energy"),
    Bound.COMPUTE: ("workload", "compute_volume", "compute", "time", "energy"),
    Bound.COMMUNICATION: ("gpus", "communication", "time", "energy"),
    Bound.HOST: ("host", "starved", "time", "energy"),
    Bound.LAUNCH_OVERHEAD: ("host", "starved", "time", "energy"),
    Bound.IMBALANCE: ("application_limit", *_LIMITS_BATCH),
}
"""The nodes through which a bound reaches the energy."""


def causal_graph_chart(
    values: Mapping[str, NodeValue], bound: Bound | None, *, finding: str, basis: str, width_px: int
) -> Chart:
    """Draw the graph from knobs over latents to outcomes.

    Args:
        values: What stands on the nodes, by name; a node without one shows its name only.
        bound: What binds the run; its path is lit.
        finding: What the chart shows, as a sentence.
        basis: What the values rest on.
        width_px: Width of the chart; a narrow one runs from top to bottom.
    """
    path = _PATHS[bound] if bound else ()
    place = _Place(width_px)
    nodes = pl.DataFrame([_node_row(name, node, values.get(name), path, place) for name, node in _NODES.items()])
    edges = pl.DataFrame([row for edge in _EDGES for row in _edge_rows(edge, path, place)])
    heads = pl.DataFrame([_head_row(edge, path, place) for edge in _EDGES])
    x, y = (
        alt.X("x:Q", scale=alt.Scale(domain=[0, width_px], nice=False), axis=None),
        alt.Y("y:Q", scale=alt.Scale(domain=[place.height_px, 0], nice=False), axis=None),
    )
    stroke = alt.Stroke("lit:N", scale=alt.Scale(domain=[False, True], range=[RULE, ORANGE]), legend=None)
    width = alt.StrokeWidth("lit:N", scale=alt.Scale(domain=[False, True], range=[1, 2.6]), legend=None)
    fill = alt.Fill("lit:N", scale=alt.Scale(domain=[False, True], range=[RULE, ORANGE]), legend=None)
    texts = alt.Chart(nodes)
    layers = [
        alt.Chart(edges)
        .mark_line(strokeCap="round")
        .encode(x, y, stroke, width, detail="edge:N", order="corner:Q"),
        alt.Chart(heads)
        .mark_point(shape="triangle-right", size=55, strokeWidth=0, opacity=1)
        .encode(x, y, fill, angle=alt.Angle("angle:Q", scale=None)),
        alt.Chart(nodes)
        .mark_rect(fill=RAISED, cornerRadius=5)
        .encode(
            alt.X("left:Q", axis=None),
            alt.Y("top:Q", axis=None),
            alt.X2("right:Q"),
            alt.Y2("bottom:Q"),
            stroke,
            width,
            strokeDash=alt.StrokeDash(
                "kind:N",
                scale=alt.Scale(domain=["knob", "latent", "outcome"], range=[[4, 3], [1, 0], [1, 0]]),
                legend=None,
            ),
        ),
        texts.mark_text(fontSize=10, color=MUTED, lineBreak="\n", lineHeight=11, baseline="top").encode(
            x, alt.Y("name_y:Q", axis=None), text="words:N"
        ),
        texts.mark_text(fontSize=11.5, fontWeight="bold", color=INK, baseline="bottom").encode(
            x, alt.Y("value_y:Q", axis=None), text="value:N"
        ),
    ]
    chart = alt.layer(*layers).properties(width=width_px - 4, height=place.height_px)
    return finished(chart, finding=finding, basis=basis, width_px=width_px)


class _Place:
    """Where nodes lie: along the width on a desk, along the height on a telephone."""

    def __init__(self, width_px: int) -> None:
        self.narrow = width_px < NARROWEST_TWO_COLUMNS_PX
        self.node_px = (width_px / _LANES - 8, 50.0) if self.narrow else (width_px / _STAGES - 28, 46.0)
        self.step_px = (width_px / _LANES, 84.0) if self.narrow else (width_px / _STAGES, 72.0)
        self.height_px = self.step_px[1] * (_STAGES if self.narrow else _LANES)
        self.letters = 13 if self.narrow else 18

    def at(self, stage: float, lane: float) -> tuple[float, float]:
        """Return the centre of a stage and lane in pixels."""
        across, down = (lane, stage) if self.narrow else (stage, lane)
        return self.step_px[0] * (across + 0.5), self.step_px[1] * (down + 0.5)

    def side(self, stage: float, lane: float, *, end: bool) -> tuple[float, float]:
        """Return where edges leave a node, or at its ``end`` side reach it."""
        x, y = self.at(stage, lane)
        towards = -1.0 if end else 1.0
        if self.narrow:
            return x, y + towards * self.node_px[1] / 2
        return x + towards * self.node_px[0] / 2, y


def _node_row(
    name: str, node: _Node, value: NodeValue | None, path: Sequence[str], place: _Place
) -> dict[str, object]:
    x, y = place.at(node.stage, node.lane)
    half_w, half_h = place.node_px[0] / 2, place.node_px[1] / 2
    mark = f" {BASIS_MARKS[value.basis]}" if value and value.basis else ""
    return {
        "name": name,
        "words": _folded(node.words, place.letters),
        "value": f"{_cut(value.text, place)}{mark}" if value else "",
        "kind": node.kind,
        "lit": name in path,
        "x": x,
        "y": y,
        "left": x - half_w,
        "right": x + half_w,
        "top": y - half_h,
        "bottom": y + half_h,
        "name_y": y - half_h + (6 if value else half_h - 5),
        "value_y": y + half_h - 5,
    }


def _edge_rows(edge: tuple[str, ...], path: Sequence[str], place: _Place) -> Iterator[dict[str, object]]:
    for corner, (x, y) in enumerate(_line(edge, place)):
        yield {"edge": "→".join(edge), "corner": corner, "x": x, "y": y, "lit": _is_lit(edge, path)}


def _head_row(edge: tuple[str, ...], path: Sequence[str], place: _Place) -> dict[str, object]:
    (x0, y0), (x1, y1) = list(_line(edge, place))[-2:]
    length = math.hypot(x1 - x0, y1 - y0)
    back = 4.0 / length
    return {
        "x": x1 - back * (x1 - x0),
        "y": y1 - back * (y1 - y0),
        "angle": math.degrees(math.atan2(y1 - y0, x1 - x0)),
        "lit": _is_lit(edge, path),
    }


def _line(edge: tuple[str, ...], place: _Place) -> Iterator[tuple[float, float]]:
    begin, end = (_NODES[name] for name in edge)
    yield place.side(begin.stage, begin.lane, end=False)
    for stage, lane in _CORNERS.get((edge[0], edge[1]), ()):
        yield place.at(stage, lane)
    yield place.side(end.stage, end.lane, end=True)


def _is_lit(edge: tuple[str, ...], path: Sequence[str]) -> bool:
    return any(pair == edge for pair in pairwise(path))


def _folded(words: str, letters: int) -> str:
    if len(words) <= letters and "- " not in words:
        return words
    joined = words.replace("- ", "") if len(words.replace("- ", "")) <= letters else words
    return joined if joined != words else "\n".join(_halves(words))


def _halves(words: str) -> tuple[str, str]:
    head, _, tail = words.partition(" ")
    return head, tail


def _cut(text: str, place: _Place) -> str:
    most = int(place.node_px[0] / 6.6) - 2
    return text if len(text) <= most else f"{text[: most - 1]}…"
