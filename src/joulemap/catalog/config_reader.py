"""Read a model's config file, trusting nothing in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from joulemap.errors import CatalogError

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_WIDTH = 10_000_000
"""Largest dimension, vocabulary or context taken for meant."""
MAX_CONTEXT_TOKENS = 1_000_000_000
MAX_COUNT = 100_000
"""Most layers, heads or experts taken for meant."""

_REQUIRED: Any = object()


class ConfigReader:
    """A JSON object of which each value is checked when it is taken.

    Args:
        table: The object.
        where: What names it in messages, for example the file.
        defaults: Values for keys that the object does not have.
    """

    def __init__(self, table: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.where = where
        self._table = table
        self._defaults = defaults or {}

    def has(self, key: str) -> bool:
        """Return whether a key is there with a value other than null."""
        return self._get(key) is not None

    def first(self, *keys: str) -> str | None:
        """Return the first of several keys that has a value."""
        return next((key for key in keys if self.has(key)), None)

    def integer(self, *keys: str, default: int | None = _REQUIRED, low: int = 1, high: int = MAX_WIDTH) -> int:
        """Return a whole number, from the first of several keys that has a value.

        Raises:
            CatalogError: There is none and no default, or it is not one from ``low`` to ``high``.
        """
        key = self.first(*keys)
        if key is None:
            if default is _REQUIRED:
                raise self.missing(*keys)
            return default  # type: ignore[return-value]
        value = self._get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.reject(key, f"must be a whole number, not {_shown(value)}")
        if not low <= value <= high:
            self.reject(key, f"must be from {low} to {high}, not {value}")
        return value

    def number(self, key: str, *, default: float, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            self.reject(key, f"must be a number from {low} to {high}, not {_shown(value)}")
        return float(value)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return a truth value."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.reject(key, f"must be true or false, not {_shown(value)}")
        return value

    def text(self, key: str, *, default: str = "") -> str:
        """Return a text."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.reject(key, f"must be a text, not {_shown(value)}")
        return value

    def items(self, key: str) -> list[Any] | None:
        """Return a list, or ``None`` where there is none."""
        value = self._get(key)
        if value is not None and not isinstance(value, list):
            self.reject(key, f"must be a list, not {_shown(value)}")
        return value

    def integers(self, key: str, *, low: int = 0, high: int = MAX_COUNT) -> list[int]:
        """Return a list of whole numbers; empty where there is none."""
        values = self.items(key) or []
        for value in values:
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                self.reject(key, f"must hold whole numbers from {low} to {high}, not {_shown(value)}")
        return values

    def texts(self, key: str) -> list[str]:
        """Return a list of texts; empty where there is none."""
        values = self.items(key) or []
        for value in values:
            if not isinstance(value, str):
                self.reject(key, f"must hold texts, not {_shown(value)}")
        return values

    def section(self, key: str) -> ConfigReader | None:
        """Return an object inside this one, or ``None`` where there is none."""
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.reject(key, f"must be an object, not {_shown(value)}")
        return ConfigReader(value, f"{self.where}: {key}")

    def sections(self, key: str) -> list[ConfigReader]:
        """Return the objects inside an object of this one; those that are no objects are left out."""
        outer = self.section(key)
        if outer is None:
            return []
        return [
            ConfigReader(value, f"{outer.where}.{name}")
            for name, value in outer._table.items()
            if isinstance(value, dict)
        ]

    def inside(self, outer: ConfigReader, defaults: Mapping[str, Any]) -> ConfigReader:
        """Return this object with what it lacks taken from the one around it, then from defaults."""
        around = {k: v for k, v in outer._table.items() if not isinstance(v, dict | list)}
        return ConfigReader(self._table, self.where, {**defaults, **around})

    def with_defaults(self, defaults: Mapping[str, Any]) -> ConfigReader:
        """Return this object with defaults for what it lacks."""
        return ConfigReader(self._table, self.where, {**defaults, **self._defaults})

    def missing(self, *keys: str) -> CatalogError:
        """Return the error that a needed key is not there."""
        names = " or ".join(repr(k) for k in keys)
        msg = f"{self.where}: the key {names} is needed to know the model's shape, and is not there"
        return CatalogError(msg, fix="use the model's own config.json, complete and unchanged")

    def reject(self, key: str, reason: str) -> NoReturn:
        """Raise the error that a key's value cannot be used."""
        msg = f"{self.where}: {key!r} {reason}"
        raise CatalogError(msg)

    def _get(self, key: str) -> Any:
        value = self._table.get(key)
        return self._defaults.get(key) if value is None else value


def read_config(source: Path | str | Mapping[str, Any], name: str = "config.json") -> ConfigReader:
    """Open a config given as a file, as the folder that holds it, or as the object itself.

    Raises:
        CatalogError: There is no such file, or it is not one JSON object of at most 16 MiB.
    """
    if isinstance(source, Mapping):
        return ConfigReader(source, "the given config")
    path = Path(source)
    if path.is_dir():
        path = path / name
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            msg = f"{path}: larger than {MAX_FILE_BYTES} bytes, too large for a model's config file"
            raise CatalogError(msg)
        table = json.loads(path.read_bytes())
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise CatalogError(msg) from error
    except (ValueError, RecursionError) as error:
        # ValueError: not UTF-8, not JSON, or a number of absurd length.
        msg = f"{path}: not a JSON file: {str(error)[:200]}"
        raise CatalogError(msg) from error
    if not isinstance(table, dict):
        msg = f"{path}: holds {_shown(table)}, not an object"
        raise CatalogError(msg)
    return ConfigReader(table, str(path))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
