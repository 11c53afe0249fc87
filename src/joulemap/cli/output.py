"""What every verb shares: the store and JSON options, tables on stdout, notes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from joulemap.cli.progress import waiting
from joulemap.report.numbers import figure as figure
from joulemap.store.run_store import STORE_ENVIRONMENT_VARIABLE, RunStore, open_store

if TYPE_CHECKING:
    from rich.console import Console


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every verb that reads the store."""

    store: Annotated[str | None, Parameter(env_var=STORE_ENVIRONMENT_VARIABLE)] = None
    """Folder of the run store, or its URL such as s3://bucket/prefix; by default a folder among the user's data."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print JSON on standard output."""

    def open(self) -> RunStore:
        """Open the store and say which of its files are damaged."""
        store = open_store(self.store)
        with waiting(f"reading the run store {store.address}"):
            _ = store.run_ids
        for part in store.damaged:
            where = f"set aside as {part.moved_to}" if part.moved_to else "left where it is"
            note(f"warning: {part.name} is damaged ({part.reason}) and was {where}; all other runs are loaded")
        return store


def print_json(payload: Any) -> None:
    """Print a payload as JSON on standard output, escaped where its encoding is not UTF-8.

    Raises:
        ValueError: A number is not finite.
    """
    escaped = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(payload, indent=2, ensure_ascii=escaped, allow_nan=False, default=str) + "\n")


def note(text: str) -> None:
    """Print a note on standard error."""
    sys.stderr.write(text + "\n")


def console() -> Console:
    """Return the console of standard output."""
    from rich.console import Console

    # A file or pipe has no width; lines are then as long as a wide terminal's.
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 150)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: int = 1,
    spare: Sequence[str] = (),
) -> None:
    """Print a table: the first ``left`` columns flush left, the others (numbers) flush right.

    Names and numbers are never broken over two lines. On a terminal too narrow for them all, the columns named
    in ``spare`` are left out, the first first, which a note says; on one narrower still, whole lines wrap.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = console()
    kept = list(range(len(columns)))
    dropped: list[str] = []
    narrowest = [_least_width(column, [row[i] for row in rows], i < left) for i, column in enumerate(columns)]
    for name in spare if out.is_terminal else ():
        if _table_width([narrowest[i] for i in kept]) <= out.width:
            break
        kept = [i for i in kept if columns[i] != name]
        dropped.append(name)
    widths = _fitted(
        [max(_width(text) for text in (columns[i], *(row[i] for row in rows))) for i in kept],
        [narrowest[i] for i in kept],
        out.width,
    )
    table = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for i, width in zip(kept, widths, strict=True):
        heading = _folded_name(columns[i], width)
        table.add_column(Text(heading), justify="left" if i < left else "right", width=width, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[i]) for i in kept))
    if dropped:
        note(f"left out, for {out.width} columns are too narrow: {', '.join(dropped)}")
    out.width = max(out.width, _table_width(widths))
    out.print(table)


def _width(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


def _least_width(heading: str, cells: Sequence[str], is_text: bool) -> int:
    """Return how narrow a column can be: texts fold between words, headings at underscores too, numbers nowhere."""
    words = [word for cell in cells for word in (cell.split() if is_text else cell.splitlines())]
    return max(map(len, [*heading.replace("_", "_ ").split(), *words]), default=0)


def _table_width(widths: Sequence[int]) -> int:
    """Return the width of the table: two blanks and a divider between columns, one blank at each edge."""
    return sum(widths) + 3 * (len(widths) - 1) + 2


def _fitted(natural: Sequence[int], least: Sequence[int], available: int) -> list[int]:
    """Narrow the widest columns first until the table fits, or nothing can be narrowed further."""
    widths = list(natural)
    while _table_width(widths) > available:
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]), default=None)
        if widest is None or widths[widest] <= least[widest]:
            break
        widths[widest] -= 1
    return widths


def _folded_name(name: str, width: int) -> str:
    """Return a heading with breaks at its underscores where it is wider than its column."""
    if len(name) <= width or "_" not in name:
        return name
    lines = [""]
    for piece in name.replace("_", "_ ").split():
        if len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)
