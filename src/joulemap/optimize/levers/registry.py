"""Finds the levers: every module of this folder that has a ``NAME``, and those of third parties."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import polars as pl

from joulemap.diagnose.diagnosis import Change
from joulemap.errors import UnknownNameError
from joulemap.optimize import levers

ENTRY_POINT_GROUP = "joulemap.levers"
_NOT_LEVERS = {"registry", "varied"}


@dataclass(frozen=True, slots=True)
class RegisteredLever:
    """A lever's module, checked."""

    NAME: str
    COSTS: str
    EVIDENCE: str
    applies: Callable[[Mapping[str, Any]], bool]
    options: Callable[[pl.DataFrame], pl.DataFrame]
    change: Callable[[pl.DataFrame], list[Change | None]] | None
    """What the lever does to each row of ``options``, where no column of the run table tells the model."""


@cache
def registered_levers() -> Mapping[str, RegisteredLever]:
    """Return all levers by name, joulemap's own first.

    Raises:
        TypeError: A module lacks a part of a lever, or two have one name.
    """
    names = [m.name for m in pkgutil.iter_modules(levers.__path__) if m.name not in _NOT_LEVERS]
    modules = [importlib.import_module(f"{levers.__name__}.{name}") for name in sorted(names)]
    modules += [entry.load() for entry in entry_points(group=ENTRY_POINT_GROUP)]
    found: dict[str, RegisteredLever] = {}
    for module in modules:
        lever = checked(module)
        if lever.NAME in found:
            msg = f"several levers are named {lever.NAME}"
            raise TypeError(msg)
        found[lever.NAME] = lever
    return found


def lever_named(name: str) -> RegisteredLever:
    """Return a lever by name.

    Raises:
        UnknownNameError: There is none.
    """
    found = registered_levers()
    if name not in found:
        kind = "lever"
        raise UnknownNameError(kind, name, found)
    return found[name]


def checked(module: ModuleType) -> RegisteredLever:
    """Return a module as a lever.

    Raises:
        TypeError: It lacks a part of one.
    """
    parts = {name: getattr(module, name, None) for name in ("NAME", "COSTS", "EVIDENCE", "applies", "options")}
    worded = all(isinstance(value, str) and value for name, value in parts.items() if name.isupper())
    if not worded or not all(callable(value) for name, value in parts.items() if name.islower()):
        msg = f"the lever module {module.__name__} lacks NAME, COSTS, EVIDENCE, applies(row) or options(frame)"
        raise TypeError(msg)
    return RegisteredLever(**parts, change=getattr(module, "change", None))  # type: ignore[arg-type]
