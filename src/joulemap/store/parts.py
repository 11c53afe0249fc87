"""The Parquet parts of a run store: read, scanned, written, joined; damaged ones are set aside.

A small part is read whole, checked against the hash in its name, and kept, for parts never change. Of a large
one only the column of ids is read at once; the rest is scanned when a query needs it.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

from joulemap.errors import StoreError
from joulemap.store.places import LocalPlace, Place
from joulemap.store.schema import SCHEMA_VERSION, empty_frame, upgraded, utc_now

LARGE_PART_BYTES = 2**20
"""Parts above this, thousands of runs, are scanned; others are read whole, and joined by compaction."""
_FOLDER = "runs"
_DAMAGED_FOLDER = "damaged"
_VERSION_KEY = "joulemap_run_schema"
_HASH_DIGITS = 16
_HASH_IN_NAME = re.compile(rf"-([0-9a-f]{{{_HASH_DIGITS}}})\.parquet$")
_MOST_LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedPart:
    """A part of the store that could not be read, and was set aside."""

    name: str
    reason: str
    moved_to: str | None
    """Its path or URL now; ``None`` if it could not be moved and stays where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    size_bytes: int
    ids: pl.Series
    table: pl.DataFrame | None
    """The whole part; ``None`` for a large one that is scanned."""


class Parts:
    """The parts in one place.

    Args:
        place: Where they lie.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._parts: dict[str, _Part] = {}
        self._damaged: dict[str, DamagedPart] = {}

    @property
    def damaged(self) -> list[DamagedPart]:
        """The parts that could not be read so far."""
        return list(self._damaged.values())

    def tables(self) -> list[pl.DataFrame]:
        """Return every part whole, the oldest first.

        Raises:
            StoreError: The place cannot be read, or a part is of a newer joulemap.
        """
        return [part.table for part in self._look(whole=True).values() if part.table is not None]

    def ids(self) -> pl.Series:
        """Return the runs' ids, each once; errors as :meth:`tables`."""
        found = [part.ids for part in self._look(whole=False).values()]
        return pl.concat(found).unique(maintain_order=True) if found else empty_frame()["run_id"]

    def scan(self) -> pl.LazyFrame:
        """Return all runs as a lazy table, each once, the oldest first; errors as :meth:`tables`."""
        parts = self._look(whole=False)
        if not parts:
            return empty_frame().lazy()
        again = _seen_before(parts)
        return pl.concat(
            self._lazy(name, part).filter(~pl.col("run_id").is_in(again[name].implode()))
            if name in again
            else self._lazy(name, part)
            for name, part in parts.items()
        )

    def check_whole(self) -> bool:
        """Read every part that was only scanned, set aside the damaged ones, return whether there were any."""
        before = len(self._damaged)
        for name, part in list(self._parts.items()):
            if part.table is None:
                (content,) = self._fetch([name])
                if self._read(name, content) is None:
                    del self._parts[name]
        return len(self._damaged) > before

    def write(self, frame: pl.DataFrame, stamp: str | None = None) -> str:
        """Write runs as a part and return its name.

        Args:
            frame: The runs.
            stamp: The beginning of its name, which gives it its turn; by default the time.

        Raises:
            StoreError: The place cannot be written.
        """
        out = io.BytesIO()
        # Row groups let a scan pass over runs that a query does not want.
        frame.write_parquet(
            out, compression="zstd", row_group_size=65_536, metadata={_VERSION_KEY: str(SCHEMA_VERSION)}
        )
        content = out.getvalue()
        begin = stamp or utc_now().strftime("%Y%m%dT%H%M%S%f")
        name = f"{_FOLDER}/{begin}-{content_hash(content)}.parquet"
        try:
            self._place.write(name, content)
        except OSError as error:
            msg = f"the run store {self._place.address} cannot be written: {error.strerror or error}"
            raise StoreError(msg, fix=_fix_of(self._place)) from error
        return name

    def compact(self) -> tuple[int, int]:
        """Join small parts that follow one another, and return how many parts became how many.

        A joined part is written and read back before the parts that it replaces are removed, so that a run is in
        one of them at any time; for the while that it is in both, it is read once.

        Raises:
            StoreError: The place cannot be read or written.
        """
        self._look(whole=False)
        before = len(self._parts)
        for group in list(_groups(self._parts)):
            joined = pl.concat(table for name in group if (table := self._parts[name].table) is not None)
            stamp = PurePosixPath(group[0]).name.partition("-")[0]
            name = self.write(joined.unique("run_id", keep="first", maintain_order=True), stamp)
            (content,) = self._fetch([name])
            table = self._read(name, content)
            if table is None:
                written = self._place.address_of(name)
                msg = f"what was written to {written} cannot be read back; nothing was removed"
                raise StoreError(msg)
            self._remove([old for old in group if old != name])
        return before, len(self._look(whole=False))

    def _remove(self, names: Sequence[str]) -> None:
        try:
            self._place.remove(names)
        except OSError as error:
            msg = f"{self._place.address}: parts that were joined cannot be removed: {error.strerror or error}"
            raise StoreError(msg, fix=_fix_of(self._place)) from error

    def _look(self, *, whole: bool) -> dict[str, _Part]:
        """Bring what is known of the parts up to date and return it, the oldest part first."""
        for _ in range(_MOST_LOOKS):
            sizes = self._sizes_bytes()
            # What is gone was set aside, or joined with others into a part that is listed now.
            self._parts = {name: part for name, part in self._parts.items() if name in sizes}
            new = [name for name in sizes if name not in self._parts]
            loaded = [n for n in new if whole or sizes[n] <= LARGE_PART_BYTES]
            if whole:
                loaded += [n for n, part in self._parts.items() if part.table is None]
            contents = self._fetch(loaded)
            for name, content in zip(loaded, contents, strict=True):
                table = self._read(name, content)
                if table is not None:
                    self._parts[name] = _Part(size_bytes=sizes[name], ids=table["run_id"], table=table)
            for name in set(new) - set(loaded):
                self._enter_large(name, sizes[name])
            if not any(isinstance(content, FileNotFoundError) for content in contents):
                break
        # Names begin with the time of writing, so that sorted by name is sorted by age.
        self._parts = dict(sorted(self._parts.items()))
        return self._parts

    def _enter_large(self, name: str, size_bytes: int) -> None:
        try:
            self._check_version(self._place.metadata(name), name)
            ids = self._place.scan([name]).select("run_id").collect()["run_id"]
            self._parts[name] = _Part(size_bytes=size_bytes, ids=ids, table=None)
        except StoreError:
            raise
        except BaseException as error:
            if not (isinstance(error, (OSError, pl.exceptions.PolarsError)) or is_panic(error)):
                raise
            # Read whole, it is either damaged and set aside, or sound, and only the ranged reading failed.
            (content,) = self._fetch([name])
            table = self._read(name, content)
            if table is not None:
                self._parts[name] = _Part(size_bytes=size_bytes, ids=table["run_id"], table=table)

    def _lazy(self, name: str, part: _Part) -> pl.LazyFrame:
        if part.table is not None:
            return part.table.lazy()
        return upgraded(self._place.scan([name]), SCHEMA_VERSION, self._place.address_of(name))

    def _sizes_bytes(self) -> dict[str, int]:
        try:
            return self._place.sizes_bytes(_FOLDER)
        except OSError as error:
            raise self._unreadable(error) from error

    def _fetch(self, names: Sequence[str]) -> list[bytes | OSError]:
        try:
            return self._place.read(names)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StoreError:
        msg = f"the run store {self._place.address} cannot be read: {error.strerror or error}"
        return StoreError(msg, fix=_fix_of(self._place))

    def _read(self, name: str, content: bytes | OSError) -> pl.DataFrame | None:
        """Return a part's runs; ``None``, and noted as damaged, if they cannot be read."""
        if isinstance(content, FileNotFoundError):
            return None  # set aside or joined by another process since it was listed
        base = PurePosixPath(name).name
        if isinstance(content, OSError):
            # Not the file's fault perhaps (no permission, too many open files): it stays where it is.
            reason = f"cannot be read: {content.strerror or content}"
            self._damaged[name] = DamagedPart(name=base, reason=reason, moved_to=None)
            return None
        try:
            if (told := _HASH_IN_NAME.search(name)) and told[1] != content_hash(content):
                msg = "its content is not what was written: the hash in its name differs"
                raise ValueError(msg)
            version = self._check_version(pl.read_parquet_metadata(io.BytesIO(content)), name)
            table = upgraded(pl.read_parquet(io.BytesIO(content)), version, self._place.address_of(name))
        except StoreError:
            raise
        except BaseException as error:
            if not (isinstance(error, (pl.exceptions.PolarsError, ValueError)) or is_panic(error)):
                raise
            self._damaged[name] = self._set_aside(name, str(error))
            return None
        self._damaged.pop(name, None)
        return table

    def _check_version(self, metadata: dict[str, str], name: str) -> int:
        version = int(metadata.get(_VERSION_KEY, "0"))
        upgraded(empty_frame(), version, self._place.address_of(name))
        return version

    def _set_aside(self, name: str, reason: str) -> DamagedPart:
        base = PurePosixPath(name).name
        target = f"{_DAMAGED_FOLDER}/{base}"
        first_line = re.sub(r"\s+", " ", reason).strip()[:200] or "unreadable"
        try:
            self._place.move(name, target)
        except OSError:
            return DamagedPart(name=base, reason=first_line, moved_to=None)
        return DamagedPart(name=base, reason=first_line, moved_to=self._place.address_of(target))


