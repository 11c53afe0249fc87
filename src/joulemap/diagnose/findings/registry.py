"""Finds the findings: every module of this folder that has a ``NAME``, and those of third parties."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

import polars as pl

from joulemap.diagnose import findings
from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Finding, FindingKind

ENTRY_POINT_GROUP = "joulemap.findings"
NEGLIGIBLE = 0.05
"""Weight times confidence below which a defect does not come before choices: 5 % of the energy, surely."""


@dataclass(frozen=True, slots=True)
class RegisteredFinding:
    """A finding's module, checked."""

    NAME: str
    find: Callable[[Case], Finding | None]
    alternative: Callable[[pl.DataFrame], pl.DataFrame] | None


@cache
def registered_findings() -> tuple[RegisteredFinding, ...]:
    """Return all findings, joulemap's own first.

    Raises:
        TypeError: A module lacks ``NAME`` or ``find``, or two have one name.
    """
    names = [m.name for m in pkgutil.iter_modules(findings.__path__) if m.name not in {"registry", "wording"}]
    modules = [importlib.import_module(f"{findings.__name__}.{name}") for name in sorted(names)]
    modules += [entry.load() for entry in entry_points(group=ENTRY_POINT_GROUP)]
    registered = [_checked(module) for module in modules]
    duplicates = {f.NAME for f in registered if sum(f.NAME == g.NAME for g in registered) > 1}
    if duplicates:
        msg = f"several findings are named {', '.join(sorted(duplicates))}"
        raise TypeError(msg)
    return tuple(registered)


def findings_of(case: Case) -> tuple[Finding, ...]:
    """Return what is found in a case, what matters most first.

    Doubts of the measurement come first, since nothing else can be trusted before; then defects that matter, that
    which shows why the bound binds before others; then choices. Within each, the weightiest is first.
    """
    found = [finding for f in registered_findings() if (finding := f.find(case)) is not None]

    def importance(finding: Finding) -> tuple[bool, bool, bool, float]:
        return (
            finding.kind is not FindingKind.MEASUREMENT,
            finding.kind is FindingKind.CHOICE or _score(finding) < NEGLIGIBLE,
            finding.shows is None or finding.shows is not case.bound_by,
            -_score(finding),
        )

    return tuple(sorted(found, key=importance))


def _score(finding: Finding) -> float:
    return finding.weight * finding.confidence


def _checked(module: ModuleType) -> RegisteredFinding:
    name, find = getattr(module, "NAME", None), getattr(module, "find", None)
    if not isinstance(name, str) or not callable(find):
        msg = f"the finding module {module.__name__} has no NAME or no find(case)"
        raise TypeError(msg)
    return RegisteredFinding(NAME=name, find=find, alternative=getattr(module, "alternative", None))
