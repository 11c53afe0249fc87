"""Where a store's files lie: a folder of this machine, or a prefix of an object store.

Both hold whole files under names such as ``runs/20260102T030405000006-0123456789abcdef.parquet``. A file appears
whole or not at all, and is never changed afterwards; what else a store promises follows from that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import polars as pl


class Place(Protocol):
    """Holds a store's files. What goes wrong is an ``OSError`` whose text shows no credential."""

    address: str
    """What users call it: a path, or a URL without credentials."""

    def sizes_bytes(self, folder: str) -> dict[str, int]:
        """Return the Parquet files anywhere below a folder by name, sorted; none if it does not exist."""
        ...

    def read(self, names: Sequence[str]) -> list[bytes | OSError]:
        """Return each file's content, or why it cannot be read."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        ...

    def write_folder(self, folder: str, contents: Mapping[str, bytes]) -> None:
        """Write the files of a new folder: all or none, where the place can do that; each of them whole."""
        ...

    def move(self, name: str, to: str) -> None:
        """Give a file another name."""
        ...

    def remove(self, names: Sequence[str]) -> None:
        """Remove files; those that another process has removed already are no error."""
        ...

    def scan(self, names: Sequence[str]) -> pl.LazyFrame:
        """Return Parquet files of the same columns as one lazy table, of which a query reads what it needs."""
        ...

    def metadata(self, name: str) -> dict[str, str]:
        """Return what a Parquet file says of itself, without reading its rows."""
        ...

    def address_of(self, name: str) -> str:
        """Return what users call a file."""
        ...


class LocalPlace:
    """A folder of this machine.

    Args:
        folder: The folder; created by the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = str(folder)

    def sizes_bytes(self, folder: str) -> dict[str, int]:
        """Return the Parquet files anywhere below a folder by name, sorted."""
        found: dict[str, int] = {}
        waiting = [folder]
        while waiting:
            inside = waiting.pop()
            try:
                entries = list(os.scandir(self.folder / inside))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                # What begins with a dot is being written, or was when a process was killed.
                if entry.name.startswith("."):
                    continue
                name = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir():
                    waiting.append(name)
                elif entry.name.endswith(".parquet"):
                    with contextlib.suppress(FileNotFoundError):
                        found[name] = entry.stat().st_size
        return dict(sorted(found.items()))

    def read(self, names: Sequence[str]) -> list[bytes | OSError]:
        """Return each file's content, or why it cannot be read."""
        contents: list[bytes | OSError] = []
        for name in names:
            try:
                contents.append((self.folder / name).read_bytes())
            except OSError as error:
                contents.append(error)
        return contents

    def write(self, name: str, content: bytes) -> None:
        """Write beside and rename into place."""
        final = self.folder / name
        partial = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.partial")
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_through(partial, content)
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)

    def write_folder(self, folder: str, contents: Mapping[str, bytes]) -> None:
        """Write the folder beside and rename it into place; one that exists is kept."""
        final = self.folder / folder
        if final.exists():
            return
        partial = final.with_name(f".{final.name}-{uuid.uuid4().hex[:8]}.partial")
        try:
            partial.mkdir(parents=True)
            for name, content in contents.items():
                _write_through(partial / name, content)
            try:
                partial.replace(final)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise  # otherwise another process was first with the same folder
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def move(self, name: str, to: str) -> None:
        """Give a file another name."""
        target = self.folder / to
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).replace(target)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files, and the folders that they leave empty."""
        for name in names:
            file = self.folder / name
            file.unlink(missing_ok=True)
            if file.parent.parent != self.folder and not any(file.parent.iterdir()):
                file.parent.rmdir()

    def scan(self, names: Sequence[str]) -> pl.LazyFrame:
        """Return Parquet files as one lazy table."""
        return pl.scan_parquet([self.folder / name for name in names], glob=False)

    def metadata(self, name: str) -> dict[str, str]:
        """Return what a Parquet file says of itself."""
        return pl.read_parquet_metadata(self.folder / name)

    def address_of(self, name: str) -> str:
        """Return the file's path."""
        return str(self.folder / name)


def _write_through(file: Path, content: bytes) -> None:
    """Write a file and force it to disk."""
    with file.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
