"""A meter that plays a recording back: for demonstrations without hardware, and for tests."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from joulemap.clock import Clock, SystemClock
from joulemap.errors import ImportFileError, MeterError
from joulemap.measure.meters.meter import (
    DeviceKind,
    DeviceReading,
    MeterDescription,
    MeterDevice,
    MeterReading,
    Reading,
)
from joulemap.records import Basis

METADATA_KEY = "joulemap.meter"
PLAYED = tuple(f.name for f in fields(DeviceReading) if f.name not in {"device", "missing"})


def write_recording(frame: pl.DataFrame, description: MeterDescription, file: Path) -> None:
    """Write a sampler's frame with its meter's description, as one Parquet file."""
    frame.write_parquet(file, metadata={METADATA_KEY: json.dumps(asdict(description))})


class ReplayMeter:
    """Plays a recording in real time from the first read: each read gives the newest recorded reading.

    Where the energy counter was read more rarely than power, a read that would pass over a reading with the counter
    gives that one instead, so that reading rarely does not lose the counter.

    The basis stays that of the recording: what was assumed then is assumed now.

    Args:
        file: A file of :func:`write_recording`.
        clock: Time for the pace and the stamps.

    Raises:
        ImportFileError: The file is no recording, or an empty one.
    """

    def __init__(self, file: Path, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._file = file
        self._description, frame = _load(file)
        self._begin_s: float | None = None
        self._readings = _readings(frame)
        self._times = np.array([r.mono_s for r in self._readings])
        counted = [any(row.energy_j is not None for row in r.rows) for r in self._readings]
        self._counted = np.flatnonzero(counted)
        self._given = -1

    def describe(self) -> MeterDescription:
        """Return the recorded meter's devices, under the name of replay."""
        old = self._description
        return MeterDescription(
            meter="replay",
            devices=old.devices,
            basis=old.basis,
            counter_resolution_j=old.counter_resolution_j,
            counter_period_s=old.counter_period_s,
            power_delay_s=old.power_delay_s,
            relative_interval=old.relative_interval,
            notes=(f"a recording of the meter {old.meter} is played back: {self._file.name}", *old.notes),
        )

    def read(self) -> MeterReading:
        """Return what had last been recorded at this time of the recording.

        Raises:
            MeterError: The recording has ended.
        """
        now_s = self._clock.monotonic_s()
        if self._begin_s is None:
            self._begin_s = now_s
        recorded_s = float(self._times[0]) + now_s - self._begin_s
        if recorded_s > self._times[-1]:
            length_s = float(self._times[-1] - self._times[0])
            msg = f"the recording {self._file.name} has ended after {length_s:.1f} s"
            raise MeterError(msg, fix="use a longer recording, or shorter windows")
        reading = self._readings[self._next(int(np.searchsorted(self._times, recorded_s, side="right")) - 1)]
        # Stamped with the time at which it was recorded: a reading read late must not look fresh.
        late_s = recorded_s - reading.mono_s
        return Reading(wall=self._clock.now() - timedelta(seconds=late_s), mono_s=now_s - late_s, rows=reading.rows)

    def _next(self, newest: int) -> int:
        """Return which reading to give: the newest, or the last with a counter since the one given before."""
        before = int(np.searchsorted(self._counted, newest, side="right")) - 1
        counted = int(self._counted[before]) if before >= 0 else -1
        self._given = counted if counted > self._given else newest
        return self._given

    def close(self) -> None:
        """Nothing is held open."""


def _load(file: Path) -> tuple[MeterDescription, pl.DataFrame]:
    try:
        metadata = pl.read_parquet_metadata(file)
        frame = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ImportFileError(str(file), None, f"not a readable Parquet file: {error}") from error
    if METADATA_KEY not in metadata or not {"device", "t_wall", "t_mono_s"} <= set(frame.columns):
        reason = "not a recording of a meter"
        raise ImportFileError(str(file), None, reason, fix="joulemap record writes recordings")
    if frame.is_empty():
        raise ImportFileError(str(file), None, reason="the recording holds no reading")
    return _description(json.loads(metadata[METADATA_KEY])), frame


def _description(told: dict[str, Any]) -> MeterDescription:
    interval = told["relative_interval"]
    return MeterDescription(
        meter=told["meter"],
        devices=tuple(MeterDevice(**{**d, "kind": DeviceKind(d["kind"])}) for d in told["devices"]),
        basis=Basis(told["basis"]),
        counter_resolution_j=told["counter_resolution_j"],
        counter_period_s=told["counter_period_s"],
        power_delay_s=told.get("power_delay_s", 0.0),
        relative_interval=tuple(interval) if interval else None,
        notes=tuple(told["notes"]),
    )


def _readings(frame: pl.DataFrame) -> list[MeterReading]:
    columns = [c for c in PLAYED if c in frame.columns]
    readings = []
    for (mono_s,), part in frame.group_by("t_mono_s", maintain_order=True):
        rows = tuple(
            DeviceReading(
                **{c: row[c] for c in ("device", *columns)},
                missing={c: "not in the recording" for c in columns if row[c] is None},
            )
            for row in part.iter_rows(named=True)
        )
        readings.append(Reading(wall=part["t_wall"][0], mono_s=float(mono_s), rows=rows))
    return sorted(readings, key=lambda r: r.mono_s)
