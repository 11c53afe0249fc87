"""The run store: immutable Parquet parts in a folder or in object storage, one a batch of runs added together.

Parts appear whole and are never changed afterwards, so that a reader sees a whole part or none, and two
writers cannot harm each other. A part is named by its time and the hash of its content, which tells damage; a run
is named by content too: one that is in any part already is not written again, and one that two writers added at
once is read once.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from joulemap.errors import EmptyStoreError, SelectorError, StoreError, UnknownNameError
from joulemap.records import Run
from joulemap.store.object_place import ObjectPlace, is_url
from joulemap.store.places import LocalPlace, Place
from joulemap.store.schema import (
    SCHEMA_VERSION,
    empty_frame,
    frame_to_runs,
    row_to_run,
    runs_to_frame,
    upgraded,
    utc_now,
)
from joulemap.store.timelines import Timelines

STORE_ENVIRONMENT_VARIABLE = "JOULEMAP_STORE"
RUNS_FOLDER = "runs"
TIMELINES_FOLDER = "timelines"
SESSIONS_FOLDER = "sessions"
DAMAGED_FOLDER = "damaged"
_VERSION_KEY = "joulemap_run_schema"
_SHORTEST_PREFIX = 4
_HASH_DIGITS = 16
_HASH_IN_NAME = re.compile(rf"-([0-9a-f]{{{_HASH_DIGITS}}})\.parquet$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What adding a batch of runs did."""

    added: int
    already_there: int
    part: str | None
    """The path or URL of the part that was written; ``None`` if every run was there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedPart:
    """A part of the store that could not be read, and was set aside."""

    name: str
    reason: str
    moved_to: str | None
    """Its path or URL now; ``None`` if it could not be moved and stays where it was."""


def default_store_dir() -> Path:
    """Return ``joulemap/store`` in the user's data folder."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "joulemap" / "store"


def open_store(location: str | os.PathLike[str] | None = None) -> RunStore:
    """Return the run store in a folder or at a URL; it need not exist yet.

    Args:
        location: A path, or a URL such as ``s3://bucket/prefix``; by default ``$JOULEMAP_STORE``, else
            ``joulemap/store`` in the user's data folder.

    Raises:
        StoreError: The path exists and is not a folder, or the object store cannot be opened.
        UsageError: The URL means nothing.
        MissingExtraError: The library for the URL is not installed.
    """
    given = location or os.environ.get(STORE_ENVIRONMENT_VARIABLE)
    if isinstance(given, str) and is_url(given):
        return RunStore(ObjectPlace(given))
    folder = Path(given).expanduser() if given else default_store_dir()
    if folder.exists() and not folder.is_dir():
        msg = f"the run store {folder} is a file, not a folder"
        raise StoreError(msg, fix="give another folder with --store DIR")
    return RunStore(LocalPlace(folder))


