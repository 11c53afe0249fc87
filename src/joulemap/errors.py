"""The errors that joulemap raises, each with what happened, why, and what mends it.

::

    JoulemapError                     exit code 2
    ├── UsageError                    2   an option, selector or name that means nothing
    │   ├── SelectorError             2   a run selector that cannot be parsed, or matches no run or too many
    │   └── UnknownNameError          2   a name that the catalog or store does not have; suggests the nearest
    ├── InputError                    2   a file's content that cannot be used
    │   ├── ImportFileError           2   a result file: names file, field and reason
    │   ├── StoreError                2   a run store that cannot be read or written
    │   └── CatalogError              2   a catalog entry or a model's config file
    ├── InfeasibleError               2   a configuration or plan that no setting can satisfy
    ├── MeasurementError              2   a measurement that could not be completed
    │   ├── ServerError               2   the measured server refused, died, hung or answered nonsense
    │   └── MeterError                2   a meter stopped or contradicts itself
    └── EnvironmentLacksError         3   something this machine does not have
        ├── MissingExtraError         3   an optional dependency; names the extra
        ├── EmptyStoreError           3   no runs to work on; names the commands that bring some
        └── OfflineError              3   a download that did not succeed

An interrupted command ends with 130 and keeps what was complete.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_BAD_INPUT = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130


class JoulemapError(Exception):
    """Base of every error that a user may see.

    Args:
        message: What happened, with the value, and why.
        fix: What mends it, as a command where one does.
    """

    exit_code: int = EXIT_BAD_INPUT

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message if fix is None else f"{message}\n  fix: {fix}")
        self.message = message
        self.fix = fix


class UsageError(JoulemapError):
    """An option, selector or name that means nothing."""


class SelectorError(UsageError):
    """A run selector that cannot be parsed, or that matches no run or too many."""


class UnknownNameError(UsageError):
    """A name that the catalog or the store does not have.

    Args:
        kind: What was named, for example ``"GPU model"``.
        name: The unknown name.
        known: The names that exist; the nearest are suggested.
        fix: What mends it; by default, the nearest names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, fix: str | None = None) -> None:
        names = sorted(set(known))
        near = nearest_names(name, names)
        if fix is None and near:
            fix = "did you mean " + " or ".join(repr(n) for n in near) + "?"
        elif fix is None and names:
            fix = "one of: " + ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
        super().__init__(f"unknown {kind} {name!r}", fix=fix)
        self.kind = kind
        self.name = name
        self.suggestions = near


class InputError(JoulemapError):
    """A file's content that cannot be used."""


class ImportFileError(InputError):
    """A result file that cannot be imported.

    Args:
        file: The file, as the user named it.
        field: Where in the file, for example ``configurations[3].avg_power_watts``; ``None`` for the whole.
        reason: What is wrong there, with the value.
        fix: What mends it.
    """

    def __init__(self, file: str, field: str | None, reason: str, *, fix: str | None = None) -> None:
        where = f"{file}: {field}" if field else file
        super().__init__(f"{where}: {reason}", fix=fix)
        self.file = file
        self.field = field
        self.reason = reason


class StoreError(InputError):
    """A run store that cannot be read or written."""


class CatalogError(InputError):
    """A catalog entry, or a model's config file, that cannot be used."""


class InfeasibleError(JoulemapError):
    """A configuration or plan that no setting can satisfy."""


class MeasurementError(JoulemapError):
    """A measurement that could not be completed."""


class ServerError(MeasurementError):
    """The measured server refused, died, hung or answered nonsense."""


class MeterError(MeasurementError):
    """A meter stopped, or contradicts itself."""


class EnvironmentLacksError(JoulemapError):
    """Something that this machine does not have."""

    exit_code = EXIT_ENVIRONMENT


def install_extra(extra: str) -> str:
    """Return the command that installs an extra of joulemap."""
    return f"pip install 'joulemap[{extra}]'   (in a checkout: uv sync --extra {extra})"


class MissingExtraError(EnvironmentLacksError):
    """An optional dependency that is not installed.

    Args:
        extra: The extra of joulemap that brings it.
        needed_for: What the user asked for.
        module: The module that could not be imported.
    """

    def __init__(self, extra: str, needed_for: str, module: str) -> None:
        super().__init__(
            f"{needed_for} needs the optional dependency {module!r}, which is not installed",
            fix=install_extra(extra),
        )
        self.extra = extra


class EmptyStoreError(EnvironmentLacksError):
    """A store without runs, where runs are needed.

    Args:
        store: The store's folder.
    """

    def __init__(self, store: str) -> None:
        super().__init__(
            f"the run store {store} holds no runs",
            fix="'joulemap import study' brings the study's 1,858 measured configurations; "
            "'joulemap import PATH' brings results that you have; 'joulemap measure' makes new ones",
        )


class OfflineError(EnvironmentLacksError):
    """A download that did not succeed."""


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names most like ``name``, ignoring case, best first."""
    by_folded = {k.casefold(): k for k in known}
    folded = name.casefold()
    near = difflib.get_close_matches(folded, by_folded, n=count, cutoff=0.5)
    if len(near) < count:
        near += [k for k in by_folded if folded and folded in k and k not in near]
    return [by_folded[k] for k in near[:count]]
