"""What every verb shares: the store and JSON options, tables on stdout, notes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from joulemap.store.run_store import STORE_ENVIRONMENT_VARIABLE, RunStore, open_store

if TYPE_CHECKING:
    from rich.console import Console


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every verb that reads the store."""

    store: Annotated[Path | None, Parameter(env_var=STORE_ENVIRONMENT_VARIABLE)] = None
    """Folder of the run store; by default one in the user's data folder."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print JSON on standard output."""

    def open(self) -> RunStore:
        """Open the store and say which of its files are damaged."""
        store = open_store(self.store)
        _ = store.frame
        for part in store.damaged:
            where = f"set aside as {part.moved_to}" if part.moved_to else "left where it is"
            note(f"warning: {part.name} is damaged ({part.reason}) and was {where}; all other runs are loaded")
        return store


def print_json(payload: Any) -> None:
    """Print a payload as JSON on standard output; numbers that are not finite become ``null``."""
    sys.stdout.write(json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def note(text: str) -> None:
    """Print a note on standard error."""
    sys.stderr.write(text + "\n")


def console() -> Console:
    """Return the console of standard output."""
    from rich.console import Console

    # A file or pipe has no width; lines are then as long as a wide terminal's.
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 150)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table: the first ``left`` columns flush left, the others (numbers) flush right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if position < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with ``digits`` significant digits and thousands separators; ``–`` for ``None``.

    >>> figure(1234.5), figure(0.012345), figure(None)
    ('1,234', '0.0123', '–')
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"
