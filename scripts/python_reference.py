"""The page ``python.md`` of the documentation, made from the public names whenever the documentation is built.

A hook of MkDocs (``hooks`` in ``mkdocs.yml``): the page is in no file, so that it cannot be out of date.
"""

from __future__ import annotations

import inspect
import re
from functools import cached_property
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import joulemap

PAGE = "python.md"
_INTRODUCTION = (
    "`import joulemap as jm` gives these names, which mean what they mean on the command line; each is loaded when "
    "it is first used. Tables are Polars data frames, whose columns [Nomenclature](nomenclature.md) names.\n"
)
_PROPERTIES = (property, cached_property)
_SECTIONS = ("Args", "Returns", "Raises", "Yields")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to those that are built."""
    files.append(File.generated(config, PAGE, content=render()))
    return files


def render() -> str:
    """Return the reference as Markdown."""
    names = [name for name in joulemap.__all__ if name != "__version__"]
    functions = [name for name in names if not inspect.isclass(getattr(joulemap, name))]
    values = [name for name in names if name not in functions]
    parts = [
        "# Python\n",
        _INTRODUCTION,
        "## Functions\n",
        *(_entry(name) for name in functions),
        "## Values\n",
        *(_entry(name) for name in values),
    ]
    return "\n".join(parts)


def _entry(name: str) -> str:
    thing = getattr(joulemap, name)
    text = _docstring(thing)
    if not inspect.isclass(thing):
        return f"### {name}\n\n```text\n{_signature(name, thing)}\n```\n\n{text}\n"
    own = [
        (member, value)
        for member, value in vars(thing).items()
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, _PROPERTIES))
    ]
    members = "\n".join(f"- {_member(member, value)}" for member, value in own)
    return f"### {name}\n\n{text}\n" + (f"\n{members}\n" if members else "")


def _member(name: str, value: Any) -> str:
    first = _escaped((inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " "))
    if isinstance(value, _PROPERTIES):
        return f"`{name}`: {first}"
    signature = _signature(name, value, lines=False).replace("(self, ", "(").replace("(self)", "()")
    return f"`{signature}`: {first}"


def _signature(name: str, thing: Any, *, lines: bool = True) -> str:
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(thing)))
    # One parameter a line where they are many.
    if lines and len(signature) > 90:
        signature = re.sub(r", (?=\*?\*?\w+(:|,))", ",\n    ", signature).replace("(", "(\n    ", 1)
    return f"{name}{signature}"


def _docstring(thing: Any) -> str:
    """Return a docstring of Google's form as Markdown."""
    lines = []
    section = ""
    for line in (inspect.getdoc(thing) or "").splitlines():
        heading = line.rstrip(":")
        if heading in _SECTIONS and line.endswith(":"):
            section = heading
            lines += ["", f"**{heading}**", ""]
        elif section and line.startswith("    ") and not line.startswith("     "):
            item, colon, rest = line.strip().partition(": ")
            lines.append(f"- `{item}`: {_escaped(rest)}" if colon else f"- {_escaped(item)}")
        elif section and line.strip():
            lines.append(f"  {_escaped(line.strip())}")
        else:
            section = "" if line.strip() else section
            lines.append(line if line.startswith(">>>") else _escaped(line))
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Return a docstring's line for Markdown: its marks for code and references become code."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    return "".join(
        part if i % 2 else part.replace("<", "&lt;").replace("*", "\\*")
        for i, part in enumerate(re.split(r"(`[^`]*`)", text))
    )
