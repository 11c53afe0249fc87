"""What a session shows to other processes while it goes on: a small file, replaced each second."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from joulemap.clock import Clock, SystemClock
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.level import LevelState
from joulemap.measure.session.session import Observer
from joulemap.records import Run

EVERY_S = 1.0
"""Time between two writings: often enough to watch, too seldom to disturb what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedState:
    """Where a level stands; the windows that are complete are in the journal."""

    level: str
    phase: str
    output_unit: str
    elapsed_s: float
    in_flight: float
    output_throughput_per_s: float
    power_w: float | None
    kv_cache_utilization: float | None
    basis: str
    """Of power and energy."""
    written_unix_s: float
    """When this was written: a measurement that was killed says nothing any more."""


def state_file(folder: Path, session_id: str) -> Path:
    """Return where a session's state is, in the folder of journals."""
    return folder / f"{session_id}.state.json"


def read_state(folder: Path, session_id: str) -> PublishedState | None:
    """Return the state of a session, ``None`` where none is told."""
    try:
        told: dict[str, Any] = json.loads(state_file(folder, session_id).read_bytes())
        return PublishedState(**told)
    except (OSError, ValueError, TypeError):
        return None


class Published:
    """Passes everything on to another observer, and writes the state for other processes.

    Args:
        inner: The observer proper.
        instruments: What watches.
        file: Where to write; removed when the session ends.
        clock: Time.
    """

    def __init__(
        self, inner: Observer, instruments: Instruments, file: Path, *, clock: Clock | None = None
    ) -> None:
        self._inner = inner
        self._instruments = instruments
        self._file = file
        self._clock = clock or SystemClock()
        self._unit = ""
        self._due_s = 0.0

    def level_begins(self, name: str, unit: str) -> None:
        """Pass it on."""
        self._unit = unit
        self._inner.level_begins(name, unit)

    def state(self, name: str, state: LevelState) -> None:
        """Pass it on, and write it once a second."""
        self._inner.state(name, state)
        now_s = self._clock.monotonic_s()
        if now_s >= self._due_s:
            self._due_s = now_s + EVERY_S
            self._write(name, state)

    def level_ends(self, name: str, run: Run | None, why: str) -> None:
        """Pass it on; the run is in the journal."""
        self._inner.level_ends(name, run, why)
        self._file.unlink(missing_ok=True)

    def _write(self, name: str, state: LevelState) -> None:
        told = PublishedState(
            level=name,
            phase=state.phase,
            output_unit=self._unit,
            elapsed_s=state.elapsed_s,
            in_flight=state.in_flight,
            output_throughput_per_s=state.output_throughput_per_s,
            power_w=state.power_w,
            kv_cache_utilization=self._instruments.kv_cache_utilization(),
            basis=self._instruments.basis.value,
            written_unix_s=self._clock.now().timestamp(),
        )
        partial = self._file.with_name(f".{self._file.name}.partial")
        # Whoever watches may miss a second; the measurement must not fail for it.
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps(asdict(told)), encoding="utf-8")
            partial.replace(self._file)
