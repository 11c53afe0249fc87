"""A file or folder to import: read once, parsed once, with limits on what is accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from joulemap.errors import ImportFileError
from joulemap.units import BYTES_PER_MIB

T = TypeVar("T")

LARGEST_FILE_BYTES = 512 * BYTES_PER_MIB
"""Larger files are refused: parsed JSON takes about ten times its size in memory."""
PARQUET_MAGIC = b"PAR1"


class AmbiguousObject(dict[str, Any]):
    """A JSON object in which a key occurs twice: nobody can say which value is meant."""

    __slots__ = ("duplicate",)
    duplicate: str


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON value of a file: the whole of it, or a line of a JSON Lines file."""

    place: str
    """``""`` for a whole file, else for example ``"line 3"``."""
    value: Any
    problem: ImportFileError | None = None
    """Why the line has no value."""


class Source:
    """A file or folder to import.

    Args:
        path: Where it is, as the user named it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def file(self) -> str:
        """The path as shown in messages."""
        return str(self.path)

    @cached_property
    def is_folder(self) -> bool:
        """Whether this is a folder."""
        return self.path.is_dir()

    @cached_property
    def content(self) -> bytes:
        """The file's bytes.

        Raises:
            ImportFileError: The file cannot be read, or is too large.
        """
        try:
            size_bytes = self.path.stat().st_size
            if size_bytes > LARGEST_FILE_BYTES:
                reason = (
                    f"has {size_bytes / BYTES_PER_MIB:,.0f} MiB, over the limit of "
                    f"{LARGEST_FILE_BYTES // BYTES_PER_MIB} MiB"
                )
                raise ImportFileError(self.file, None, reason, fix="split it, or drop per-token records")
            if not self.path.is_file():
                raise ImportFileError(self.file, None, "is not a regular file")
            return self.path.read_bytes()
        except OSError as error:
            raise ImportFileError(self.file, None, f"cannot be read: {error.strerror or error}") from error

    @cached_property
    def text(self) -> str:
        """The file's text, without a byte-order mark.

        Raises:
            ImportFileError: The file cannot be read, or is not UTF-8.
        """
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            reason = f"is not UTF-8 text (byte {error.start})"
            raise ImportFileError(self.file, None, reason) from error

    @cached_property
    def is_parquet(self) -> bool:
        """Whether the file begins as Parquet does."""
        return not self.is_folder and self.content.startswith(PARQUET_MAGIC)

    @cached_property
    def is_json(self) -> bool:
        """Whether the file begins as a JSON object or list does."""
        return not self.is_folder and self.content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")

    @cached_property
    def lines(self) -> list[Line]:
        """The file's JSON values: one for a JSON file, one a line for JSON Lines.

        Raises:
            ImportFileError: The file cannot be read or is no JSON.
        """
        try:
            return [Line("", parse_json(self.text))]
        except ValueError as error:
            if not (self.path.suffix == ".jsonl" or "Extra data" in str(error)):
                raise ImportFileError(self.file, None, _why_no_json(error, self.text)) from error
        except RecursionError as error:
            raise ImportFileError(self.file, None, "is nested too deeply") from error
        return [self._line(number, line) for number, line in enumerate(self.text.split("\n"), 1) if line.strip()]

    @cached_property
    def first(self) -> dict[str, Any]:
        """The file's first JSON object, for recognising a format; empty if it has none."""
        if not self.is_json:
            return {}
        return next((line.value for line in self.lines if isinstance(line.value, dict)), {})

    @property
    def document(self) -> Any:
        """The file's one JSON value.

        Raises:
            ImportFileError: The file cannot be read or is not one JSON value.
        """
        if len(self.lines) != 1:
            raise ImportFileError(self.file, None, "should be one JSON object")
        if problem := self.lines[0].problem:
            raise problem
        return self.lines[0].value

    def child(self, name: str) -> Source:
        """Return an entry of the folder; the same object each time, so that it is parsed once."""
        return self._children.setdefault(name, Source(self.path / name))

    def once(self, name: str, read: Callable[[], T]) -> T:
        """Return what ``read`` returns, called the first time only: for what recognising and reading both need."""
        if name not in self._read_once:
            self._read_once[name] = read()
        found: T = self._read_once[name]
        return found

    @cached_property
    def _read_once(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _children(self) -> dict[str, Source]:
        return {}

    def _line(self, number: int, text: str) -> Line:
        place = f"line {number}"
        try:
            return Line(place, parse_json(text))
        except RecursionError:
            reason = "is nested too deeply"
        except ValueError as error:
            reason = _why_no_json(error, text)
        return Line(place, None, ImportFileError(self.file, place, reason))


def parse_json(text: str) -> Any:
    """Return the JSON value of a text; an object with a key twice is an :class:`AmbiguousObject`.

    Raises:
        ValueError: The text is no JSON, or an integer in it has thousands of digits.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    ambiguous = AmbiguousObject(found)
    ambiguous.duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return ambiguous


def _why_no_json(error: ValueError, text: str) -> str:
    if not text.strip():
        return "is empty"
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated"):
            return f"is truncated: the JSON ends unfinished at line {error.lineno}"
        return f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    return f"is not JSON that can be read: {str(error).split(';')[0]}"
