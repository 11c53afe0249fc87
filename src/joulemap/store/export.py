"""Exports of the run table: JSON records, CSV, Parquet."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import polars as pl

from joulemap.errors import StoreError, UsageError

_LISTS = ("validity_reasons", "notes", "output_length_edges", "output_length_counts")


def to_records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the runs as JSON-ready dictionaries; stamps as ISO 8601 text, annotations as an object."""
    stamps = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    table = frame.with_columns(pl.col(stamps).dt.to_string("iso:strict")) if stamps else frame
    records = table.to_dicts()
    for record in records:
        if record.get("annotations"):
            record["annotations"] = json.loads(record["annotations"])
    return records


def export_runs(table: pl.DataFrame, path: Path, *, force: bool = False) -> Path:
    """Write the runs to a ``.csv``, ``.parquet`` or ``.json`` file, whole or not at all.

    Raises:
        UsageError: The ending is unknown, or the file exists and ``force`` is not given.
        StoreError: The file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in {".csv", ".parquet", ".json"}:
        msg = f"cannot tell the format of {path} from its ending {ending!r}"
        raise UsageError(msg, fix="end the name in .csv, .parquet or .json")
    if path.exists() and not force:
        msg = f"{path} exists"
        raise UsageError(msg, fix="add --force to overwrite it")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        if ending == ".json":
            partial.write_text(json.dumps(to_records(table), indent=2, ensure_ascii=False) + "\n")
        elif ending == ".parquet":
            table.write_parquet(partial)
        else:
            # CSV has no lists: they become JSON text.
            lists = [c for c in _LISTS if c in table.columns]
            texts = [
                pl.Series(c, [None if v is None else json.dumps(v) for v in table[c].to_list()], dtype=pl.String)
                for c in lists
            ]
            table.with_columns(texts).write_csv(partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise StoreError(msg) from error
    return path
