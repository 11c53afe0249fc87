"""Work that runs in a thread of this process: the loop that all in-process work shares."""

from __future__ import annotations

import threading
from collections.abc import Callable

from joulemap.errors import MeasurementError

JOIN_S = 120.0
"""A step that is under way is waited for so long; a video can take minutes."""


class WorkThread:
    """Repeats a step until told to stop; what the step raises becomes the work's failure.

    Args:
        step: Does one unit of work.
        name: What is done, for messages.
    """

    def __init__(self, step: Callable[[], None], name: str) -> None:
        self._step = step
        self._name = name
        self._stop = threading.Event()
        self._failure: MeasurementError | None = None
        self._thread = threading.Thread(target=self._loop, name="joulemap-work", daemon=True)

    @property
    def failure(self) -> MeasurementError | None:
        """Why the loop ended by itself."""
        return self._failure

    @property
    def stopping(self) -> bool:
        """Whether the loop was told to stop; a long step may look."""
        return self._stop.is_set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is under way, and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def _loop(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
        except MeasurementError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001 - a model's own error must not lose the windows before it
            msg = f"{self._name} failed: {type(error).__name__}: {first_line(error)}"
            self._failure = MeasurementError(msg)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; CUDA's run over many."""
    return (str(error).strip().splitlines() or [""])[0][:300]