def content_hash(content: bytes) -> str:
    """Return the hash that a part's name bears, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]


def is_panic(error: BaseException) -> bool:
    """Return whether an error is a Rust panic, which is no ``Exception``: so Polars reports some damaged files."""
    return type(error).__name__ == "PanicException"


def _seen_before(parts: dict[str, _Part]) -> dict[str, pl.Series]:
    """Return the ids in each part that an earlier part has too; two writers at once make such."""
    every = pl.concat(part.ids for part in parts.values())
    if every.n_unique() == len(every):
        return {}
    positions = pl.concat(
        [pl.DataFrame({"part": [name], "run_id": [part.ids]}).explode("run_id") for name, part in parts.items()]
    )
    again = positions.filter(~pl.col("run_id").is_first_distinct())
    return {str(name): ids["run_id"] for (name,), ids in again.group_by("part")}


def _groups(parts: dict[str, _Part]) -> Iterator[list[str]]:
    """Yield two or more small parts that follow one another, so that joining them keeps the order of runs."""
    group: list[str] = []
    size_bytes = 0
    for name, part in parts.items():
        large = part.size_bytes > LARGE_PART_BYTES
        if large or size_bytes + part.size_bytes > 16 * LARGE_PART_BYTES:
            if len(group) > 1:
                yield group
            group, size_bytes = [], 0
        if not large:
            group.append(name)
            size_bytes += part.size_bytes
    if len(group) > 1:
        yield group


def _fix_of(place: Place) -> str:
    if isinstance(place, LocalPlace):
        return "give a folder that you may read and write with --store DIR or JOULEMAP_STORE"
    return "check the bucket's name, the network and the credentials in the environment (docs/stores.md)"
