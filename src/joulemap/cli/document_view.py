"""A document on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text as Words

from joulemap.cli.output import console, print_table
from joulemap.report.document import Block, Card, Document, Drawing, Facts, Notes, Table, Text

if TYPE_CHECKING:
    from rich.console import Console


def print_document(document: Document) -> None:
    """Print a document; charts are left to the other forms, since the tables beside them hold the numbers."""
    out = console()
    out.print(Words(document.title, style="bold"))
    out.print(Words(document.subtitle))
    out.print()
    out.print(Words(document.summary))
    for section in document.sections:
        out.print()
        out.print(Words(section.heading, style="bold"))
        for block in section.blocks:
            _print(block, out)


def _print(block: Block, out: Console) -> None:
    match block:
        case Text():
            out.print(Words(block.text))
        case Facts():
            for fact in block.facts:
                rest = ", ".join(filter(None, (fact.interval, fact.basis.value if fact.basis else "")))
                out.print(Words(f"{fact.name}: {fact.value} {fact.unit}".strip() + (f" ({rest})" if rest else "")))
        case Table():
            print_table(block.title, block.columns, block.rows, left=block.left)
        case Card():
            out.print(Words(f"{block.heading}  {f'({block.mark})' if block.mark else ''}".rstrip()))
            for name, text in block.lines:
                out.print(Padding(Words(f"{name}: {text}"), (0, 0, 0, 5), expand=False))
        case Notes():
            for text in block.texts:
                out.print(Words(f"{block.tone}: {text}"))
        case Drawing():
            pass
