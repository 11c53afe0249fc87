"""A reader of one JSON object's fields: every value checked, every complaint naming file, field and reason."""

from __future__ import annotations

import math
from typing import Any, NoReturn, TypeVar

from joulemap.errors import ImportFileError
from joulemap.store.importers.source import AmbiguousObject

SMALLEST_POSITIVE = 1e-12
LARGEST_NUMBER = 1e18
"""Beyond these no quantity of an inference run can lie; within them no arithmetic overflows."""
LONGEST_TEXT = 500

T = TypeVar("T")

_KINDS = {dict: "an object", AmbiguousObject: "an object", list: "a list", str: "text", bool: "true or false"}


def kind_of(value: object) -> str:
    """Return a few words that say what a JSON value is."""
    if value is None:
        return "null"
    kind = _KINDS.get(type(value))
    if kind is None:
        return f"the number {str(value)[:30]}"
    return f"the text {value[:30]!r}" if isinstance(value, str) else kind


class Fields:
    """The fields of one JSON object, read by name and checked.

    Methods named ``optional_…`` return ``None`` for a field that is absent or null; the others refuse it.

    Args:
        file: The file, for messages.
        place: Where in the file the object is, ``""`` for the whole of it.
        values: What was found there.

    Raises:
        ImportFileError: It is no object, or one in which a key occurs twice.
    """

    __slots__ = ("file", "place", "values")

    def __init__(self, file: str, place: str, values: object) -> None:
        self.file = file
        self.place = place
        if not isinstance(values, dict):
            raise ImportFileError(file, place or None, f"should be an object, not {kind_of(values)}")
        if isinstance(values, AmbiguousObject):
            self.refuse(values.duplicate, "occurs twice in one object")
        self.values: dict[str, Any] = values

    def where(self, name: str) -> str:
        """Return the place of a field, for messages."""
        shown = name if name.isprintable() and len(name) <= LONGEST_TEXT else repr(name[:30])
        return f"{self.place}.{shown}" if self.place else shown

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise the error that a field is unusable for ``reason``."""
        raise ImportFileError(self.file, self.where(name), reason)

    def number(self, name: str, *, positive: bool = False, most: float = LARGEST_NUMBER) -> float:
        """Return a finite number from zero (or just above it) up to ``most``."""
        value = self.optional_number(name, positive=positive, most=most)
        return self._there(name, value)

    def optional_number(
        self, name: str, *, positive: bool = False, most: float = LARGEST_NUMBER, scale: float = 1.0
    ) -> float | None:
        """Return a number as :meth:`number` does, times ``scale``; ``None`` if absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if type(value) is not float and type(value) is not int:
            self.refuse(name, f"should be a number, not {kind_of(value)}")
        if type(value) is float and not math.isfinite(value):
            self.refuse(name, f"should be a finite number, not {value}")
        if value > most:
            self.refuse(name, f"is too large: {_short(value)} (at most {most:g})")
        if value < 0:
            self.refuse(name, f"is negative: {_short(value)}")
        if value < SMALLEST_POSITIVE and (positive or value):
            # Between zero and this lies no quantity, only a fault that a division would blow up.
            self.refuse(name, f"should be above zero, not {value!r}" if positive else f"is too small: {value!r}")
        return value * scale

    def integer(self, name: str, *, positive: bool = False, most: int = 10**15) -> int:
        """Return a whole number from zero (or one) up to ``most``."""
        value = self.optional_integer(name, positive=positive, most=most)
        return self._there(name, value)

    def optional_integer(self, name: str, *, positive: bool = False, most: int = 10**15) -> int | None:
        """Return a whole number as :meth:`integer` does; ``None`` if absent."""
        value = self.optional_number(name, positive=positive, most=most)
        if value is None:
            return None
        if value != math.floor(value):
            self.refuse(name, f"should be a whole number, not {value!r}")
        return int(value)

    def text(self, name: str) -> str:
        """Return a printable, non-empty text."""
        value = self.optional_text(name)
        return self._there(name, value)

    def optional_text(self, name: str) -> str | None:
        """Return a text as :meth:`text` does; ``None`` if absent or empty."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self.refuse(name, f"should be text, not {kind_of(value)}")
        if len(value) > LONGEST_TEXT:
            self.refuse(name, f"is a text of {len(value):,} characters (at most {LONGEST_TEXT})")
        if not value.isprintable():
            # Control characters could steer a terminal; lone surrogates cannot be stored.
            self.refuse(name, f"has characters that cannot be printed: {value[:40]!a}")
        return value

    def optional_flag(self, name: str) -> bool | None:
        """Return true or false; ``None`` if absent."""
        value = self.values.get(name)
        if not (value is None or isinstance(value, bool)):
            self.refuse(name, f"should be true or false, not {kind_of(value)}")
        return value

    def fields(self, name: str) -> Fields:
        """Return the object in a field."""
        return Fields(self.file, self.where(name), self._there(name, self.values.get(name)))

    def optional_fields(self, name: str) -> Fields | None:
        """Return the object in a field; ``None`` if absent."""
        return None if self.values.get(name) is None else self.fields(name)

    def items(self, name: str) -> list[Any]:
        """Return the list in a field."""
        value = self._there(name, self.values.get(name))
        if not isinstance(value, list):
            self.refuse(name, f"should be a list, not {kind_of(value)}")
        return value

    def numbers(self, name: str) -> list[float]:
        """Return the list of finite numbers, none negative, in a field."""
        values = self.items(name)
        # Lists of millions of numbers are checked as a whole; the culprit is looked for only if there is one.
        if not {int, float}.issuperset(map(type, values)) or not all(0 <= v <= LARGEST_NUMBER for v in values):
            for position, value in enumerate(values):
                if type(value) not in (int, float) or not 0 <= value <= LARGEST_NUMBER:
                    self.refuse(f"{name}[{position}]", f"should be a number of zero or more, not {kind_of(value)}")
        return values

    def _there(self, name: str, value: T | None) -> T:
        if value is None:
            self.refuse(name, "is null" if name in self.values else "is missing")
        return value


def _short(value: float) -> str:
    return f"{value:g}" if type(value) is float or abs(value) <= LARGEST_NUMBER else "a huge integer"
