"""The arrows between joulemap's parts point one way."""

from __future__ import annotations

from pathlib import Path

import pytest

import joulemap
from tests.layering import ALLOWED, cycle, imports_of, modules_of, wrong_arrows

PACKAGE = Path(joulemap.__file__).parent

PURE_PARTS_NEVER_IMPORT = {"os", "io", "time", "logging", "pathlib", "subprocess", "socket", "datetime", "random"}


def test_no_import_points_back() -> None:
    assert wrong_arrows(imports_of(PACKAGE)) == []


def test_no_import_cycle() -> None:
    assert cycle(imports_of(PACKAGE)) == []


def test_every_part_is_in_the_table() -> None:
    assert {name.partition(".")[0] for name in modules_of(PACKAGE)} <= set(ALLOWED)


def test_the_table_itself_has_no_cycle() -> None:
    order = [part for part in ALLOWED if part not in {"cli", "web", "", "__main__"}]
    for position, part in enumerate(order):
        assert ALLOWED[part] <= set(order[:position]), f"{part} may import something that comes after it"


def test_nothing_that_reads_runs_can_measure() -> None:
    for part in ("predict", "diagnose", "study", "optimize", "plan", "report"):
        assert "measure" not in ALLOWED[part]


def test_physics_opens_no_file_and_reads_no_clock() -> None:
    for name, path in modules_of(PACKAGE / "physics").items():
        tree = {line.split()[1].split(".")[0] for line in _import_lines(path)}
        assert not tree & PURE_PARTS_NEVER_IMPORT, f"physics.{name} imports {tree & PURE_PARTS_NEVER_IMPORT}"


def _import_lines(path: Path) -> list[str]:
    return [x.strip() for x in path.read_text().splitlines() if x.strip().startswith(("import ", "from "))]


PLANTED = {
    "at the top": "from joulemap.diagnose.explain import explain",
    "plainly": "import joulemap.diagnose.explain",
    "of a package's module": "from joulemap.diagnose import explain",
    "in a function": "def f():\n    from joulemap.diagnose.explain import explain",
    "by name": "from importlib import import_module\nimport_module('joulemap.diagnose.explain')",
    "by a built name": "import importlib\nimportlib.import_module(f'joulemap.diagnose.{1}')",
    "for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from joulemap.diagnose import explain",
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_import_that_points_back_is_found(tmp_path: Path, how: str) -> None:
    package = _package(tmp_path, {"store/runs.py": PLANTED[how], "diagnose/explain.py": "explain = 1"})
    (line,) = wrong_arrows(imports_of(package))
    assert line.startswith("store.runs:")
    assert "diagnose" in line


def test_allowed_imports_are_not_reported(tmp_path: Path) -> None:
    package = _package(
        tmp_path,
        {
            "units.py": "",
            "store/runs.py": "import os\nfrom joulemap import __version__\nfrom joulemap.units import J",
            "cli/app.py": "from joulemap.store import runs\nimport joulemap.store.runs",
        },
    )
    assert wrong_arrows(imports_of(package)) == []


def test_the_public_names_are_not_for_parts_below_the_command_line(tmp_path: Path) -> None:
    package = _package(tmp_path, {"store/runs.py": "from joulemap import explain"})
    assert wrong_arrows(imports_of(package)) == ["store.runs:1 imports the package itself"]


def test_an_unknown_part_is_reported(tmp_path: Path) -> None:
    package = _package(tmp_path, {"units.py": "", "helpers/any.py": "import joulemap.units"})
    assert wrong_arrows(imports_of(package)) == ["helpers.any: 'helpers' is no known part of the package"]


@pytest.mark.parametrize("statement", ["from joulemap.store.b import x", "def f():\n    import joulemap.store.b"])
def test_a_planted_cycle_is_found(tmp_path: Path, statement: str) -> None:
    package = _package(tmp_path, {"store/a.py": statement, "store/b.py": "from joulemap.store.a import y"})
    assert set(cycle(imports_of(package))) == {"store.a", "store.b"}


def test_imports_for_types_close_no_cycle(tmp_path: Path) -> None:
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from joulemap.store.b import x"
    package = _package(tmp_path, {"store/a.py": guarded, "store/b.py": "from joulemap.store.a import y"})
    assert cycle(imports_of(package)) == []


def _package(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "joulemap"
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return package
