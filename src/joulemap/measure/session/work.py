"""What a session must know of the work that it measures, whoever does it: a server, or this very process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from joulemap.errors import MeasurementError

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Progress:
    """How far the work had come at each of a series of moments; all arrays have the same length."""

    time_s: Series
    """Monotonic time, rising."""
    in_flight: Series
    """Requests under way."""
    outputs: Series
    """Outputs (tokens, images, videos) since the start; fractional where estimated from chunks."""
    completed: Series
    """Requests completed since the start."""
    failed: Series
    """Requests failed since the start."""

    @staticmethod
    def of(rows: list[tuple[float, float, float, float, float]]) -> Progress:
        """Return rows of (time, in flight, outputs, completed, failed) as columns."""
        table = np.array(rows, dtype=np.float64).reshape(len(rows), 5)
        return Progress(
            time_s=table[:, 0],
            in_flight=table[:, 1],
            outputs=table[:, 2],
            completed=table[:, 3],
            failed=table[:, 4],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkDone:
    """What the work tells of a window, once it has ended."""

    outputs: float
    """Outputs that fell into the window."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Values for :class:`~joulemap.records.Measured` by field name: latencies, counts, throughputs."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a field that one would expect is not in ``measured``."""
    mean_input_tokens: float | None = None
    mean_output_tokens: float | None = None
    faults: tuple[str, ...] = ()
    """What makes the window invalid, as seen from the work's side."""
    notes: tuple[str, ...] = ()
    """What a careful reader should know."""


class Work(Protocol):
    """Work at one level. It runs by itself, in another thread or process, between ``start`` and ``stop``."""

    target_in_flight: float | None
    """Requests that are to be in flight; ``None`` where none can be stated, as in an open loop."""
    mixes: bool
    """Whether requests begin together and drift apart, so that the batch is at first at one stage."""

    def start(self) -> None:
        """Begin.

        Raises:
            MeasurementError: It cannot begin.
        """
        ...

    def progress(self) -> Progress:
        """Return everything that is known so far."""
        ...

    def boundaries_s(self) -> Series | None:
        """Return the times at which a unit of work was complete, where windows must hold whole units.

        A batch of images is all or nothing: a window that ends in its middle would count joules without images.
        ``None`` means that windows may end anywhere.
        """
        ...

    def failure(self) -> MeasurementError | None:
        """Return why the work has ended by itself, ``None`` while it goes on."""
        ...

    def stop(self) -> None:
        """End the work and wait until it has ended; a second call does nothing."""
        ...

    def outputs_between(self, begin_s: float, end_s: float) -> float:
        """Return the outputs of a window; after ``stop`` only, when counts may be better known than meanwhile."""
        ...

    def done(self, begin_s: float, end_s: float) -> WorkDone:
        """Return what the work knows of a window; after ``stop`` only."""
        ...

    def timeline(self) -> Mapping[str, object]:
        """Return tables (Polars frames) of what happened, by name; after ``stop`` only."""
        ...
