"""A dataset folder: runs of a store with what others need to cite, check and extend them.

``data/*.parquet`` is the run table itself, so that importing a dataset gives the same runs under the same
ids; ``mlenergy/`` holds the same in the form of the ML.ENERGY Benchmark's compiled tables. ``dataset.json`` says
what the folder is, ``SHA256SUMS`` what each file must be, ``README.md`` what a person should know.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from joulemap.errors import StoreError, UsageError
from joulemap.store.data_card import DatasetDescription, citation_file, data_card, licence_note
from joulemap.store.mlenergy_tables import MlenergyTables, mlenergy_tables
from joulemap.store.run_store import RunStore
from joulemap.store.schema import SCHEMA_VERSION

FORMAT = "joulemap-dataset"
FORMAT_VERSION = 1
MANIFEST = "dataset.json"
CHECKSUMS = "SHA256SUMS"
RUNS_PER_FILE = 100_000

Progress = Callable[[int, int], None]
"""Told how many runs are written, of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A dataset that was written."""

    folder: Path
    runs: int
    files: dict[str, str]
    """The SHA-256 of each file by name."""
    not_in_mlenergy: dict[str, int]
    """Runs that the ML.ENERGY layout has no place for, counted by reason."""


def publish_dataset(
    store: RunStore,
    run_ids: pl.Series,
    folder: Path,
    description: DatasetDescription,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Published:
    """Write runs of a store as a dataset folder, whole or not at all.

    Args:
        store: The store.
        run_ids: The runs, in order.
        folder: The dataset's folder.
        description: What only the publisher knows.
        force: Replace a folder that is a dataset already.
        progress: Told after each file of runs.

    Raises:
        UsageError: There is no run, or the folder exists and may not be replaced.
        StoreError: The folder cannot be written.
    """
    if run_ids.is_empty():
        msg = "a dataset of no runs is none"
        raise UsageError(msg, fix="'joulemap runs' lists what the store holds")
    _check_target(folder, force=force)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        try:
            left_out = _write(store, run_ids, partial, description, progress)
            files = _seal(partial)
            if folder.exists():
                shutil.rmtree(folder)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        msg = f"the dataset {folder} cannot be written: {error.strerror or error}"
        raise StoreError(msg, fix="free some space, or give another folder with -o") from error
    return Published(folder=folder, runs=len(run_ids), files=files, not_in_mlenergy=left_out)


def _check_target(folder: Path, *, force: bool) -> None:
    if not folder.exists():
        return
    is_dataset = (folder / MANIFEST).is_file() and (folder / CHECKSUMS).is_file()
    if force and is_dataset:
        return
    msg = f"{folder} exists" + (" and is no dataset of joulemap, so it is not replaced" if force else "")
    raise UsageError(msg, fix="give another folder with -o" if force else "add --force to replace it")


def _write(
    store: RunStore, run_ids: pl.Series, folder: Path, description: DatasetDescription, progress: Progress | None
) -> dict[str, int]:
    """Write all files but the checksums; return how many runs the ML.ENERGY layout has no place for, by reason."""
    (folder / "data").mkdir(parents=True)
    (folder / "mlenergy" / "runs").mkdir(parents=True)
    count = -(-len(run_ids) // RUNS_PER_FILE)
    tables: list[MlenergyTables] = []
    for number in range(count):
        table = store.rows(run_ids.slice(number * RUNS_PER_FILE, RUNS_PER_FILE))
        name = "runs.parquet" if count == 1 else f"runs-{number:05d}-of-{count:05d}.parquet"
        table.write_parquet(
            folder / "data" / name, compression="zstd", metadata={"joulemap_run_schema": str(SCHEMA_VERSION)}
        )
        tables.append(mlenergy_tables(table))
        if progress:
            progress(min((number + 1) * RUNS_PER_FILE, len(run_ids)), len(run_ids))
    for part in ("llm", "diffusion"):
        joined = pl.concat(getattr(one, part) for one in tables)
        if joined.height:
            joined.write_parquet(folder / "mlenergy" / "runs" / f"{part}.parquet", compression="zstd")
    left_out: dict[str, int] = {}
    for one in tables:
        for reason, runs in one.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + runs
    written = pl.scan_parquet(folder / "data" / "*.parquet")
    (folder / "README.md").write_text(data_card(written, description, left_out), encoding="utf-8")
    (folder / "CITATION.cff").write_text(citation_file(description), encoding="utf-8")
    (folder / "LICENSE").write_text(licence_note(description), encoding="utf-8")
    manifest = _manifest(folder, description, len(run_ids))
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return left_out


def _manifest(folder: Path, description: DatasetDescription, runs: int) -> dict[str, Any]:
    from joulemap import __version__

    told = asdict(description) | {
        "released": description.released.isoformat(),
        "authors": list(description.authors),
    }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "run_schema": SCHEMA_VERSION,
        "made_by": f"joulemap {__version__}",
        **told,
        "runs": runs,
        "data": sorted(f"data/{file.name}" for file in (folder / "data").iterdir()),
    }


def _seal(folder: Path) -> dict[str, str]:
    """Write the checksums of all files, as ``sha256sum`` does, and return them."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
    return sums
