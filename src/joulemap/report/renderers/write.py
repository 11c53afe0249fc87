"""Writing a document to files, in the form that the ending of the name tells."""

from __future__ import annotations

import json
import os
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from joulemap.errors import InputError, UsageError
from joulemap.report.document import Document
from joulemap.report.renderers.html import html_page
from joulemap.report.renderers.markdown import markdown_of
from joulemap.report.renderers.pictures import pictures_of

ENDINGS = (".html", ".md", ".json", ".svg", ".png")


def write_report(document: Document, path: str | os.PathLike[str], *, force: bool = False) -> list[Path]:
    """Write a document, each file whole or not at all, and return the files written.

    Args:
        document: The document.
        path: Ends in ``.html`` (one file that opens offline), ``.md``, ``.json``, ``.svg`` or ``.png`` (one file
            a chart, named after it: ``report-ledger.svg``).
        force: Overwrite files that exist.

    Raises:
        UsageError: The ending is unknown, or a file exists and ``force`` is not given.
        InputError: A file cannot be written, or there is no chart to draw.
        MissingExtraError: The extra ``plots`` is not installed.
    """
    wanted = Path(path)
    ending = wanted.suffix.lower()
    if ending not in ENDINGS:
        msg = f"cannot tell the form of {wanted} from its ending {ending!r}"
        raise UsageError(msg, fix=f"end the name in {', '.join(ENDINGS)}")
    if wanted.exists() and not force:
        raise _exists(wanted)
    files = _files(document, wanted, ending)
    for target in files:
        if target.exists() and not force:
            raise _exists(target)
    for target, content in files.items():
        _write(target, content)
    return list(files)


def _files(document: Document, path: Path, ending: str) -> dict[Path, bytes]:
    """Return the content of each file to write."""
    if ending == ".html":
        return {path: html_page(document, made_at=datetime.now(UTC)).encode()}
    if ending == ".md":
        return {path: markdown_of(document).encode()}
    if ending == ".json":
        return {path: json_of(document).encode()}
    pictures = dict(pictures_of(document, path))
    if not pictures:
        msg = f"this report on {document.kind} has no chart"
        raise InputError(msg, fix=f"write it as {path.with_suffix('.html').name}")
    return pictures


def json_of(document: Document) -> str:
    """Return the payload of a document as JSON text."""
    return json.dumps(document.payload, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _exists(path: Path) -> UsageError:
    msg = f"{path} exists"
    return UsageError(msg, fix="add --force to overwrite it")


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg, fix="give a folder that you may write") from error
