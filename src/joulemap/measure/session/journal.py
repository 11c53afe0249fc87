"""A session's journal: what is complete is on disk at once, so that a killed process loses nothing complete.

One JSON object a line in ``sessions/<id>.jsonl`` beside the runs, each line forced to disk. It holds the options
of the session (never a key), every complete window, and which level became which run.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from joulemap.errors import StoreError, UnknownNameError
from joulemap.measure.session.windows import Window

VERSION = 1


@dataclass(slots=True, kw_only=True)
class JournaledLevel:
    """What the journal holds of one level."""

    windows: list[Window] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What is needed to make a run of the windows alone; see ``session.recover``."""
    run_id: str | None = None
    """The run that the level became; ``None`` if it was not finished."""


@dataclass(slots=True, kw_only=True)
class Journaled:
    """A journal as read back."""

    session_id: str
    options: dict[str, Any]
    """The command's options."""
    levels: dict[str, JournaledLevel]
    """By the level's name, in order."""
    finished: bool


class Journal:
    """Appends to a session's journal.

    Args:
        folder: Where journals lie; created if need be.
        session_id: The session, a new one by default.

    Raises:
        StoreError: The journal cannot be written; the session must not go on as if it could.
    """

    def __init__(self, folder: Path, session_id: str | None = None) -> None:
        self.session_id = session_id or uuid.uuid4().hex[:10]
        self.file = folder / f"{self.session_id}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._mend_last_line()
            self._out = self.file.open("a", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error

    def _mend_last_line(self) -> None:
        # A process killed in mid-write leaves half a line; the next must not be glued to it.
        if self.file.exists():
            with self.file.open("rb+") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)

    def begin(self, options: Mapping[str, Any]) -> None:
        """Note the session's options."""
        self._write({"kind": "session", "version": VERSION, "options": dict(options)})

    def level(self, name: str, facts: Mapping[str, Any]) -> None:
        """Note that a level begins, with what is needed to make a run of its windows."""
        self._write({"kind": "level", "level": name, "facts": dict(facts)})

    def window(self, name: str, window: Window) -> None:
        """Note a complete window."""
        self._write({"kind": "window", "level": name, "window": asdict(window)})

    def run(self, name: str, run_id: str) -> None:
        """Note that a level is in the store as a run."""
        self._write({"kind": "run", "level": name, "run_id": run_id})

    def end(self) -> None:
        """Note that the session has come to its end."""
        self._write({"kind": "end"})

    def close(self) -> None:
        """Close the file."""
        # What could not be written has been told when it was tried; closing tries once more.
        with contextlib.suppress(OSError):
            self._out.close()

    def _write(self, entry: Mapping[str, Any]) -> None:
        try:
            self._out.write(json.dumps(entry, allow_nan=False) + "\n")
            self._out.flush()
            os.fsync(self._out.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StoreError:
        msg = f"the session's journal {self.file} cannot be written: {error.strerror or error}"
        return StoreError(msg, fix="free some space, or give another folder with --store DIR")


def read_journal(folder: Path, session_id: str) -> Journaled:
    """Read a session's journal back; half a line at its end, from a killed process, is left out.

    Raises:
        UnknownNameError: There is no such session.
        StoreError: The file is no journal, or a newer joulemap's.
    """
    file = folder / f"{session_id}.jsonl"
    known = [f.stem for f in folder.glob("*.jsonl")] if folder.is_dir() else []
    if session_id not in known:
        raise UnknownNameError(kind="session", name=session_id, known=known)
    found = Journaled(session_id=session_id, options={}, levels={}, finished=False)
    lines = file.read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            _enter(found, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{file}, line {number} is no entry of a journal: {error}"
            raise StoreError(msg) from error
    return found


def _enter(found: Journaled, entry: dict[str, Any]) -> None:
    kind = entry["kind"]
    if kind == "session":
        if entry["version"] > VERSION:
            msg = f"written by a newer joulemap (version {entry['version']})"
            raise ValueError(msg)
        found.options = entry["options"]
    elif kind == "end":
        found.finished = True
    else:
        level = found.levels.setdefault(entry["level"], JournaledLevel())
        if kind == "level":
            # A level that is begun again starts afresh: windows of two tries are two different steady states.
            level.facts, level.windows = entry["facts"], []
        elif kind == "window":
            level.windows.append(Window(**entry["window"]))
        elif kind == "run":
            level.run_id = entry["run_id"]
