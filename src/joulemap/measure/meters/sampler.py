"""A thread that reads a source at a steady rate and keeps everything it read, whatever happens to the source."""

from __future__ import annotations

import math
import operator
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.clock import Clock, SystemClock
from joulemap.errors import JoulemapError, MeterError, UsageError
from joulemap.measure.meters.meter import Reading, Source
from joulemap.units import S_PER_US

CLOCK_STEP_S = 0.1
"""A wall clock that moves this much against the monotonic clock between two reads was set, not slewed."""
FIRST_ROWS = 1024
LOOK_BACK_S = 120.0
"""How far before a window its counter is looked for: no window bridges a longer silence."""
KEPT_STEPS = 1000
"""Clock steps that are remembered, the latest."""


class Row(Protocol):
    """What rows of every source have in common: the device, and why fields are missing."""

    @property
    def device(self) -> str:
        """Name of the device."""
        ...


RowT = TypeVar("RowT", bound=Row)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStep:
    """The wall clock was set during sampling."""

    mono_s: float
    step_s: float
    """How far it jumped; positive is forward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerStatus:
    """How the sampling itself went."""

    reads: int
    skipped: int
    """Reads left out because the one before took too long."""
    clock_steps: tuple[ClockStep, ...]
    error: JoulemapError | None
    """Why the source stopped before the sampler did."""
    missing: dict[str, dict[str, str]]
    """Why fields were ``None``, by device and field; the last reason seen."""


class Sampler(Generic[RowT]):
    """Reads a source on a drift-free schedule in a background thread; it starts and stops once.

    A source that fails ends the sampling; what was read before stays, and ``status().error`` names the cause.
    Reads that come too late are skipped, never made up for in a burst. Tests drive ``read_once`` themselves.

    Args:
        source: What to read; the sampler does not close it.
        row_type: The dataclass of the source's rows; its ``float`` and ``str`` fields become columns.
        rate_hz: Reads per second.
        clock: Time for the schedule and for noticing a stepped wall clock.
        on_read: Called in the sampling thread with every reading, for a live view or a journal.
        keep_s: How far back readings are kept at least; all of them by default.
        counter: A column that is not in every reading: what brackets a window holds its last value before.

    Raises:
        UsageError: The rate is not a positive number.
    """

    def __init__(
        self,
        source: Source[RowT],
        row_type: type[RowT],
        *,
        rate_hz: float = 10.0,
        clock: Clock | None = None,
        on_read: Callable[[Reading[RowT]], None] | None = None,
        keep_s: float | None = None,
        counter: str | None = None,
    ) -> None:
        if not (math.isfinite(rate_hz) and rate_hz > 0):
            msg = f"a sampling rate must be a positive number of Hz, not {rate_hz!r}"
            raise UsageError(msg)
        self.source = source
        self.period_s = 1.0 / rate_hz
        self._clock = clock or SystemClock()
        self._on_read = on_read
        self._table = _Table(row_type, keep_s, counter)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: Reading[RowT] | None = None
        self._offset_s: float | None = None
        self._steps: deque[ClockStep] = deque(maxlen=KEPT_STEPS)
        self._error: JoulemapError | None = None
        self._reads = 0
        self._skipped = 0

    def __enter__(self) -> Sampler[RowT]:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Read once, so that a source that cannot be read is known at once, then go on in the background.

        Raises:
            JoulemapError: The first read failed.
        """
        if self._thread is not None:
            return
        if not self.read_once() and self._error is not None:
            raise self._error
        self._thread = threading.Thread(target=self._loop, name="joulemap-sampler", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the sampling with one last read; a source that hangs is left behind after ``timeout_s`` seconds."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            msg = f"the source did not answer within {timeout_s:g} s"
            self._error = self._error or MeterError(msg)
        elif self._error is None:
            self.read_once()
        self._thread = None

    def read_once(self) -> bool:
        """Read the source once and keep the rows; return whether the source is still alive."""
        try:
            reading = self.source.read()
        except JoulemapError as error:
            self._error = error
            return False
        except Exception as error:  # noqa: BLE001 - a third party's meter must not lose what was measured
            msg = f"the source failed with {type(error).__name__}: {error}"
            self._error = MeterError(msg)
            return False
        with self._lock:
            self._note_clock(reading)
            self._table.append(reading)
            self._last = reading
            self._reads += 1
        if self._on_read is not None:
            self._on_read(reading)
        return True

    def latest(self) -> Reading[RowT] | None:
        """Return the newest reading, for a live view."""
        return self._last

    def counted_s(self) -> float | None:
        """Return the time of the last reading that held the counter; ``None`` if none did."""
        return self._table.counted_s

    def frame(self, since_s: float | None = None) -> pl.DataFrame:
        """Return the rows so far: ``device``, ``t_wall`` (UTC), ``t_mono_s`` and a column per field.

        Args:
            since_s: Leave out readings before this monotonic time, except those from the last one before it that
                holds the counter, if there is one; they bracket a window that begins there. A live view need not
                copy hours of readings.
        """
        with self._lock:
            return self._table.to_frame(since_s)

    def status(self) -> SamplerStatus:
        """Return how the sampling went so far."""
        with self._lock:
            return SamplerStatus(
                reads=self._reads,
                skipped=self._skipped,
                clock_steps=tuple(self._steps),
                error=self._error,
                missing={device: dict(reasons) for device, reasons in self._table.missing.items()},
            )

    def _loop(self) -> None:
        begin_s = self._clock.monotonic_s()
        tick = 1
        while not self._stop.wait(max(0.0, begin_s + tick * self.period_s - self._clock.monotonic_s())):
            if not self.read_once():
                return
            due = next_tick(begin_s, self.period_s, self._clock.monotonic_s())
            self._skipped += max(0, due - tick - 1)
            tick = max(due, tick + 1)

    def _note_clock(self, reading: Reading[RowT]) -> None:
        offset_s = reading.wall.timestamp() - reading.mono_s
        if self._offset_s is not None and abs(offset_s - self._offset_s) > CLOCK_STEP_S:
            self._steps.append(ClockStep(mono_s=reading.mono_s, step_s=offset_s - self._offset_s))
        self._offset_s = offset_s


def next_tick(begin_s: float, period_s: float, now_s: float) -> int:
    """Return the number of the first tick after ``now_s`` on the schedule ``begin_s + tick × period_s``.

    >>> next_tick(100.0, 0.5, 101.2)
    3
    """
    return math.floor((now_s - begin_s) / period_s) + 1


class _Table(Generic[RowT]):
    """Rows in growing NumPy columns: numbers as floats, texts as codes."""

    def __init__(self, row_type: type[RowT], keep_s: float | None, counter: str | None) -> None:
        self._keep_s = keep_s
        described = {f.name: str(f.type) for f in fields(row_type)}  # type: ignore[arg-type]
        self._numbers = [n for n, t in described.items() if t in {"float", "float | None", "int", "int | None"}]
        self._texts = [n for n, t in described.items() if t == "str"]
        self._take_numbers = _getter(self._numbers)
        self._take_texts = _getter(self._texts)
        self._values: NDArray[np.float64] = np.empty((FIRST_ROWS, len(self._numbers) + 2))
        self._codes: NDArray[np.int32] = np.empty((FIRST_ROWS, len(self._texts)), dtype=np.int32)
        self._vocabulary: dict[str, int] = {}
        self._used = 0
        self._counter = None if counter is None else self._numbers.index(counter) + 2
        self.counted_s: float | None = None
        self._reasons = "missing" in described
        self.missing: dict[str, dict[str, str]] = {}

    def append(self, reading: Reading[RowT]) -> None:
        need = self._used + len(reading.rows)
        if need > len(self._values):
            self._make_room(len(reading.rows), reading.mono_s)
        wall_s, mono_s = reading.wall.timestamp(), reading.mono_s
        for row in reading.rows:
            # NumPy writes None as NaN, which frame() turns into null.
            self._values[self._used] = (wall_s, mono_s, *self._take_numbers(row))
            self._codes[self._used] = [
                self._vocabulary.setdefault(text, len(self._vocabulary)) for text in self._take_texts(row)
            ]
            if self._counter is not None and not np.isnan(self._values[self._used, self._counter]):
                self.counted_s = mono_s
            self._used += 1
            if self._reasons and (missing := row.missing):  # type: ignore[attr-defined]
                self.missing.setdefault(row.device, {}).update(missing)

    def _make_room(self, rows: int, now_s: float) -> None:
        """Forget what need not be kept; grow where that frees less than half."""
        if self._keep_s is not None:
            first = self._first(now_s - self._keep_s)
            left = self._used - first
            self._values[:left] = self._values[first : self._used]
            self._codes[:left] = self._codes[first : self._used]
            self._used = left
        if 2 * (self._used + rows) > len(self._values):
            size = max(self._used + rows, 2 * len(self._values))
            self._values = np.resize(self._values, (size, self._values.shape[1]))
            self._codes = np.resize(self._codes, (size, self._codes.shape[1]))

    def _first(self, since_s: float) -> int:
        """Return the first row of the last reading at or before a time; 0 if there is none.

        With a counter it is the last reading that holds it, if there is one.
        """
        times = self._values[: self._used, 1]
        after = int(np.searchsorted(times, since_s, side="right"))
        if not after:
            return 0
        last = after - 1
        if self._counter is not None:
            earliest = int(np.searchsorted(times, since_s - LOOK_BACK_S))
            known = np.flatnonzero(~np.isnan(self._values[earliest:after, self._counter]))
            last = earliest + int(known[-1]) if known.size else last
        # All devices of one reading share its time.
        return int(np.searchsorted(times, times[last], side="left"))

    def to_frame(self, since_s: float | None) -> pl.DataFrame:
        first = 0 if since_s is None else self._first(since_s)
        values = self._values[first : self._used]
        words = pl.Series(list(self._vocabulary), dtype=pl.String)
        codes = {name: self._codes[first : self._used, i].astype(np.uint32) for i, name in enumerate(self._texts)}
        texts = {name: words.gather(pl.Series(column)) for name, column in codes.items()}
        wall_us = np.round(values[:, 0] / S_PER_US).astype(np.int64)
        wall = pl.Series("t_wall", wall_us, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
        numbers = {name: values[:, i + 2].copy() for i, name in enumerate(self._numbers)}
        columns = {
            "device": texts.pop("device"),
            "t_wall": wall,
            "t_mono_s": values[:, 1].copy(),
            **numbers,
            **texts,
        }
        return pl.DataFrame(columns).with_columns(pl.col(self._numbers).fill_nan(None))


def _getter(names: list[str]) -> Callable[[object], tuple[Any, ...]]:
    if not names:
        return lambda _row: ()
    take = operator.attrgetter(*names)
    return take if len(names) > 1 else lambda row: (take(row),)


def moment(frame: pl.DataFrame, wall: datetime) -> float:
    """Return the monotonic time of a wall-clock moment, by the frame's own pairs of stamps.

    Raises:
        MeterError: The frame is empty.
    """
    if frame.is_empty():
        msg = "an empty recording cannot place a moment"
        raise MeterError(msg)
    walls = frame["t_wall"].dt.epoch("us").to_numpy() * S_PER_US
    offset_s = float(np.median(walls - frame["t_mono_s"].to_numpy()))
    return wall.astimezone(UTC).timestamp() - offset_s
