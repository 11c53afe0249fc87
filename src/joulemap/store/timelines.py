"""What was sampled during runs: one Parquet file a kind, in a folder a run."""

from __future__ import annotations

import io
from collections.abc import Mapping

import polars as pl

from joulemap.errors import StoreError
from joulemap.store.places import Place


class Timelines:
    """The timelines of a store's runs.

    Args:
        place: Where the store's files lie.
        folder: The folder of timelines in it.
    """

    def __init__(self, place: Place, folder: str) -> None:
        self._place = place
        self._folder = folder

    def add(self, run_id: str, frames: Mapping[str, pl.DataFrame]) -> str:
        """Write the timelines of a run and return the path or URL of their folder.

        A folder of this machine gets all of them or none; those that the run already has are kept.

        Args:
            run_id: The run that they belong to.
            frames: Tables by kind: ``power``, ``activity``, ``telemetry``, ``progress``, ``requests`` …

        Raises:
            StoreError: The store cannot be written.
        """
        folder = f"{self._folder}/{run_id}"
        contents = {f"{kind}.parquet": _parquet(frame) for kind, frame in frames.items() if frame.height}
        try:
            self._place.write_folder(folder, contents)
        except OSError as error:
            msg = f"the timelines in {self._place.address} cannot be written: {error.strerror or error}"
            raise StoreError(msg, fix="free some space, or give another store with --store") from error
        return self.address_of(run_id)

    def address_of(self, run_id: str) -> str:
        """Return the path or URL of the folder in which a run's timelines lie."""
        return self._place.address_of(f"{self._folder}/{run_id}")

    def of_run(self, run_id: str) -> dict[str, pl.DataFrame]:
        """Return the timelines of a run by kind; empty if it has none.

        Raises:
            StoreError: They cannot be read.
        """
        try:
            names = self._place.names(f"{self._folder}/{run_id}")
            contents = self._place.read(names)
        except OSError as error:
            raise self._unreadable(error) from error
        tables = {}
        for name, content in zip(names, contents, strict=True):
            if isinstance(content, OSError):
                raise self._unreadable(content)
            try:
                tables[name.rpartition("/")[2].removesuffix(".parquet")] = pl.read_parquet(io.BytesIO(content))
            except pl.exceptions.PolarsError as error:
                msg = f"the timeline {self._place.address_of(name)} is damaged: {error}"
                raise StoreError(msg) from error
        return tables

    def _unreadable(self, error: OSError) -> StoreError:
        msg = f"the timelines in {self._place.address} cannot be read: {error.strerror or error}"
        return StoreError(msg)


def _parquet(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.write_parquet(content, compression="zstd")
    return content.getvalue()
