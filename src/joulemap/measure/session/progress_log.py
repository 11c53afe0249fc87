"""Progress, noted step by step by whoever does the work, and read at any time by who measures it."""

from __future__ import annotations

import threading

import numpy as np

from joulemap.measure.session.work import Progress, Series

FIRST_ROWS = 4096
COLUMNS = 5


class ProgressLog:
    """A growing table of progress; one thread writes, others read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows = np.empty((FIRST_ROWS, COLUMNS))
        self._used = 0

    def add(self, time_s: float, in_flight: float, outputs: float, completed: float, failed: float = 0.0) -> None:
        """Note the state at a time; counts are those since the start."""
        with self._lock:
            if self._used == len(self._rows):
                self._rows = np.resize(self._rows, (2 * len(self._rows), COLUMNS))
            self._rows[self._used] = (time_s, in_flight, outputs, completed, failed)
            self._used += 1

    def read(self) -> Progress:
        """Return everything noted so far."""
        with self._lock:
            # What is written once is not changed any more, so that a view is enough.
            rows = self._rows[: self._used]
        return Progress(
            time_s=rows[:, 0],
            in_flight=rows[:, 1],
            outputs=rows[:, 2],
            completed=rows[:, 3],
            failed=rows[:, 4],
        )

    def last_time_s(self) -> float | None:
        """Return the newest time, ``None`` before the first."""
        with self._lock:
            return float(self._rows[self._used - 1, 0]) if self._used else None

    def outputs_between(self, begin_s: float, end_s: float) -> float:
        """Return the outputs between two times, interpolated."""
        progress = self.read()
        if not progress.time_s.size:
            return 0.0
        return float(np.diff(np.interp([begin_s, end_s], progress.time_s, progress.outputs))[0])


def between(times_s: Series, begin_s: float, end_s: float) -> slice:
    """Return the slice of rising times that lie in ``[begin_s, end_s)``."""
    first, last = np.searchsorted(times_s, [begin_s, end_s])
    return slice(int(first), int(last))
