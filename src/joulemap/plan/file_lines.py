"""Find the line of a TOML file that a field stands on, so that a message can name it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*(\"[^\"]+\"|'[^']+'|[\w.-]+)\s*=")

Location = Sequence[str | int]


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
