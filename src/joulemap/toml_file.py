"""TOML files that users write: reading them, and saying what is wrong with line, field, expectation and example."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from joulemap.errors import InputError

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*(\"[^\"]+\"|'[^']+'|[\w.-]+)\s*=")
_SAME_PLACE = 3
"""Keys and positions that two complaints about one value share at the start."""

Location = Sequence[str | int]


class Table(BaseModel):
    """A table of such a file: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=Table)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """What all files of a kind have in common, for messages about one of them."""

    name: str
    """What people call it: ``"plan file"``."""
    page: str
    """The page of the documentation that shows one."""
    example: str
    """A complete file."""
    examples: Mapping[str, str]
    """A line for each field that may well be wrong."""
    fields: Sequence[str]
    """Every field, for suggestions."""

    def text_of(self, path: Path) -> str:
        """Return a file's text.

        Raises:
            InputError: It cannot be read.
        """
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            msg = f"the {self.name} {path} cannot be read: {reason}"
            raise InputError(msg, fix=f"give the path of a TOML file; {self.page} shows one") from error

    def parse(self, shape: type[T], text: str, name: str) -> T:
        """Return a file's content in its shape.

        Raises:
            InputError: The text is no TOML, or a field is wrong; names line and field.
        """
        try:
            tables = tomllib.loads(text)
        except RecursionError as error:
            msg = f"{name} is nested too deeply for a {self.name}"
            raise InputError(msg, fix=f"a complete {self.name} is\n\n{self.example}") from error
        except tomllib.TOMLDecodeError as error:
            msg = f"{name} is no valid TOML: {error}"
            raise InputError(msg, fix=f"a complete {self.name} is\n\n{self.example}") from error
        try:
            return shape.model_validate(tables)
        except ValidationError as error:
            raise self._explained(error, tables, text, name) from error

    def wrong(
        self, name: str, text: str, where: Location, what: str, expected: str, field: str | None = None
    ) -> InputError:
        """Return the error about one field.

        Args:
            name: The file, as the user named it.
            text: Its text.
            where: Keys and positions that lead to the field.
            what: What is wrong: ``"is missing"``.
            expected: What would be right.
            field: The field of which to show an example; by default the last of ``where``.
        """
        line = line_of(text, where)
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in where).lstrip(".")
        key = field or next((p for p in reversed(where) if isinstance(p, str)), "")
        place = f"{name}, line {line}" if line else name
        example = self.examples.get(key)
        fix = f"for example  {example}" if example else f"a complete {self.name} is\n\n{self.example}"
        return InputError(f"{place}: {path} {what}; expected: {expected}", fix=fix)

    def _explained(self, error: ValidationError, tables: dict[str, Any], text: str, name: str) -> InputError:
        """Return the first of pydantic's complaints in our words."""
        found = error.errors()
        # A mistyped name shows as one unknown and one missing field: the unknown one is what was meant.
        lead = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        # Where a number or a list may stand, both complaints come; the one that goes deeper says which is wrong.
        same = [e for e in found if e["loc"][:_SAME_PLACE] == lead["loc"][:_SAME_PLACE]]
        first = max(same, key=lambda e: len(e["loc"]))
        where = tuple(part for part in first["loc"] if isinstance(part, int) or part in _keys(tables))
        kind = first["type"]
        if kind == "missing":
            return self.wrong(name, text, tuple(first["loc"]), "is missing", "a value")
        if kind == "extra_forbidden":
            near = difflib.get_close_matches(str(where[-1]), self.fields, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            expected = f"a field that {self.name}s have{meant}"
            return self.wrong(name, text, where, "is unknown", expected, near[0] if near else None)
        expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        given = first["input"]
        what = f"is {given!r}" if isinstance(given, str | int | float | bool) else "is wrong"
        return self.wrong(name, text, where, what, expected)


def line_of(text: str, location: Location) -> int | None:
    """Return the line (from 1) of a field, or of the nearest table around it.

    Args:
        text: The TOML file.
        location: Keys and positions from the top, for example ``("sites", 0, "pools", 1, "count")``.

    Returns:
        The line; ``None`` if not even the outermost table is there.
    """
    wanted = tuple(location)
    best: tuple[int, int] | None = None
    for number, path in _paths(text):
        shared = _shared(path, wanted)
        whole = shared == len(path)
        if whole and shared and (best is None or shared > best[0]):
            best = (shared, number)
    return best[1] if best else None


def _paths(text: str) -> list[tuple[int, tuple[str | int, ...]]]:
    """Return each table header and key with its line and its full path."""
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    found: list[tuple[int, tuple[str | int, ...]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        header = _TABLE.match(line)
        if header:
            table = _opened(header.group(2), counts, is_array=header.group(1) == "[[")
            found.append((number, table))
            continue
        key = _KEY.match(line)
        if key:
            found.append((number, (*table, *_names(key.group(1)))))
    return found


def _opened(name: str, counts: dict[tuple[str | int, ...], int], *, is_array: bool) -> tuple[str | int, ...]:
    path: tuple[str | int, ...] = ()
    names = _names(name)
    for position, part in enumerate(names):
        path = (*path, part)
        if is_array and position == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _names(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _shared(path: Sequence[str | int], wanted: Sequence[str | int]) -> int:
    count = 0
    for a, b in zip(path, wanted, strict=False):
        if a != b:
            break
        count += 1
    return count


def _keys(tables: object) -> set[str]:
    """Return every key in nested tables; pydantic's locations hold names of types beside them."""
    if isinstance(tables, dict):
        return set(tables).union(*map(_keys, tables.values()))
    if isinstance(tables, list):
        return set().union(*map(_keys, tables))
    return set()
