"""Which configuration of a sweep comes next: the whole grid in order, unless a chooser knows better."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol


class Chooser(Protocol):
    """Chooses what is measured next."""

    def next(self, ready: Sequence[str], running: Collection[str]) -> str | None:
        """Return one of the configurations that could begin now, ``None`` if none of them is worth it now.

        Args:
            ready: Configurations that have not begun and for which there is room, in the grid's order.
            running: Configurations that have begun and not ended.
        """
        ...

    def measured(self, configuration_id: str, row: Mapping[str, Any]) -> None:
        """Take note of what was measured: ``row`` has the columns of the run table."""
        ...

    def failed(self, configuration_id: str, *, fits: bool) -> None:
        """Take note that a configuration gave no run; ``fits`` is false if it found too little memory."""
        ...

    def left_out(self) -> Mapping[str, str]:
        """Return why configurations are not worth measuring, as known now."""
        ...


class WholeGrid:
    """Every configuration, in the grid's order."""

    def next(self, ready: Sequence[str], running: Collection[str]) -> str | None:  # noqa: ARG002
        """Return the first."""
        return ready[0] if ready else None

    def measured(self, configuration_id: str, row: Mapping[str, Any]) -> None:
        """Nothing follows from it."""

    def failed(self, configuration_id: str, *, fits: bool) -> None:
        """Nothing follows from it."""

    def left_out(self) -> Mapping[str, str]:
        """Return nothing: all are worth it."""
        return {}
