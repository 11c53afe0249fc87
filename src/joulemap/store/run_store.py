"""The run store: a folder of immutable Parquet parts, one a batch of runs added together.

Parts are written beside and then renamed into place, and never changed afterwards, so that a reader sees
a whole part or none, and two writers cannot harm each other. Runs are named by content: a run that is in
any part already is not written again, and one that two writers added at once is read once.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from joulemap.errors import EmptyStoreError, SelectorError, StoreError, UnknownNameError
from joulemap.records import Run
from joulemap.store.schema import (
    SCHEMA_VERSION,
    empty_frame,
    frame_to_runs,
    row_to_run,
    runs_to_frame,
    upgraded,
    utc_now,
)

STORE_ENVIRONMENT_VARIABLE = "JOULEMAP_STORE"
_VERSION_KEY = "joulemap_run_schema"
_SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What adding a batch of runs did."""

    added: int
    already_there: int
    part: Path | None
    """The file written; ``None`` if every run was there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedPart:
    """A part of the store that could not be read, and was set aside."""

    name: str
    reason: str
    moved_to: Path | None
    """Where it lies now; ``None`` if it could not be moved and stays where it was."""


def default_store_dir() -> Path:
    """Return ``$JOULEMAP_STORE``, else ``joulemap/store`` in the user's data folder."""
    given = os.environ.get(STORE_ENVIRONMENT_VARIABLE)
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "joulemap" / "store"


def open_store(path: str | os.PathLike[str] | None = None) -> RunStore:
    """Return the run store in ``path``, or in the default folder; it need not exist yet.

    Raises:
        StoreError: The path exists and is not a folder.
    """
    folder = Path(path).expanduser() if path is not None else default_store_dir()
    if folder.exists() and not folder.is_dir():
        msg = f"the run store {folder} is a file, not a folder"
        raise StoreError(msg, fix="give another folder with --store DIR")
    return RunStore(folder)


class RunStore:
    """Runs on disk, read as one table.

    The table is read once and kept; :meth:`add` makes the next look read again.

    Args:
        folder: The store's folder; created by the first :meth:`add`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[DamagedPart] = []

    def __repr__(self) -> str:
        return f"RunStore({str(self.folder)!r})"

    def __len__(self) -> int:
        return self.frame.height

    @property
    def parts_folder(self) -> Path:
        """Where the Parquet parts lie."""
        return self.folder / "runs"

    @property
    def timelines_folder(self) -> Path:
        """Where the timelines of measured runs lie, one file a run."""
        return self.folder / "timelines"

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All runs, one row each, in the order in which they were stored (columns: ``store.schema.COLUMNS``)."""
        frames = [frame for part in self._parts() if (frame := self._read(part)) is not None]
        if not frames:
            return empty_frame()
        table = pl.concat(frames)
        if len(frames) > 1:
            table = table.unique("run_id", keep="first", maintain_order=True)
        return table

    def non_empty_frame(self) -> pl.DataFrame:
        """Return :attr:`frame`, or say how to fill the store.

        Raises:
            EmptyStoreError: There are no runs.
        """
        if self.frame.is_empty():
            raise EmptyStoreError(str(self.folder))
        return self.frame

    def add(self, runs: Sequence[Run]) -> Added:
        """Write the runs that are not there yet, all or none of them.

        Raises:
            StoreError: The folder cannot be written.
        """
        unique = {run.run_id: run for run in runs}
        known = set(self.frame["run_id"])
        new = [run for run_id, run in unique.items() if run_id not in known]
        part = self._write(runs_to_frame(new, stored_at=utc_now())) if new else None
        self.refresh()
        return Added(added=len(new), already_there=len(runs) - len(new), part=part)

    def refresh(self) -> None:
        """Forget the table, so that the next look reads the folder again."""
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

    def _parts(self) -> list[Path]:
        # Names begin with the time of writing, so that sorted by name is sorted by age.
        return sorted(self.parts_folder.glob("*.parquet")) if self.parts_folder.is_dir() else []

    def _read(self, part: Path) -> pl.DataFrame | None:
        try:
            content = part.read_bytes()
            version = int(pl.read_parquet_metadata(content).get(_VERSION_KEY, "0"))
            return upgraded(pl.read_parquet(content), version, str(part))
        except StoreError:
            raise
        except OSError as error:
            # Not the file's fault perhaps (no permission, too many open files): it stays where it is.
            reason = f"cannot be read: {error.strerror or error}"
            self.damaged.append(DamagedPart(name=part.name, reason=reason, moved_to=None))
            return None
        except (pl.exceptions.PolarsError, ValueError) as error:
            self.damaged.append(self._set_aside(part, str(error)))
            return None
        except BaseException as error:
            # Polars reports some damaged files by a Rust panic, which is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            self.damaged.append(self._set_aside(part, str(error)))
            return None

    def _set_aside(self, part: Path, reason: str) -> DamagedPart:
        target = self.folder / "damaged" / part.name
        first_line = re.sub(r"\s+", " ", reason).strip()[:200] or "unreadable"
        try:
            target.parent.mkdir(exist_ok=True)
            part.replace(target)
        except OSError:
            return DamagedPart(name=part.name, reason=first_line, moved_to=None)
        return DamagedPart(name=part.name, reason=first_line, moved_to=target)

    def _write(self, frame: pl.DataFrame) -> Path:
        stamp = utc_now().strftime("%Y%m%dT%H%M%S%f")
        name = f"{stamp}-{uuid.uuid4().hex[:8]}.parquet"
        final = self.parts_folder / name
        partial = self.parts_folder / f".{name}.partial"
        try:
            self.parts_folder.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    frame.write_parquet(file, compression="zstd", metadata={_VERSION_KEY: str(SCHEMA_VERSION)})
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(final)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            msg = f"the run store {self.folder} cannot be written: {error.strerror or error}"
            raise StoreError(
                msg,
                fix="give a folder that you may write with --store DIR or JOULEMAP_STORE",
            ) from error
        return final
