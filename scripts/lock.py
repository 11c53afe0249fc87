"""Write ``requirements.lock`` and the same pins into ``pyproject.toml``, so that every clone resolves alike.

The lock is two files that name no package registry: ``requirements.lock`` holds every version with its hashes
(for ``pip install --require-hashes -r requirements.lock``), and ``[tool.uv] constraint-dependencies`` in
``pyproject.toml`` holds the same versions, which ``uv run`` and ``uv sync`` obey from whatever registry the
machine is set up to use.

Usage: ``python scripts/lock.py [--upgrade]``. Without ``--upgrade``, versions that are locked stay as they are.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements.lock"
PYPROJECT = ROOT / "pyproject.toml"

BEGIN = "# begin: written by scripts/lock.py; the hashes are in requirements.lock"
END = "# end: written by scripts/lock.py"
_BLOCK = re.compile(rf"^{re.escape(BEGIN)}\n.*?^{re.escape(END)}\n", re.DOTALL | re.MULTILINE)
_HEADER = """\
# Every version that joulemap is developed and tested with, all extras and development tools included.
# Written by scripts/lock.py ('just lock'); do not edit. A plain user needs only 'pip install .'.
"""


def pins(requirements: str) -> list[str]:
    """Return the pinned requirements of a lock file, without hashes, in its order."""
    lines = (line.removesuffix("\\").strip() for line in requirements.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "--"))]


def constraints(pyproject: str) -> list[str]:
    """Return the constraints that a ``pyproject.toml`` holds."""
    found = tomllib.loads(pyproject).get("tool", {}).get("uv", {}).get("constraint-dependencies", [])
    return [str(constraint) for constraint in found]


def without_constraints(pyproject: str) -> str:
    """Return a ``pyproject.toml`` without what this script wrote."""
    return _BLOCK.sub("", pyproject)


def with_constraints(pyproject: str, wanted: list[str]) -> str:
    """Return a ``pyproject.toml`` whose ``[tool.uv]`` table begins with the wanted constraints."""
    lines = "\n".join(f'  "{pin}",' for pin in wanted)
    block = f"{BEGIN}\nconstraint-dependencies = [\n{lines}\n]\n{END}\n"
    stripped = without_constraints(pyproject)
    heading = "[tool.uv]\n"
    if heading not in stripped:
        msg = "pyproject.toml has no [tool.uv] table to hold the constraints"
        raise SystemExit(msg)
    return stripped.replace(heading, heading + block, 1)


def resolve(pyproject: str) -> str:
    """Return the hash-pinned requirements that uv finds for a ``pyproject.toml``; the checkout is not touched."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "pyproject.toml").write_text(pyproject)
        for name in ("README.md", "LICENSE"):
            shutil.copy(ROOT / name, project)
        _uv("lock", "--quiet", folder=project)
        wanted = ("--all-extras", "--all-groups", "--no-emit-project")
        silent = ("--no-header", "--no-annotate", "--no-emit-index-url", "--quiet")
        return _HEADER + _uv("export", "--frozen", *wanted, *silent, folder=project)


def _uv(*words: str, folder: Path) -> str:
    done = subprocess.run(["uv", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr or f"uv {words[0]} failed")
    return done.stdout


def main() -> None:
    """Resolve, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions instead of those locked")
    before = PYPROJECT.read_text()
    requirements = resolve(without_constraints(before) if parser.parse_args().upgrade else before)
    if "://" in requirements:
        sys.exit("the lock would name an address: " + next(x for x in requirements.splitlines() if "://" in x))
    found = pins(requirements)
    REQUIREMENTS.write_text(requirements)
    PYPROJECT.write_text(with_constraints(PYPROJECT.read_text(), found))
    print(f"Wrote {REQUIREMENTS.name} and the constraints in {PYPROJECT.name}: {len(found)} pins")


if __name__ == "__main__":
    main()
