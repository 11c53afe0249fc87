"""The run store: immutable Parquet parts in a folder or in object storage, one a batch of runs added together.

Parts appear whole and are never changed afterwards, so that a reader sees a whole part or none, and two
writers cannot harm each other. A part is named by its time and the hash of its content, which tells damage; a run
is named by content too: one that is in any part already is not written again, and one that two writers added at
once is read once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from joulemap.errors import EmptyStoreError, SelectorError, StoreError, UnknownNameError
from joulemap.records import Run
from joulemap.store.object_place import ObjectPlace, is_url
from joulemap.store.parts import DamagedPart, Parts, is_panic
from joulemap.store.places import LocalPlace, Place
from joulemap.store.schema import COLUMNS, empty_frame, frame_to_runs, row_to_run, runs_to_frame, utc_now
from joulemap.store.timelines import Timelines

STORE_ENVIRONMENT_VARIABLE = "JOULEMAP_STORE"
SESSIONS_FOLDER = "sessions"
_SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What adding a batch of runs did."""

    added: int
    already_there: int
    part: str | None
    """The path or URL of the part that was written; ``None`` if every run was there already."""


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

    :attr:`frame` holds them all; :meth:`query`, :meth:`columns` and :meth:`rows` read no more of a large store
    than they need. What was read is kept; :meth:`refresh` makes the next look see what others have added.

    Args:
        place: Where the files lie.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.timelines = Timelines(place)
        self._parts = Parts(place)

    def __repr__(self) -> str:
        return f"RunStore({self.address!r})"

    def __len__(self) -> int:
        return len(self.run_ids)

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

    @property
    def damaged(self) -> list[DamagedPart]:
        """The parts that could not be read so far."""
        return self._parts.damaged

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All runs, one row each, in the order in which they were stored (columns: ``store.schema.COLUMNS``)."""
        tables = self._parts.tables()
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

    @cached_property
    def run_ids(self) -> pl.Series:
        """The ids of all runs, in the order in which they were stored."""
        return self._parts.ids()

    def non_empty_run_ids(self) -> pl.Series:
        """Return :attr:`run_ids`, or say how to fill the store.

        Raises:
            EmptyStoreError: There are no runs.
        """
        if self.run_ids.is_empty():
            raise EmptyStoreError(self.address)
        return self.run_ids

    def query(self, make: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
        """Return what a query on all runs gives, without loading more of them than it needs.

        Args:
            make: Makes the query from the lazy table of all runs (columns: ``store.schema.COLUMNS``).

        Raises:
            StoreError: The store cannot be read.
        """
        if "frame" in self.__dict__:
            return make(self.frame.lazy()).collect()
        try:
            return make(self._parts.scan()).collect(engine="streaming")
        except BaseException as error:
            # A part that is damaged in the middle shows only when that place is read.
            if not (isinstance(error, (pl.exceptions.ComputeError, OSError)) or is_panic(error)):
                raise
            if not self._parts.check_whole():
                raise
            return make(self._parts.scan()).collect(engine="streaming")

    def columns(self, names: Collection[str]) -> pl.DataFrame:
        """Return some columns of all runs."""
        return self.query(lambda runs: runs.select(list(names)))

    def rows(self, run_ids: pl.Series, columns: Collection[str] | None = None) -> pl.DataFrame:
        """Return the runs with these ids, in the order of the ids, or only some of their columns."""
        kept = list(COLUMNS if columns is None else columns)
        wanted = list(dict.fromkeys(["run_id", *kept]))
        found = self.query(lambda runs: runs.select(wanted).filter(pl.col("run_id").is_in(run_ids.implode())))
        ordered = pl.DataFrame({"run_id": run_ids}).join(found, on="run_id", how="left", maintain_order="left")
        return ordered.select(kept)

    def add(self, runs: Sequence[Run]) -> Added:
        """Write the runs that are not there yet, all or none of them.

        Raises:
            StoreError: The store cannot be read or written.
        """
        unique = {run.run_id: run for run in runs}
        self.refresh()
        known = set(self.run_ids)
        new = [run for run_id, run in unique.items() if run_id not in known]
        part = self._parts.write(runs_to_frame(new, stored_at=utc_now())) if new else None
        self.refresh()
        return Added(
            added=len(new),
            already_there=len(runs) - len(new),
            part=self.place.address_of(part) if part else None,
        )

    def compact(self) -> tuple[int, int]:
        """Join small files of runs, and return how many became how many; see ``Parts.compact``.

        Raises:
            StoreError: The store cannot be read or written.
        """
        self.refresh()
        return self._parts.compact()

    def refresh(self) -> None:
        """Forget the table, so that the next look sees what others have added."""
        self.__dict__.pop("frame", None)
        self.__dict__.pop("run_ids", None)

    def get(self, run_id: str) -> Run:
        """Return the run with this id, or with this unambiguous beginning of an id.

        Raises:
            UnknownNameError: No run has such an id.
            SelectorError: Several runs have ids that begin so.
        """
        return row_to_run(self.row(run_id))

    def row(self, run_id: str) -> dict[str, object]:
        """Return the table's row of the run with this id or beginning of an id; errors as :meth:`get`."""
        ids = self.non_empty_run_ids()
        wanted = run_id.lower()
        found = ids.filter(ids.str.starts_with(wanted))
        if found.is_empty() or len(wanted) < _SHORTEST_PREFIX:
            msg = "run"
            raise UnknownNameError(msg, run_id, [], fix="'joulemap runs' lists the runs and their ids")
        if len(found) > 1:
            msg = f"{len(found)} runs have ids that begin with {run_id!r}: {', '.join(found.head(5))}"
            raise SelectorError(msg, fix="give more of the id")
        return self.rows(found).row(0, named=True)

    def runs(self) -> list[Run]:
        """Return all runs as records."""
        return frame_to_runs(self.frame)
