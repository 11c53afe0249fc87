"""Recording meters, GPU activity and telemetry while somebody else makes the load."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from joulemap.errors import StoreError
from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.meters.replay import write_recording
from joulemap.measure.session.instruments import Instruments
from joulemap.records import Basis
from joulemap.store.parts import is_panic

POWER_CSV = "power.csv"
HEADER = ("timestamp", "gpu", "power_w", "name")


class Recording:
    """A folder that fills while a load runs.

    ``power.csv`` (timestamp, gpu, power_w, name) grows as it goes, so that a killed process loses a second at most;
    ``joulemap import --power`` reads it. It holds GPUs only, and no power that was assumed. At the end come
    ``power-<meter>.parquet`` (which the replay meter plays), ``activity.parquet`` and ``telemetry.parquet``.

    Args:
        folder: Where to write; created if need be.
        instruments: What is sampled; started and stopped by the caller.

    Raises:
        StoreError: The folder cannot be written.
    """

    def __init__(self, folder: Path, instruments: Instruments) -> None:
        self.folder = folder
        self._instruments = instruments
        self._names = {
            device.device: device.name
            for description in instruments.descriptions
            for device in description.devices
            if device.kind is DeviceKind.GPU and description.basis is Basis.MEASURED
        }
        self._until_s = float("-inf")
        self.written: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / POWER_CSV).open("w", encoding="utf-8", newline="") if self._names else None
            if self._file is not None:
                self._csv = csv.writer(self._file)
                self._csv.writerow(HEADER)
                self.written.append(folder / POWER_CSV)
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def flush(self) -> None:
        """Append what was read since the last time.

        Raises:
            StoreError: The file cannot be written.
        """
        if self._file is None:
            return
        frame = self._instruments.frames()["power"]
        new = frame.filter(pl.col("t_mono_s") > self._until_s, pl.col("device").is_in(list(self._names)))
        known = new.drop_nulls("power_w").sort("t_mono_s")
        try:
            for stamp, device, power_w in known.select("t_wall", "device", "power_w").iter_rows():
                self._csv.writerow((stamp.isoformat(), device, f"{power_w:.3f}", self._names[device]))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error
        if new.height:
            self._until_s = float(new["t_mono_s"].max())  # type: ignore[arg-type]

    def finish(self) -> None:
        """Write the rest; after the instruments have stopped.

        Raises:
            StoreError: A file cannot be written.
        """
        self.flush()
        frames = self._instruments.frames()
        for description in self._instruments.descriptions:
            part = frames["power"].filter(pl.col("meter") == description.meter).drop("meter")
            self._write(f"power-{description.meter}.parquet", partial(write_recording, part, description))
        for name, frame in frames.items():
            if name != "power" and frame.height:
                self._write(f"{name}.parquet", frame.write_parquet)

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file whole or not at all."""
        file, unfinished = self.folder / name, self.folder / f".{name}.part"
        try:
            write(unfinished)
            unfinished.replace(file)
        except BaseException as error:
            unfinished.unlink(missing_ok=True)
            if isinstance(error, OSError | pl.exceptions.PolarsError) or is_panic(error):
                raise self._unwritable(error) from error
            raise
        self.written.append(file)

    def _unwritable(self, error: BaseException) -> StoreError:
        msg = f"the recording in {self.folder} cannot be written: {getattr(error, 'strerror', None) or error}"
        return StoreError(msg, fix="free some space, or give another folder with -o")
