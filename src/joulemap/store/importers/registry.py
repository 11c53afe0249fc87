"""The known formats: joulemap's own, and those of installed packages, each checked as it is loaded."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from joulemap.errors import UnknownNameError, UsageError
from joulemap.store.importers.protocol import Importer

ENTRY_POINT_GROUP = "joulemap.importers"
OWN_FORMATS = (
    "joulemap_dataset",
    "leaderboard",
    "mlenergy_llm",
    "mlenergy_diffusion",
    "mlenergy_parquet",
    "aiperf",
    "genai_perf",
    "guidellm",
    "vllm_bench",
    "zeus",
)
"""Modules of this package, in the order in which they are asked; each has an ``IMPORTER``."""

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@cache
def importers() -> dict[str, Importer]:
    """Return every known importer by name, joulemap's own first.

    Raises:
        UsageError: An installed package registers something that is no importer, or a name twice.
    """
    known: dict[str, Importer] = {}
    for module in OWN_FORMATS:
        register(known, import_module(f"joulemap.store.importers.{module}").IMPORTER, "joulemap")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        register(known, _loaded(point), point.value)
    return known


def _loaded(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:
        msg = f"the importer {point.name!r} of {point.value} cannot be loaded: {type(error).__name__}: {error}"
        raise UsageError(msg, fix="uninstall or mend the package that provides it") from error


def register(known: dict[str, Importer], candidate: object, origin: str) -> None:
    """Add an importer to those known, or say what is wrong with it.

    Raises:
        UsageError: It is no importer, or its name is malformed or taken.
    """
    if not isinstance(candidate, Importer) or isinstance(candidate, type):
        msg = f"{origin} registers {candidate!r} as an importer, which lacks name, summary, recognises or read"
        raise UsageError(msg, fix=f"uninstall or mend the package that provides {origin}")
    if not (isinstance(candidate.name, str) and _NAME.fullmatch(candidate.name)):
        msg = f"{origin} registers an importer with the malformed name {candidate.name!r}"
        raise UsageError(msg, fix="use lower-case words joined by hyphens")
    if candidate.name in known:
        msg = f"{origin} registers the importer {candidate.name!r}, a name that is taken"
        raise UsageError(msg, fix=f"uninstall or mend the package that provides {origin}")
    known[candidate.name] = candidate


def is_own(importer: Importer) -> bool:
    """Return whether an importer is joulemap's own."""
    return type(importer).__module__.startswith("joulemap.")


def importer_named(name: str) -> Importer:
    """Return the importer of this name.

    Raises:
        UnknownNameError: There is none.
    """
    found = importers().get(name)
    if found is None:
        kind = "format"
        raise UnknownNameError(kind, name, importers())
    return found
