"""The two halves of the lock agree, cover what is declared, and name no registry."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.lock import constraints, pins, with_constraints, without_constraints

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
REQUIREMENTS = (ROOT / "requirements.lock").read_text()

# Written in pieces, since this file too may not contain them.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("conda", "anaconda", "org"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
    )
]


def test_pyproject_and_requirements_hold_the_same_pins() -> None:
    assert constraints(PYPROJECT) == pins(REQUIREMENTS)


def test_every_pin_has_a_hash() -> None:
    assert "://" not in REQUIREMENTS
    for pin in pins(REQUIREMENTS):
        after = REQUIREMENTS[REQUIREMENTS.index(f"\n{pin}") + 1 :].splitlines()
        assert after[0].endswith("\\"), pin
        assert after[1].strip().startswith("--hash=sha256:"), pin


def test_everything_declared_is_pinned() -> None:
    pinned = {_name(pin) for pin in pins(REQUIREMENTS)}
    lacking = set(_declared()) - pinned
    assert not lacking, f"run 'just lock': {lacking} are not in requirements.lock"


def test_writing_the_constraints_twice_changes_nothing() -> None:
    assert with_constraints(PYPROJECT, constraints(PYPROJECT)) == PYPROJECT
    assert constraints(without_constraints(PYPROJECT)) == []


def test_no_tracked_file_names_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout, so nothing is tracked")
    hosts = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)).encode(), re.IGNORECASE)
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    naming = [str(path) for path in files if path.is_file() and hosts.search(path.read_bytes())]
    assert naming == []


def _declared() -> Iterator[str]:
    project = tomllib.loads(PYPROJECT)
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    named = (_name(r) for requirements in lists for r in requirements if isinstance(r, str))
    yield from (name for name in named if name != project["project"]["name"])  # a group that takes our own extras


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found.group()).lower()
