"""A progress line on standard error, for work that turns out to take a while."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SHOWN_AFTER_S = 2.0


class LateProgress:
    """Shows a progress line once the work has taken :data:`SHOWN_AFTER_S`, and only on a terminal."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar[0].stop()

    def update(self, text: str, done: int, total: int | None = None) -> None:
        """Show how far the work is.

        Args:
            text: What is being done.
            done: How much of it is done.
            total: How much there is; ``None`` if unknown.
        """
        if self._bar is None:
            if time.monotonic() - self._begun_s < SHOWN_AFTER_S or not sys.stderr.isatty():
                return
            self._bar = self._start(text)
        bar, task = self._bar
        bar.update(task, description=text, completed=done, total=total)

    def _start(self, text: str) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        bar.start()
        return bar, bar.add_task(text, total=None)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show, as :class:`LateProgress` does, that something which does not say how far it is still goes on.

    Args:
        text: What is waited for.
    """
    with LateProgress() as shown:
        timer = threading.Timer(SHOWN_AFTER_S, shown.update, (text, 0))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
