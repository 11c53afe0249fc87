"""A document: sections of texts, facts, tables, charts and findings, which every renderer knows how to show.

What is in it is final: cells are texts already, charts are functions of their width that only draw. Renderers
choose the form, never the content. All texts are plain: whoever renders them escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from joulemap.notebook import ShownInNotebooks
from joulemap.records import Basis

if TYPE_CHECKING:
    from joulemap.study.figures.theme import Chart

WIDE_PX = 760
"""Width of a chart on a page for a desk, and on paper."""
NARROW_PX = 350
"""Width of a chart on a page for a telephone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number that matters, with what it rests on."""

    name: str
    value: str
    unit: str = ""
    interval: str = ""
    """90 % interval; empty where none is known."""
    basis: Basis | None = None
    """``None`` for what is no quantity, such as the name of a bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A few numbers side by side."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    """How many columns hold words; the others hold numbers."""
    folded: bool = False
    """Whether a page shows the table only on demand, since a chart beside it shows the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A chart, drawn when a renderer asks for it."""

    name: str
    """Its name in file names and anchors: lower case and hyphens."""
    draw: Callable[[int], Chart]
    """Returns the chart at a width in pixels."""
    fixed: bool = False
    """Whether it has one width, whatever is asked for; a telephone then scrolls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A finding, a claim or a step: a heading and named lines."""

    heading: str
    mark: str = ""
    """A word beside the heading, such as the confidence."""
    lines: tuple[tuple[str, str], ...] = ()
    """Name and text of each line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a careful reader should know."""

    texts: tuple[str, ...]
    tone: Literal["note", "warning"] = "note"


Block: TypeAlias = Text | Facts | Table | Drawing | Card | Notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section; ``name`` is its anchor."""

    name: str
    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document(ShownInNotebooks):
    """A report of one kind."""

    kind: str
    """What it reports on: ``run``, ``explanation``, ``sweep`` …"""
    title: str
    subtitle: str
    summary: str
    """The answer, in a sentence or two."""
    sections: tuple[Section, ...]
    payload: Mapping[str, Any] = field(repr=False)
    """The JSON form of everything that the document shows."""

    def drawings(self) -> tuple[Drawing, ...]:
        """Return every chart, in order."""
        return tuple(b for s in self.sections for b in s.blocks if isinstance(b, Drawing))
