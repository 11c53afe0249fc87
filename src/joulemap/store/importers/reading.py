"""From paths to runs: find what can be read, read it, and store it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from joulemap.errors import ImportFileError
from joulemap.records import Run
from joulemap.store.importers.protocol import Importer, ImportHints, Reading
from joulemap.store.importers.registry import importer_named, importers, is_own
from joulemap.store.importers.source import Source
from joulemap.store.run_store import RunStore

RESULT_SUFFIXES = frozenset({".json", ".jsonl", ".csv", ".parquet"})
"""Files of a folder that are looked at; a file that is named by itself is always looked at."""

Progress = Callable[[int], None]
"""Called with the number of files and folders looked at so far."""


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
        progress: Called after each file or folder looked at.

    Raises:
        ImportFileError: The path does not exist, or nothing at it is of a known format.
        UnknownNameError: There is no such format.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise ImportFileError(str(path), None, "does not exist", fix="check the path")
    chosen = [importer_named(format)] if format else list(importers().values())
    found = _Found()
    for done, source in enumerate(_candidates(root, chosen, found), 1):
        _read(source, chosen, hints or ImportHints(), found, forced=format is not None and source.path == root)
        if progress:
            progress(done)
    if not found.formats and not found.problems:
        empty = root.is_file() and root.stat().st_size == 0
        reason = "is empty" if empty else "holds no results of a known format"
        raise ImportFileError(str(path), None, reason, fix=None if empty else _known_formats())
    return ImportedRuns(
        runs=tuple(found.runs),
        problems=tuple(found.problems),
        formats=found.formats,
        ignored=tuple(found.ignored),
    )


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


@dataclass(slots=True)
class _Found:
    runs: list[Run] = field(default_factory=list)
    problems: list[ImportFileError] = field(default_factory=list)
    formats: dict[str, int] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)


def _candidates(root: Path, chosen: Sequence[Importer], found: _Found) -> Iterator[Source]:
    """Yield the file, or folders from the top; what lies in a folder that is a result is left to its reader.

    One at a time, so that no more than one parsed file is held.
    """
    if not root.is_dir():
        yield Source(root)
        return
    for folder, subfolders, names in os.walk(root):
        source = Source(Path(folder))
        try:
            claimed = any(importer.recognises(source) for importer in chosen)
        except ImportFileError as error:
            # A result whose main file is damaged: what lies beside it means nothing by itself.
            found.problems.append(error)
            subfolders.clear()
            continue
        if claimed:
            subfolders.clear()
            yield source
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix in RESULT_SUFFIXES and not name.startswith("."):
                yield Source(Path(folder) / name)


def _read(source: Source, chosen: Sequence[Importer], hints: ImportHints, found: _Found, *, forced: bool) -> None:
    try:
        importer = next((i for i in chosen if i.recognises(source)), None)
        if importer is None and forced:
            # The user says what it is; the reader will name what is missing.
            importer = chosen[0]
        if importer is None:
            found.ignored.append(source.path)
            return
        reading = importer.read(source, hints) if is_own(importer) else _read_by_others(importer, source, hints)
    except ImportFileError as error:
        found.problems.append(error)
        return
    found.runs += reading.runs
    found.problems += reading.problems
    found.formats[importer.name] = found.formats.get(importer.name, 0) + len(reading.runs)


def _read_by_others(importer: Importer, source: Source, hints: ImportHints) -> Reading:
    """Read by a third party's importer, whose faults must not end the import of other files."""
    try:
        return importer.read(source, hints)
    except ImportFileError:
        raise
    except Exception as error:
        reason = f"the importer {importer.name!r} failed: {type(error).__name__}: {error}"
        raise ImportFileError(source.file, None, reason, fix="tell the package that provides it") from error


def _known_formats() -> str:
    return "one of these, with --format NAME if it is not recognised: " + ", ".join(importers())
