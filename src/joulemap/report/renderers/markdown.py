"""A document as Markdown; charts are described in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from joulemap.report.document import Block, Card, Document, Drawing, Facts, Notes, Table, Text

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def markdown_of(document: Document) -> str:
    """Return a document as Markdown; every text of it is shown as it is, markup in it included."""
    lines = [
        f"# {_escaped(document.title)}",
        "",
        _escaped(document.subtitle),
        "",
        f"**{_escaped(document.summary)}**",
    ]
    for section in document.sections:
        lines += ["", f"## {_escaped(section.heading)}"]
        for block in section.blocks:
            rendered = list(_block(block))
            lines += ["", *rendered] if rendered else []
    return "\n".join(lines) + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield _escaped(block.text)
        case Facts():
            for fact in block.facts:
                rest = ", ".join(filter(None, (fact.interval, fact.basis.value if fact.basis else "")))
                value = f"{fact.value} {fact.unit}".strip()
                yield f"- {_escaped(fact.name)}: **{_escaped(value)}**{f' ({_escaped(rest)})' if rest else ''}"
        case Table():
            yield from _table(block)
        case Card():
            mark = f" ({_escaped(block.mark)})" if block.mark else ""
            yield f"### {_escaped(block.heading)}{mark}"
            yield ""
            for name, text in block.lines:
                yield f"- {_escaped(name)}: {_escaped(text)}"
        case Notes():
            yield from (f"> {_escaped(text)}" for text in block.texts)
        case Drawing():
            return  # the tables beside it hold the numbers


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"{_escaped(table.title)}:"
        yield ""
    yield _row(table.columns)
    yield "|" + "|".join("---" if i < table.left else "---:" for i in range(len(table.columns))) + "|"
    yield from (_row(row) for row in table.rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
