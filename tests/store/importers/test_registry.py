"""How formats are known, and how third parties add theirs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from joulemap.errors import UnknownNameError, UsageError
from joulemap.records import Deployment, Measured, Provenance, Run, Workload
from joulemap.store.importers import ImportHints, Reading, importers, read_path, registry
from joulemap.store.importers.source import Source


class TallyImporter:
    """A third party's format: ``MODEL JOULES`` a line."""

    name = "tally"
    summary = "tallies"

    def recognises(self, source: Source) -> bool:
        return not source.is_folder and source.path.suffix == ".tally"

    def read(self, source: Source, hints: ImportHints) -> Reading:
        runs = []
        for line in source.text.splitlines():
            model, energy_j = line.split()
            runs.append(
                Run(
                    workload=Workload(),
                    deployment=Deployment(model_id=model),
                    measured=Measured(energy_per_output_j=float(energy_j)),
                    provenance=Provenance(source="tally"),
                )
            )
        return Reading(runs=runs)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Install something under the entry-point group for the length of a test."""
    module = ModuleType("tally_package")
    monkeypatch.setitem(sys.modules, "tally_package", module)

    def install(**importers_by_name: object) -> None:
        points = []
        for name, importer in importers_by_name.items():
            setattr(module, name, importer)
            points.append(EntryPoint(name, f"tally_package:{name}", registry.ENTRY_POINT_GROUP))
        found = EntryPoints(points)
        monkeypatch.setattr(registry, "entry_points", lambda group: found.select(group=group))
        importers.cache_clear()

    yield install
    importers.cache_clear()


def test_own_formats() -> None:
    known = importers()
    assert len(known) == len(registry.OWN_FORMATS)
    assert all(importer.summary for importer in known.values())
    with pytest.raises(UnknownNameError, match="did you mean 'guidellm'"):
        registry.importer_named("guidelm")


def test_a_third_partys_format(installed: Any, tmp_path: Path) -> None:
    installed(tally=TallyImporter())
    path = tmp_path / "a.tally"
    path.write_text("acme/tiny 2.5\n")
    (run,) = read_path(path).runs
    assert run.measured.energy_per_output_j == 2.5


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (object(), "lacks name, summary"),
        (TallyImporter, "lacks name, summary"),
        (type("T", (TallyImporter,), {"name": "Bad Name"})(), "malformed name"),
        (type("T", (TallyImporter,), {"name": "aiperf"})(), "a name that is taken"),
        (type("T", (TallyImporter,), {"name": 7})(), "malformed name"),
    ],
)
def test_what_is_no_importer_is_refused_when_it_is_loaded(installed: Any, candidate: object, words: str) -> None:
    installed(tally=candidate)
    with pytest.raises(UsageError, match=words):
        importers()


def test_a_package_that_cannot_be_loaded(installed: Any) -> None:
    installed(tally=TallyImporter())
    del sys.modules["tally_package"]
    with pytest.raises(UsageError, match="cannot be loaded"):
        importers()


def test_a_third_partys_fault_is_named_as_theirs(installed: Any, tmp_path: Path) -> None:
    installed(tally=TallyImporter())
    (tmp_path / "a.tally").write_text("just-one-word\n")
    (problem,) = read_path(tmp_path / "a.tally").problems
    assert "importer 'tally' failed" in problem.reason
    assert "ValueError" in problem.reason
