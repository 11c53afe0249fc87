"""What live views share: lines that change on a terminal, plain lines elsewhere; all on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from joulemap.cli.output import note

if TYPE_CHECKING:
    from rich.live import Live


class LiveLines:
    """A part of the terminal that changes, for as long as the ``with`` block lasts; nothing where there is none."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def tell(self, text: str) -> None:
        """Show a line that stays."""
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            note(text)

    def show(self, text: str) -> bool:
        """Show lines until others come; say whether there is a terminal to show them on."""
        if self._live is None:
            return False
        from rich.text import Text

        self._live.update(Text(text))
        return True
