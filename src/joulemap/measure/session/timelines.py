"""Writing what was sampled: one Parquet file a kind, in a folder a run."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from joulemap.errors import StoreError


def write_timelines(folder: Path, run_id: str, frames: Mapping[str, pl.DataFrame]) -> Path:
    """Write frames as ``<folder>/<run_id>/<kind>.parquet``, all or none, and return that folder.

    Args:
        folder: The store's folder of timelines.
        run_id: The run that they belong to; timelines that it already has are kept.
        frames: Tables by kind: ``power``, ``activity``, ``telemetry``, ``progress``, ``requests`` …

    Raises:
        StoreError: The folder cannot be written.
    """
    final = folder / run_id
    partial = folder / f".{run_id}-{uuid.uuid4().hex[:8]}.partial"
    if final.exists():
        return final
    try:
        try:
            partial.mkdir(parents=True)
            for kind, frame in frames.items():
                if frame.height:
                    _write(frame, partial / f"{kind}.parquet")
            partial.replace(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        msg = f"the timelines in {folder} cannot be written: {error.strerror or error}"
        raise StoreError(msg, fix="free some space, or give another folder with --store DIR") from error
    return final


def _write(frame: pl.DataFrame, file: Path) -> None:
    with file.open("wb") as out:
        frame.write_parquet(out, compression="zstd")
        out.flush()
        os.fsync(out.fileno())
