"""From paths to runs: find what can be read, read it, and store it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from joulemap.errors import ImportFileError
from joulemap.records import Run
from joulemap.store.importers.protocol import Importer, ImportHints, Reading
from joulemap.store.importers.registry import importer_named, importers
from joulemap.store.importers.source import Source
from joulemap.store.run_store import RunStore

RESULT_SUFFIXES = frozenset({".json", ".jsonl", ".csv", ".parquet"})
"""Files of a folder that are looked at; a file that is named by itself is always looked at."""

Progress = Callable[[int, int], None]
"""Called with the number of files or folders read and the number of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRuns:
    """What was read from a path; nothing is stored yet."""

    runs: tuple[Run, ...]
    problems: tuple[ImportFileError, ...]
    """One a bad place: a file, a row, a line."""
    formats: dict[str, int] = field(default_factory=dict)
    """Runs read by name of their format."""
    ignored: tuple[Path, ...] = ()
    """Files of a folder that are of no known format."""

    @property
    def format(self) -> str | None:
        """The format's name, several joined by ``+``; ``None`` if nothing was recognised."""
        return "+".join(self.formats) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What importing a path into a store did."""

    read: ImportedRuns
    added: int
    already_there: int


def read_path(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    hints: ImportHints | None = None,
    progress: Progress | None = None,
) -> ImportedRuns:
    """Read the runs of a file or of a folder and everything below it.

    Args:
        path: The file or folder.
        format: The format's name; recognised by content and layout if ``None``.
        hints: What the user knows of results whose format does not state it.
        progress: Called after each file or folder read.

    Raises:
        ImportFileError: The path does not exist, or nothing at it is of a known format.
        UnknownNameError: There is no such format.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise ImportFileError(str(path), None, "does not exist")
    chosen = [importer_named(format)] if format else list(importers().values())
    found, problems, ignored = _find(root, chosen, forced=format is not None)
    if not found and not problems:
        empty = root.is_file() and root.stat().st_size == 0
        reason = "is empty" if empty else "holds no results of a known format"
        raise ImportFileError(str(path), None, reason, fix=None if empty else _known_formats())
    runs: list[Run] = []
    formats: dict[str, int] = {}
    for done, (importer, source) in enumerate(found, 1):
        reading = _read(importer, source, hints or ImportHints())
        runs += reading.runs
        problems += reading.problems
        formats[importer.name] = formats.get(importer.name, 0) + len(reading.runs)
        if progress:
            progress(done, len(found))
    return ImportedRuns(runs=tuple(runs), problems=tuple(problems), formats=formats, ignored=tuple(ignored))


def import_path(
    store: RunStore,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    hints: ImportHints | None = None,
    progress: Progress | None = None,
) -> Stored:
    """Read a path as :func:`read_path` does and add its runs to the store, all or none of them.

    Raises:
        ImportFileError: As for :func:`read_path`.
        StoreError: The store cannot be written.
    """
    read = read_path(path, format=format, hints=hints, progress=progress)
    outcome = store.add(read.runs)
    return Stored(read=read, added=outcome.added, already_there=outcome.already_there)


def _find(
    root: Path, chosen: Sequence[Importer], *, forced: bool
) -> tuple[list[tuple[Importer, Source]], list[ImportFileError], list[Path]]:
    found: list[tuple[Importer, Source]] = []
    problems: list[ImportFileError] = []
    ignored: list[Path] = []
    for source in _candidates(root, chosen):
        try:
            importer = next((i for i in chosen if i.recognises(source)), None)
        except ImportFileError as error:
            problems.append(error)
            continue
        if importer is None and forced and source.path == root and not source.is_folder:
            # The user says what it is; the reader will name what is missing.
            importer = chosen[0]
        if importer is not None:
            found.append((importer, source))
        elif not source.is_folder:
            ignored.append(source.path)
    return found, problems, ignored


def _candidates(root: Path, chosen: Sequence[Importer]) -> Iterator[Source]:
    """Yield the file, or folders from the top; what lies in a folder that is a result is left to its reader."""
    if not root.is_dir():
        yield Source(root)
        return
    for folder, subfolders, names in os.walk(root):
        source = Source(Path(folder))
        if any(importer.recognises(source) for importer in chosen):
            subfolders.clear()
            yield source
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix in RESULT_SUFFIXES and not name.startswith("."):
                yield Source(Path(folder) / name)


def _read(importer: Importer, source: Source, hints: ImportHints) -> Reading:
    try:
        return importer.read(source, hints)
    except ImportFileError as error:
        return Reading(problems=[error])


def _known_formats() -> str:
    return "one of these, with --format NAME if it is not recognised: " + ", ".join(importers())
