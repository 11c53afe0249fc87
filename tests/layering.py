"""Reads the imports of a package and says which of them point the wrong way."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ANYTHING = frozenset({"*"})
_LEAVES = frozenset({"units", "errors", "clock", "notebook", "toml_file"})
_FACTS = frozenset({"catalog", "records"})
_RUNS = _LEAVES | _FACTS | {"store"}
_MODEL = _RUNS | {"physics", "predict"}

ALLOWED: Mapping[str, frozenset[str]] = {
    "units": frozenset(),
    "errors": frozenset(),
    "clock": frozenset(),
    "notebook": frozenset(),
    "toml_file": frozenset({"errors"}),
    "catalog": frozenset({"units", "errors"}),
    "physics": frozenset({"catalog", "units"}),
    "records": frozenset({"catalog", "units", "notebook"}),
    "store": _LEAVES | _FACTS,
    "measure": _RUNS,
    "predict": _RUNS | {"physics"},
    "diagnose": _MODEL,
    "study": _RUNS | {"diagnose"},
    "watch": _MODEL | {"diagnose", "measure"},
    "optimize": _MODEL | {"diagnose"},
    "plan": _MODEL | {"diagnose", "optimize"},
    "report": _MODEL | {"diagnose", "study", "optimize", "plan"},
    "cli": ANYTHING,
    "web": ANYTHING,
    "__main__": frozenset({"cli"}),
    "": ANYTHING,
}
"""What the modules of each top-level part may import; ``""`` is the package's own ``__init__``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import of one of the package's modules by another."""

    importer: str
    """The importing module, without the package's name: ``"store.selector"``."""
    imported: str
    """The imported module, likewise."""
    line: int
    counts_in_cycles: bool
    """False under ``if TYPE_CHECKING:``, which never runs, and for a name built at run time (a registry's)."""


def modules_of(package: Path) -> dict[str, Path]:
    """Return every module of a package by its name without the package's own; ``""`` is the package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(package: Path) -> list[Import]:
    """Return every import between the package's modules, those inside functions and of ``import_module`` too."""
    modules = modules_of(package)
    return [
        found
        for name, path in modules.items()
        for found in _module_imports(package.name, name, path, frozenset(modules))
    ]


def wrong_arrows(imports: Iterable[Import], allowed: Mapping[str, frozenset[str]] = ALLOWED) -> list[str]:
    """Return a line for each import that the table does not allow."""
    wrong = []
    for found in imports:
        source, target = (name.partition(".")[0] for name in (found.importer, found.imported))
        if source == target:
            continue
        if source not in allowed:
            wrong.append(f"{found.importer}: {source!r} is no known part of the package")
        elif "*" not in allowed[source] and target not in allowed[source]:
            wrong.append(f"{found.importer}:{found.line} imports {found.imported or 'the package itself'}")
    return wrong


def cycle(imports: Iterable[Import]) -> list[str]:
    """Return the modules of an import cycle, in order; none if there is no cycle."""
    graph: dict[str, set[str]] = {}
    for found in imports:
        if found.counts_in_cycles and found.importer != found.imported:
            graph.setdefault(found.importer, set()).add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def _module_imports(package: str, name: str, path: Path, modules: frozenset[str]) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    type_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
            continue
        built = isinstance(node, ast.Call) and bool(node.args) and isinstance(node.args[0], ast.JoinedStr)
        counts = not built and id(node) not in type_only
        for target in _targets(node, package, modules):
            yield Import(importer=name, imported=target, line=node.lineno, counts_in_cycles=counts)


def _targets(node: ast.Import | ast.ImportFrom | ast.Call, package: str, modules: frozenset[str]) -> Iterator[str]:
    """Yield the package's modules that a statement or call imports."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        inside = node.module.removeprefix(package).removeprefix(".")
        # "from joulemap.store import selector" imports a module; "from joulemap import __version__" a mere text.
        names = [
            f"{node.module}.{alias.name}" if f"{inside}.{alias.name}".lstrip(".") in modules else node.module
            for alias in node.names
            if (node.module, alias.name) != (package, "__version__")
        ]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
        first = node.args[0]
        if isinstance(first, ast.JoinedStr):  # of f"joulemap.store.importers.{name}", what stands before the brace
            first = first.values[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            names = [first.value.rstrip(".")]
    for name in dict.fromkeys(names):
        if name == package or name.startswith(f"{package}."):
            yield name.removeprefix(package).removeprefix(".")
