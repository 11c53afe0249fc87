"""What the documentation says is so: commands run, quantities are named, references are up to date."""

from __future__ import annotations

import doctest
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

import joulemap
from joulemap.cli.app import run
from joulemap.diagnose.diagnosis import Bound, Part
from joulemap.predict.predict import LATENTS, OUTCOMES
from joulemap.records import Deployment, Measured, Workload
from joulemap.records.run import unit_of
from joulemap.store.importers.registry import OWN_FORMATS
from joulemap.store.run_store import STORE_ENVIRONMENT_VARIABLE, RunStore
from scripts import python_reference
from scripts.cli_reference import REFERENCE, render
from tests.layering import modules_of

ROOT = Path(__file__).resolve().parents[1]
NOMENCLATURE = ROOT / "docs" / "nomenclature.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

NEWLINE = "\n"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"^```\w+ title=\"([\w.-]+)\"\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def examples() -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """Yield page and line of each console block, and its ``$ joulemap …`` with the output shown."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in _BLOCK.finditer(text):
            commands = []
            for part in re.split(r"^\$ ", block.group(1), flags=re.MULTILINE)[1:]:
                command, *shown = part.replace("\\\n", " ").splitlines()
                if command.startswith("joulemap "):
                    commands.append((command, shown))
            if commands:
                yield f"{page.relative_to(ROOT)}:{text[: block.start()].count(NEWLINE) + 2}", commands


EXAMPLES = list(examples())
PROGRAMS = [
    (f"{page.relative_to(ROOT)}:{text[: found.start()].count(NEWLINE) + 1}", found.group(1))
    for page in PAGES
    for text in [page.read_text(encoding="utf-8")]
    for found in _PROGRAM.finditer(text)
]


@pytest.mark.parametrize(("place", "commands"), EXAMPLES, ids=[place for place, _ in EXAMPLES])
def test_commands_in_the_docs_run_and_print_what_is_shown(
    place: str,
    commands: list[tuple[str, list[str]]],
    study_store: RunStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(STORE_ENVIRONMENT_VARIABLE, str(study_store.folder))
    monkeypatch.chdir(tmp_path)
    page = (ROOT / place.partition(":")[0]).read_text(encoding="utf-8")
    for name, content in _FILE.findall(page):
        (tmp_path / name).write_text(content, encoding="utf-8")
    # One after the other in one folder, so that a command may use what the one before it wrote.
    for command, shown in commands:
        code = run(shlex.split(command)[1:])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        everything = _folded(printed.out + " " + printed.err)
        for line in filter(None, map(_folded, shown)):
            for piece in filter(None, map(str.strip, line.split("…"))):  # "…" stands for what was left out
                assert piece in everything, f"{place} shows {piece!r}, which {command!r} does not print"


@pytest.mark.parametrize(("place", "code"), PROGRAMS, ids=[place for place, _ in PROGRAMS])
def test_programs_in_the_docs_run(
    place: str, code: str, study_store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE_ENVIRONMENT_VARIABLE, str(study_store.folder))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, place, "exec"), {"__name__": "__main__"})


def test_examples_are_found() -> None:
    pages = {place.partition(":")[0] for place, _ in EXAMPLES}
    assert {"README.md", "docs/index.md", "docs/explain.md", "docs/runs.md"} <= pages


def test_the_command_reference_is_up_to_date() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == render(), "'just cli-reference' brings docs/cli.md up to date"


def test_the_python_reference_tells_of_every_name() -> None:
    page = python_reference.render()
    assert [name for name in joulemap.__all__ if name != "__version__" and f"### {name}\n" not in page] == []
    assert "**Raises**" in page


def test_every_import_format_is_listed() -> None:
    page = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
    lacking = [name for name in own_importers() if f"| `{name}` |" not in page]
    assert lacking == []


@pytest.mark.parametrize("name", [f.name for f in fields(Measured)])
def test_each_measured_quantity_is_named_with_its_unit(name: str) -> None:
    (row,) = [cells for cells in _table_rows() if cells[0] == f"`{name}`"]
    assert row[2] == unit_of(name)
    assert row[3]


def test_what_is_predicted_and_diagnosed_is_named() -> None:
    named = {cells[0].strip("`") for cells in _table_rows()}
    predicted = {name for names in (*OUTCOMES.values(), *LATENTS.values()) for name in names}
    assert predicted <= named
    assert {word.value for word in (*Part, *Bound)} <= named


@pytest.mark.parametrize("record", [Workload, Deployment])
def test_each_field_of_the_other_records_is_named(record: type[Workload] | type[Deployment]) -> None:
    named = {cells[0].strip("`") for cells in _table_rows()}
    assert {f.name for f in fields(record)} <= named


def test_readme_has_two_setup_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^pip install.*$", readme, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].startswith("pip install -q uv && uv run --no-dev joulemap ")
    assert commands[1] == "pip install -q uv && uv run pytest"


def test_every_extra_and_entry_point_group_is_told() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    first_steps = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [extra for extra in project["optional-dependencies"] if f"`{extra}`" not in first_steps] == []
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    groups = {group for text in sources for group in re.findall(r'ENTRY_POINT_GROUP = "(.+)"', text)}
    assert groups
    assert [group for group in groups if f'[project.entry-points."{group}"]' not in contributing] == []


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed - {python_reference.PAGE} == {
        str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").glob("**/*.md")
    }


@pytest.mark.parametrize(
    "name", sorted(n for n, p in modules_of(ROOT / "src/joulemap").items() if ">>> " in p.read_text())
)
def test_examples_in_docstrings_hold(name: str) -> None:
    module = import_module(f"joulemap.{name}" if name else "joulemap")
    failed, tried = doctest.testmod(module)
    assert tried
    assert failed == 0


def own_importers() -> list[str]:
    return [import_module(f"joulemap.store.importers.{module}").IMPORTER.name for module in OWN_FORMATS]


def _folded(text: str) -> str:
    return " ".join(text.split())


def _table_rows() -> list[list[str]]:
    lines = NOMENCLATURE.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
