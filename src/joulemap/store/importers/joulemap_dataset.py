"""joulemap's own datasets, as ``joulemap publish`` writes them: the same runs under the same ids.

The folder's checksums are held against its files, and each run's id against its content.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from joulemap.errors import ImportFileError
from joulemap.records import Run
from joulemap.store.dataset import CHECKSUMS, FORMAT, FORMAT_VERSION, MANIFEST
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.parquet_worker import WORKER
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Source
from joulemap.store.schema import COLUMNS, SCHEMA_VERSION, row_to_run

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

_NEEDED = ["run_id", "model_id", "output_unit", "input_modality", "source", "valid", "energy_per_output_j"]
_NEVER_MISSING = frozenset({"run_id", "model_id", "output_unit", "input_modality", "source", "valid"})
_PYTHON_TYPES: dict[type[pl.DataType], tuple[type, ...]] = {
    pl.Float64: (float, int),
    pl.Int64: (int,),
    pl.String: (str,),
    pl.Boolean: (bool,),
    pl.Datetime: (str,),
}
"""What a column's values are when they come from the reader of Parquet."""
_FILE = re.compile(r"data/[\w.-]+\.parquet")


class JoulemapDatasetImporter:
    """Reads the runs of a dataset folder."""

    name = "joulemap"
    summary = "a dataset that joulemap publish wrote: a folder with dataset.json and data/*.parquet"

    def recognises(self, source: Source) -> bool:
        """Return whether this is a dataset's folder."""
        if not source.is_folder:
            return False
        manifest = source.child(MANIFEST)
        return manifest.path.is_file() and manifest.first.get("format") == FORMAT

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read every run; a file that is not what was published, and a bad row, are problems of their own."""
        if given := sorted(hints.given()):
            reason = f"a dataset states everything itself; it takes no {', '.join(given)}"
            raise ImportFileError(source.file, None, reason, fix="leave these options out")
        if not source.is_folder:
            raise ImportFileError(source.file, None, "is not a dataset's folder")
        manifest = Fields(source.child(MANIFEST).file, "", source.child(MANIFEST).document)
        _check_version(manifest, "format_version", FORMAT_VERSION)
        _check_version(manifest, "run_schema", SCHEMA_VERSION)
        sums = _checksums(source.child(CHECKSUMS))
        reading = Reading()
        for position, name in enumerate(manifest.items("data")):
            if not isinstance(name, str) or not _FILE.fullmatch(name):
                manifest.refuse(f"data[{position}]", "should be the name of a file such as data/runs.parquet")
            try:
                _read_file(source.child(name), sums.get(name), reading)
            except ImportFileError as error:
                reading.problems.append(error)
        return reading


def _check_version(manifest: Fields, field: str, known: int) -> None:
    version = manifest.integer(field, positive=True)
    if version > known:
        reason = f"is {version}, which a newer joulemap wrote; this one reads up to {known}"
        raise ImportFileError(manifest.file, field, reason, fix="pip install --upgrade joulemap")


def _checksums(source: Source) -> dict[str, str]:
    pairs = (line.split("  ", 1) for line in source.text.splitlines())
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def _read_file(source: Source, expected: str | None, reading: Reading) -> None:
    digest = hashlib.sha256(source.content).hexdigest()
    if digest != expected:
        reason = f"has not the checksum that {CHECKSUMS} states: it was changed since it was published, or damaged"
        raise ImportFileError(source.file, None, reason, fix="get the dataset again from its publisher")
    rows = WORKER.read(source.file, [_NEEDED])
    if rows is None:
        raise ImportFileError(source.file, None, "lacks the columns of a run table")
    for position, row in enumerate(rows):
        try:
            reading.runs.append(_run(row))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reading.problems.append(ImportFileError(source.file, f"row {position}", str(error)))


def _run(row: dict[str, Any]) -> Run:
    known = {name: row.get(name) for name in COLUMNS}
    for name, kind in COLUMNS.items():
        if not _is_of(known[name], kind) or (known[name] is None and name in _NEVER_MISSING):
            msg = f"{name} cannot be {known[name]!r}"
            raise ValueError(msg)
    if known["measured_at"] is not None:
        known["measured_at"] = datetime.fromisoformat(known["measured_at"])
    run = row_to_run(known)
    if run.run_id != known["run_id"]:
        msg = f"its id {known['run_id']} is not that of its content, {run.run_id}"
        raise ValueError(msg)
    return run


def _is_of(value: Any, kind: PolarsDataType) -> bool:
    if value is None:
        return True
    if isinstance(kind, pl.List):
        return isinstance(value, list) and all(_is_of(one, kind.inner) for one in value)
    types = next(types for known, types in _PYTHON_TYPES.items() if kind == known)
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


IMPORTER = JoulemapDatasetImporter()
