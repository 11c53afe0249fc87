"""Measurements as their journals tell them, those in progress too; measuring happens in a process of its own."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from joulemap.errors import StoreError
from joulemap.measure.session.journal import Journaled, JournaledLevel, read_journal
from joulemap.measure.session.published import PublishedState, read_state, state_file
from joulemap.measure.session.windows import Estimate, Ratio, estimate
from joulemap.store.run_store import RunStore

SILENT_S = 15.0
"""A measurement that has written nothing for so long has died, or waits for something that does not come."""
LISTED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSeen:
    """One level of a session."""

    name: str
    unit: str
    basis: str
    """Of its energy."""
    windows: int
    told: Estimate | None
    run_id: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        told = self.told
        energy = None if told is None else told.energy_per_output_j
        power = None if told is None else told.power_w
        rate = None if told is None else told.output_throughput_per_s
        return {
            "level": self.name,
            "windows": self.windows,
            "energy_per_output_j": _ratio(energy, f"J/{self.unit}", self.basis),
            "power_w": _ratio(power, "W", self.basis),
            "output_throughput_per_s": _ratio(rate, f"{self.unit}/s", "measured"),
            "run_id": self.run_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSeen:
    """A session: its levels, and the state of the one that is being measured."""

    session_id: str
    written_unix_s: float
    finished: bool
    model: str
    levels: tuple[LevelSeen, ...]
    state: PublishedState | None
    """``None`` where nothing is being measured."""
    silent_s: float
    """How long nothing was written."""

    @property
    def in_progress(self) -> bool:
        """Whether it is being measured now."""
        return not self.finished and self.silent_s < SILENT_S

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "session": self.session_id,
            "finished": self.finished,
            "in_progress": self.in_progress,
            "model": self.model or None,
            "levels": [level.to_json() for level in self.levels],
            "state": None if self.state is None else asdict(self.state),
        }


def sessions_of(store: RunStore) -> list[SessionSeen]:
    """Return the newest sessions of a store, newest first; a journal that cannot be read is left out."""
    folder = store.sessions_folder
    found = sorted(folder.glob("*.jsonl"), key=_written, reverse=True) if folder.is_dir() else []
    seen = []
    for file in found[:LISTED]:
        try:
            seen.append(session_of(store, file.stem))
        except StoreError:
            continue
    return seen


def session_of(store: RunStore, session_id: str) -> SessionSeen:
    """Return a session as its journal and its state tell it now.

    Raises:
        UnknownNameError: There is no such session.
        StoreError: Its journal cannot be read.
    """
    folder = store.sessions_folder
    journaled = read_journal(folder, session_id)
    state = None if journaled.finished else read_state(folder, session_id)
    written = max(_written(folder / f"{session_id}.jsonl"), state.written_unix_s if state else 0.0)
    return SessionSeen(
        session_id=session_id,
        written_unix_s=written,
        finished=journaled.finished,
        model=_model(journaled),
        levels=tuple(_level(name, level) for name, level in journaled.levels.items()),
        state=state,
        silent_s=max(0.0, time.time() - written),
    )


def mark_of(store: RunStore, session_id: str) -> tuple[float, float]:
    """Return what changes whenever the session writes something."""
    folder = store.sessions_folder
    return _written(folder / f"{session_id}.jsonl"), _written(state_file(folder, session_id))


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _level(name: str, level: JournaledLevel) -> LevelSeen:
    return LevelSeen(
        name=name,
        unit=str(level.facts.get("workload", {}).get("output_unit", "output")),
        basis=str(level.facts.get("basis", "assumed")),
        windows=len(level.windows),
        told=estimate(level.windows),
        run_id=level.run_id,
    )


def _model(journaled: Journaled) -> str:
    for level in journaled.levels.values():
        found = level.facts.get("deployment", {}).get("model_id")
        if found:
            return str(found)
    return ""


def _ratio(ratio: Ratio | None, unit: str, basis: str) -> dict[str, Any] | None:
    if ratio is None:
        return None
    half = ratio.half_width
    return {
        "value": ratio.value,
        "unit": unit,
        "low": None if half is None else max(0.0, ratio.value - half),
        "high": None if half is None else ratio.value + half,
        "basis": basis,
        "note": "" if half is not None else "fewer than three windows",
    }
