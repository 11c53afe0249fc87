"""What was sampled during runs: one Parquet file a kind in a folder a run, or many runs packed into one file.

Loose files are what measuring writes. Packing joins those of many runs, sorted by run, into files large
enough to be scanned fast; each says in its metadata whose samples it holds, so that a run's own are found without
looking into every pack, and samples that lie both loose and packed for a while are read once.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import polars as pl

from joulemap.errors import StoreError, UnknownNameError
from joulemap.store.places import Place
from joulemap.store.schema import Table

PACK_ROWS = 4_000_000
"""Samples in a pack; a row takes 10 to 50 bytes on disk."""
_FOLDER = "timelines"
_PACKS = "packed"
_RUNS_KEY = "joulemap_runs"
_FILES_AT_ONCE = 512

Progress = Callable[[int, int], None]
"""Told how many files are done, of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The files there are."""

    loose: dict[str, dict[str, str]]
    """By kind, by run: the file's name."""
    packs: dict[str, list[str]]
    """By kind: the packs' names, the oldest first."""


class Timelines:
    """The timelines of a store's runs.

    Args:
        place: Where the store's files lie.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        # Packs never change, so what one says of itself is asked once.
        self._runs_of_pack: dict[str, list[str]] = {}

    def address_of(self, run_id: str) -> str:
        """Return the path or URL of the folder in which a run's timelines are written."""
        return self._place.address_of(f"{_FOLDER}/{run_id}")

    def add(self, run_id: str, frames: Mapping[str, pl.DataFrame]) -> str:
        """Write the timelines of a run and return the path or URL of their folder.

        A folder of this machine gets all of them or none; those that the run already has are kept.

        Args:
            run_id: The run that they belong to.
            frames: Tables by kind: ``power``, ``activity``, ``telemetry``, ``progress``, ``requests`` …

        Raises:
            StoreError: The store cannot be written.
        """
        contents = {f"{kind}.parquet": _parquet(frame, {}) for kind, frame in frames.items() if frame.height}
        try:
            self._place.write_folder(f"{_FOLDER}/{run_id}", contents)
        except OSError as error:
            self._unwritable(error)
        return self.address_of(run_id)

    def kinds(self) -> list[str]:
        """Return the kinds of timelines that any run has."""
        files = self._files()
        return sorted({*files.loose, *files.packs})

    def of_run(self, run_id: str) -> dict[str, pl.DataFrame]:
        """Return the timelines of a run by kind; empty if it has none.

        Raises:
            StoreError: They cannot be read.
        """
        names = self._sizes_bytes(f"{_FOLDER}/{run_id}")
        tables = {_kind(name): table for name, table in zip(names, self._read(list(names)), strict=True)}
        if tables:
            return tables
        for kind, packs in self._files().packs.items():
            for name in packs:
                if run_id in self._runs_in(name):
                    tables[kind] = (
                        self._place.scan([name]).filter(pl.col("run_id") == run_id).drop("run_id").collect()
                    )
                    break
        return tables

    def scan(self, kind: str) -> pl.LazyFrame:
        """Return the samples of one kind of all runs, as a lazy table with the runs' ids in ``run_id``.

        Columns that only some runs have are null for the others.

        Args:
            kind: ``power``, ``activity``, ``telemetry``, ``progress``, ``requests`` …

        Raises:
            UnknownNameError: No run has such timelines.
            StoreError: They cannot be read.
        """
        files = self._files()
        if kind not in files.loose and kind not in files.packs:
            what = "kind of timeline"
            raise UnknownNameError(what, kind, {*files.loose, *files.packs})
        seen: set[str] = set()
        alike: dict[str, list[str]] = {}
        tables = []
        for name in files.packs.get(kind, ()):
            runs = self._runs_in(name)
            again = seen.intersection(runs)
            seen.update(runs)
            if again:
                tables.append(self._place.scan([name]).filter(~pl.col("run_id").is_in(sorted(again))))
            else:
                alike.setdefault(str(self._place.scan([name]).collect_schema()), []).append(name)
        tables += [self._place.scan(names) for names in alike.values()]
        loose = {run: name for run, name in files.loose.get(kind, {}).items() if run not in seen}
        tables += [_of_run(self._place.scan([name]), run) for run, name in loose.items()]
        return pl.concat(tables, how="diagonal_relaxed")

    def compact(self, progress: Progress | None = None) -> tuple[int, int]:
        """Pack loose files, and return how many became how many.

        A pack is written and read back before the files that it replaces are removed.

        Args:
            progress: Told after each group of files.

        Raises:
            StoreError: The store cannot be read or written.
        """
        files = self._files()
        packed = {run for names in files.packs.values() for name in names for run in self._runs_in(name)}
        total = sum(map(len, files.loose.values()))
        done = made = 0
        for kind, loose in sorted(files.loose.items()):
            for group in self._groups(dict(sorted(loose.items()))):
                wanted = {run: table for run, (_, table) in group.items() if run not in packed}
                if wanted:
                    self._write_pack(kind, wanted)
                    made += 1
                self._remove([name for name, _ in group.values()])
                done += len(group)
                if progress:
                    progress(done, total)
        return total, made

    def _groups(self, loose: Mapping[str, str]) -> Iterator[dict[str, tuple[str, pl.DataFrame]]]:
        """Yield file and table by run, in groups of about ``PACK_ROWS`` samples."""
        group: dict[str, tuple[str, pl.DataFrame]] = {}
        runs = list(loose)
        for begin in range(0, len(runs), _FILES_AT_ONCE):
            some = runs[begin : begin + _FILES_AT_ONCE]
            names = [loose[run] for run in some]
            for run, name, table in zip(some, names, self._read(names), strict=True):
                group[run] = (name, table)
            if sum(table.height for _, table in group.values()) >= PACK_ROWS:
                yield group
                group = {}
        if group:
            yield group

    def _write_pack(self, kind: str, tables: Mapping[str, pl.DataFrame]) -> None:
        joined = pl.concat([_of_run(table, run) for run, table in tables.items()], how="diagonal_relaxed")
        content = _parquet(joined, {_RUNS_KEY: json.dumps(list(tables))})
        name = f"{_FOLDER}/{_PACKS}/{kind}/{hashlib.sha256(content).hexdigest()[:16]}.parquet"
        try:
            self._place.write(name, content)
            (back,) = self._place.read([name])
        except OSError as error:
            self._unwritable(error)
        if back != content:
            msg = f"what was written to {self._place.address_of(name)} reads back differently; nothing was removed"
            raise StoreError(msg)

    def _runs_in(self, pack: str) -> list[str]:
        if pack not in self._runs_of_pack:
            try:
                self._runs_of_pack[pack] = json.loads(self._place.metadata(pack)[_RUNS_KEY])
            except OSError as error:
                self._unreadable(error)
            except (pl.exceptions.PolarsError, KeyError, ValueError) as error:
                self._damaged(pack, error)
        return self._runs_of_pack[pack]

    def _files(self) -> _Files:
        loose: dict[str, dict[str, str]] = {}
        packs: dict[str, list[str]] = {}
        for name in self._sizes_bytes(_FOLDER):
            match name.split("/")[1:]:
                case [pack, kind, _] if pack == _PACKS:
                    packs.setdefault(kind, []).append(name)
                case [run, _]:
                    loose.setdefault(_kind(name), {})[run] = name
        return _Files(loose=loose, packs=packs)

    def _sizes_bytes(self, folder: str) -> dict[str, int]:
        try:
            return self._place.sizes_bytes(folder)
        except OSError as error:
            self._unreadable(error)

    def _read(self, names: Sequence[str]) -> list[pl.DataFrame]:
        try:
            contents = self._place.read(names)
        except OSError as error:
            self._unreadable(error)
        tables = []
        for name, content in zip(names, contents, strict=True):
            if isinstance(content, OSError):
                self._unreadable(content)
            try:
                tables.append(pl.read_parquet(io.BytesIO(content)))
            except pl.exceptions.PolarsError as error:
                self._damaged(name, error)
        return tables

    def _remove(self, names: Sequence[str]) -> None:
        try:
            self._place.remove(names)
        except OSError as error:
            self._unwritable(error)

    def _damaged(self, name: str, error: Exception) -> NoReturn:
        msg = f"the timeline {self._place.address_of(name)} is damaged: {error}"
        raise StoreError(msg, fix="remove or restore that file; all other timelines are untouched") from error

    def _unreadable(self, error: OSError) -> NoReturn:
        msg = f"the timelines in {self._place.address} cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error

    def _unwritable(self, error: OSError) -> NoReturn:
        msg = f"the timelines in {self._place.address} cannot be written: {error.strerror or error}"
        raise StoreError(msg, fix="free some space, or give another store with --store") from error


def _kind(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".parquet")


def _of_run(table: Table, run_id: str) -> Table:
    return table.select(pl.lit(run_id).alias("run_id"), pl.all())


def _parquet(frame: pl.DataFrame, metadata: dict[str, str]) -> bytes:
    content = io.BytesIO()
    frame.write_parquet(content, compression="zstd", row_group_size=262_144, metadata=metadata)
    return content.getvalue()