class RunStore:
    """Runs in one place, read as one table.

    The table is read once and kept; :meth:`add` makes the next look read what is new.

    Args:
        place: Where the files lie.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.damaged: list[DamagedPart] = []
        self.timelines = Timelines(place, TIMELINES_FOLDER)
        # Parts never change, so what was read of one holds for as long as it is listed.
        self._tables: dict[str, pl.DataFrame | None] = {}

    def __repr__(self) -> str:
        return f"RunStore({self.address!r})"

    def __len__(self) -> int:
        return self.frame.height

    @property
    def address(self) -> str:
        """The store's path or URL, as users give it."""
        return self.place.address

    @property
    def folder(self) -> Path:
        """The store's folder.

        Raises:
            StoreError: The store lies in object storage.
        """
        if isinstance(self.place, LocalPlace):
            return self.place.folder
        msg = f"the store {self.address} lies in object storage and has no folder"
        raise StoreError(msg, fix="give a folder with --store DIR")

    @property
    def sessions_folder(self) -> Path:
        """Where journals of measurements lie: beside the runs, or on this machine for a store elsewhere."""
        # A journal is appended to line by line and forced to disk, which object storage cannot do.
        base = self.place.folder if isinstance(self.place, LocalPlace) else default_store_dir()
        return base / SESSIONS_FOLDER

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All runs, one row each, in the order in which they were stored (columns: ``store.schema.COLUMNS``)."""
        tables = [table for table in self._read_parts() if table is not None]
        if not tables:
            return empty_frame()
        table = pl.concat(tables)
        if len(tables) > 1:
            table = table.unique("run_id", keep="first", maintain_order=True)
        return table

    def non_empty_frame(self) -> pl.DataFrame:
        """Return :attr:`frame`, or say how to fill the store.

        Raises:
            EmptyStoreError: There are no runs.
        """
        if self.frame.is_empty():
            raise EmptyStoreError(self.address)
        return self.frame

    def add(self, runs: Sequence[Run]) -> Added:
        """Write the runs that are not there yet, all or none of them.

        Raises:
            StoreError: The store cannot be read or written.
        """
        unique = {run.run_id: run for run in runs}
        self.refresh()
        known: Collection[str] = set(self.frame["run_id"])
        new = [run for run_id, run in unique.items() if run_id not in known]
        part = self._write(runs_to_frame(new, stored_at=utc_now())) if new else None
        self.refresh()
        return Added(
            added=len(new),
            already_there=len(runs) - len(new),
            part=self.place.address_of(part) if part else None,
        )

    def refresh(self) -> None:
        """Forget the table, so that the next look reads what is new."""
        self.__dict__.pop("frame", None)

    def get(self, run_id: str) -> Run:
        """Return the run with this id, or with this unambiguous beginning of an id.

        Raises:
            UnknownNameError: No run has such an id.
            SelectorError: Several runs have ids that begin so.
        """
        return row_to_run(self.row(run_id))

    def row(self, run_id: str) -> dict[str, object]:
        """Return the table's row of the run with this id or beginning of an id; errors as :meth:`get`."""
        frame = self.non_empty_frame()
        wanted = run_id.lower()
        found = frame.filter(pl.col("run_id").str.starts_with(wanted))
        if found.is_empty() or len(wanted) < _SHORTEST_PREFIX:
            msg = "run"
            raise UnknownNameError(msg, run_id, [], fix="'joulemap runs' lists the runs and their ids")
        if found.height > 1:
            ids = ", ".join(found["run_id"].head(5))
            msg = f"{found.height} runs have ids that begin with {run_id!r}: {ids}"
            raise SelectorError(msg, fix="give more of the id")
        return found.row(0, named=True)

    def runs(self) -> list[Run]:
        """Return all runs as records."""
        return frame_to_runs(self.frame)

    def _read_parts(self) -> list[pl.DataFrame | None]:
        """Return the table of each part, ``None`` for one that cannot be read; only what is new is fetched."""
        names = self._part_names()
        new = [name for name in names if name not in self._tables]
        for name, content in zip(new, self._fetch(new), strict=True):
            self._tables[name] = self._read(name, content)
        self._tables = {name: self._tables[name] for name in names if name in self._tables}
        return list(self._tables.values())

    def _part_names(self) -> list[str]:
        # Names begin with the time of writing, so that sorted by name is sorted by age.
        try:
            return self.place.names(RUNS_FOLDER)
        except OSError as error:
            msg = f"the run store {self.address} cannot be read: {error.strerror or error}"
            raise StoreError(msg, fix=_fix_of(self.place)) from error

    def _fetch(self, names: Sequence[str]) -> list[bytes | OSError]:
        try:
            return self.place.read(names)
        except OSError as error:
            msg = f"the run store {self.address} cannot be read: {error.strerror or error}"
            raise StoreError(msg, fix=_fix_of(self.place)) from error

    def _read(self, name: str, content: bytes | OSError) -> pl.DataFrame | None:
        if isinstance(content, FileNotFoundError):
            # Another process has set it aside since it was listed.
            return None
        if isinstance(content, OSError):
            # Not the file's fault perhaps (no permission, too many open files): it stays where it is.
            reason = f"cannot be read: {content.strerror or content}"
            self.damaged.append(DamagedPart(name=Path(name).name, reason=reason, moved_to=None))
            return None
        try:
            if (told := _HASH_IN_NAME.search(name)) and told[1] != content_hash(content):
                msg = "its content is not what was written: the hash in its name differs"
                raise ValueError(msg)
            version = int(pl.read_parquet_metadata(io.BytesIO(content)).get(_VERSION_KEY, "0"))
            return upgraded(pl.read_parquet(io.BytesIO(content)), version, self.place.address_of(name))
        except StoreError:
            raise
        except (pl.exceptions.PolarsError, ValueError) as error:
            self.damaged.append(self._set_aside(name, str(error)))
            return None
        except BaseException as error:
            # Polars reports some damaged files by a Rust panic, which is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            self.damaged.append(self._set_aside(name, str(error)))
            return None

    def _set_aside(self, name: str, reason: str) -> DamagedPart:
        base = Path(name).name
        target = f"{DAMAGED_FOLDER}/{base}"
        first_line = re.sub(r"\s+", " ", reason).strip()[:200] or "unreadable"
        try:
            self.place.move(name, target)
        except OSError:
            return DamagedPart(name=base, reason=first_line, moved_to=None)
        return DamagedPart(name=base, reason=first_line, moved_to=self.place.address_of(target))

    def _write(self, frame: pl.DataFrame) -> str:
        content = io.BytesIO()
        frame.write_parquet(content, compression="zstd", metadata={_VERSION_KEY: str(SCHEMA_VERSION)})
        stamp = utc_now().strftime("%Y%m%dT%H%M%S%f")
        name = f"{RUNS_FOLDER}/{stamp}-{content_hash(content.getvalue())}.parquet"
        try:
            self.place.write(name, content.getvalue())
        except OSError as error:
            msg = f"the run store {self.address} cannot be written: {error.strerror or error}"
            raise StoreError(msg, fix=_fix_of(self.place)) from error
        return name


def content_hash(content: bytes) -> str:
    """Return the hash that a part's name bears, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]


def _fix_of(place: Place) -> str:
    if isinstance(place, LocalPlace):
        return "give a folder that you may read and write with --store DIR or JOULEMAP_STORE"
    return "check the bucket's name, the network and the credentials in the environment (docs/stores.md)"
