"""The requests that one worker made, as columns; and what it knows of itself while it runs."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import sub
from typing import TYPE_CHECKING, Any

import msgspec

from joulemap.measure.load.failure import ErrorKind

if TYPE_CHECKING:
    from joulemap.measure.load.connection import Exchange

NO_COUNT = -1
"""Stands for a count that the server did not tell."""
COLUMNS = {
    "request_id": "q",
    "scheduled_s": "d",
    "start_s": "d",
    "connect_s": "d",
    "ttft_s": "d",
    "latency_s": "d",
    "input_tokens": "q",
    "output_tokens": "q",
    "images": "q",
    "chunks": "q",
    "decode_s": "d",
    "http_status": "h",
    "retried": "b",
}
"""Columns of the requests, with the types of ``array``."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has done so far; counts from the load's start."""

    time_s: float
    """Monotonic time of this state."""
    in_flight: int
    started: int
    completed: int
    failed: int
    content_chunks: int
    """Chunks with content, those of requests in flight included: tokens, where a chunk holds one."""
    completed_chunks: int
    """Those of completed requests."""
    output_tokens: int
    """Tokens of completed requests, as the server counts them."""
    images: int
    """Images of completed requests."""
    cpu_s: float
    """Processor time of the worker's process."""
    lag_s: float
    """How much later than due the event loop last woke up."""
    last_arrival_s: float
    """Monotonic time of the last byte from the server; 0 before the first."""

    @property
    def tokens_so_far(self) -> float:
        """Tokens that have arrived, with chunks in flight counted by the tokens per chunk of those completed."""
        per_chunk = self.output_tokens / self.completed_chunks if self.output_tokens else 1.0
        return self.output_tokens + (self.content_chunks - self.completed_chunks) * per_chunk


@dataclass(slots=True)
class Rows:
    """Requests that have ended, as columns; one entry a request, in the order in which they ended."""

    columns: dict[str, array[Any]] = field(default_factory=lambda: {n: array(c) for n, c in COLUMNS.items()})
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Row → kind and detail, of the requests that did not succeed."""
    gaps_s: array[Any] = field(default_factory=lambda: array("f"))
    """Gaps between the content chunks of a request, one request after the other."""

    def __len__(self) -> int:
        return len(self.columns["request_id"])

    def extend(self, more: Rows) -> None:
        """Append other rows to these."""
        before = len(self)
        for name, column in self.columns.items():
            column.extend(more.columns[name])
        self.errors.update({before + row: error for row, error in more.errors.items()})
        self.gaps_s.extend(more.gaps_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResult:
    """What one worker hands over at its end."""

    worker: int
    rows: Rows
    """The requests that have not been handed over before."""
    started_s: float
    """Monotonic time of the load's start."""
    stopped_s: float
    """Monotonic time when no more requests were begun."""
    wall_offset_s: float
    """Unix time − monotonic time, at the start."""
    wall_step_s: float
    """How much that offset changed until the end: a step of the wall clock."""
    peak_rss_bytes: int
    gave_up: str = ""
    """Why the worker ended the load itself; empty if it did not."""


class Ledger:
    """Collects finished exchanges into rows."""

    def __init__(self) -> None:
        self._rows = Rows()
        self.completed = self.failed = self.images = 0
        self.content_chunks = self.completed_chunks = self.output_tokens = 0

    def take(self) -> Rows:
        """Hand over the rows collected since the last call."""
        rows, self._rows = self._rows, Rows()
        return rows

    def add(self, exchange: Exchange, detail: str) -> None:
        """Enter an exchange that has ended; ``detail`` is its error's text, free of keys."""
        rows = self._rows
        arrivals_s = exchange.content_s
        row = (
            exchange.number,
            exchange.scheduled_s,
            exchange.start_s,
            exchange.connect_s,
            arrivals_s[0] - exchange.start_s if arrivals_s else float("nan"),
            exchange.end_s - exchange.start_s,
            NO_COUNT if exchange.input_tokens is None else exchange.input_tokens,
            NO_COUNT if exchange.output_tokens is None else exchange.output_tokens,
            exchange.images,
            len(arrivals_s),
            arrivals_s[-1] - arrivals_s[0] if arrivals_s else 0.0,
            exchange.status,
            exchange.retried,
        )
        for column, value in zip(rows.columns.values(), row, strict=True):
            column.append(value)
        rows.gaps_s.extend(map(sub, arrivals_s[1:], arrivals_s))
        self.content_chunks += len(arrivals_s)
        if exchange.error is None:
            self.completed += 1
            self.completed_chunks += len(arrivals_s)
            self.output_tokens += exchange.output_tokens or 0
            self.images += exchange.images
        else:
            self.failed += exchange.error is not ErrorKind.UNFINISHED
            rows.errors[len(rows) - 1] = (exchange.error.value, detail)


NOTHING_YET = Progress(
    time_s=0.0,
    in_flight=0,
    started=0,
    completed=0,
    failed=0,
    content_chunks=0,
    completed_chunks=0,
    output_tokens=0,
    images=0,
    cpu_s=0.0,
    lag_s=0.0,
    last_arrival_s=0.0,
)
"""The state of a worker that has not told any."""


def history(samples: Sequence[Sequence[Progress]]) -> list[Progress]:
    """Return the state of several workers together, at each moment at which one of them told its own.

    Args:
        samples: Each worker's states, in order of time.
    """
    latest = [NOTHING_YET] * len(samples)
    told = sorted(
        ((state.time_s, worker, state) for worker, states in enumerate(samples) for state in states),
        key=lambda entry: entry[0],
    )
    together = []
    for _, worker, state in told:
        latest[worker] = state
        together.append(merged(latest))
    return together


def merged(states: Iterable[Progress]) -> Progress:
    """Return the state of several workers together: counts added, times and lag the latest and largest."""
    known = list(states)
    return Progress(
        time_s=max(s.time_s for s in known),
        in_flight=sum(s.in_flight for s in known),
        started=sum(s.started for s in known),
        completed=sum(s.completed for s in known),
        failed=sum(s.failed for s in known),
        content_chunks=sum(s.content_chunks for s in known),
        completed_chunks=sum(s.completed_chunks for s in known),
        output_tokens=sum(s.output_tokens for s in known),
        images=sum(s.images for s in known),
        cpu_s=sum(s.cpu_s for s in known),
        lag_s=max(s.lag_s for s in known),
        last_arrival_s=max(s.last_arrival_s for s in known),
    )
