"""The meters and other sources that watch while work goes on, each sampled in its own thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.catalog import load_catalog
from joulemap.clock import Clock, SystemClock
from joulemap.errors import JoulemapError, MeterError, UnknownNameError
from joulemap.measure.activity.activity import QUANTITIES, activity_between
from joulemap.measure.meters.energy import MAX_GAP_S, WindowEnergy, energy_between
from joulemap.measure.meters.meter import DeviceKind, DeviceReading, Meter, MeterDescription, Reading, Source
from joulemap.measure.meters.sampler import Sampler
from joulemap.measure.telemetry.recorder import TelemetryRecorder
from joulemap.records import Basis, Quantity

Series = NDArray[np.float64]

METER_RATE_HZ = 10.0
ACTIVITY = "activity"
"""Name of the source of GPU activity, and of its timeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A source beside the meters: GPU activity."""

    name: str
    """What it is, as in the name of its timeline: ``"activity"``."""
    source: Source[Any]
    row_type: type
    rate_hz: float


class Instruments:
    """Samples meters and what ``watch`` adds from ``start`` to ``stop``, and gives energies of windows.

    The devices that do the work are the GPUs, where a meter has any, else the CPUs; ``work_kind`` overrides that.

    Args:
        meters: Opened meters, one at least; not closed here.
        work_kind: The kind of device whose energy is that of the work.
        rate_hz: Readings of the meters per second.
        clock: Time.
        keep_s: How far back readings are kept at least; all of them by default.

    Raises:
        MeterError: No meter has a device of the wanted kind.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        *,
        work_kind: DeviceKind | None = None,
        rate_hz: float = METER_RATE_HZ,
        clock: Clock | None = None,
        keep_s: float | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._keep_s = keep_s
        self.descriptions = tuple(m.describe() for m in meters)
        kinds = {d.kind for text in self.descriptions for d in text.devices}
        self.work_kind = work_kind or (DeviceKind.GPU if DeviceKind.GPU in kinds else DeviceKind.CPU)
        if self.work_kind not in kinds:
            msg = f"no meter reads a {self.work_kind.value}: {', '.join(d.meter for d in self.descriptions)}"
            raise MeterError(msg, fix="joulemap doctor")
        self._meters = tuple(
            Sampler(m, DeviceReading, rate_hz=rate_hz, clock=self._clock, keep_s=keep_s, counter="energy_j")
            for m in meters
        )
        self._watched: dict[str, Sampler[Any]] = {}
        self._engine: TelemetryRecorder | None = None

    def __enter__(self) -> Instruments:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start sampling; a source that cannot be read is known at once.

        Raises:
            JoulemapError: A meter's first read failed.
        """
        for sampler in self._meters:
            sampler.start()

    def stop(self) -> None:
        """Stop sampling; what was read stays."""
        for sampler in (*self._meters, *self._watched.values()):
            sampler.stop()
        if self._engine is not None:
            self._engine.stop()

    def read_once(self) -> None:
        """Read every meter now; for tests that move time by hand."""
        for sampler in self._meters:
            sampler.read_once()

    def watch(self, watched: Watched) -> None:
        """Begin to sample another source beside the meters.

        A source that fails is no reason to stop: ``notes`` tells. It is not closed here.
        """
        sampler = Sampler(
            watched.source, watched.row_type, rate_hz=watched.rate_hz, clock=self._clock, keep_s=self._keep_s
        )
        self._watched[watched.name] = sampler
        with suppress(JoulemapError):
            sampler.start()

    def watch_engine(self, recorder: TelemetryRecorder) -> None:
        """Begin to read an engine's metrics; an engine that tells none is no reason to stop."""
        self._engine = recorder
        with suppress(JoulemapError):
            recorder.start()

    @property
    def basis(self) -> Basis:
        """Basis of the energy of the devices that do the work."""
        return self._main().basis

    @property
    def meter_name(self) -> str:
        """The names of the meters, joined by ``+``."""
        return "+".join(d.meter for d in self.descriptions)

    def device_names(self) -> tuple[str, ...]:
        """Return the makers' names of the devices that do the work."""
        return tuple(d.name for d in self._main().devices if d.kind == self.work_kind)

    def gpu_model(self) -> str | None:
        """Return the catalog's short name of the GPUs, the maker's where it has none; ``None`` without GPUs."""
        if self.work_kind is not DeviceKind.GPU:
            return None
        return "+".join(dict.fromkeys(_short_name(name) for name in self.device_names()))

    def power_limit_w(self) -> float | None:
        """Return the lowest power cap of the devices that do the work, ``None`` where none is told."""
        limits = [d.power_limit_w for d in self._main().devices if d.kind == self.work_kind]
        return min((w for w in limits if w is not None), default=None)

    def energies(self, begin_s: float, end_s: float, *, max_gap_s: float = MAX_GAP_S) -> tuple[WindowEnergy, ...]:
        """Return the energy over a window, meter by meter, with silences of up to ``max_gap_s`` in it."""
        return tuple(
            energy_between(s.frame(begin_s), begin_s, end_s, d, max_gap_s=max_gap_s)
            for s, d in zip(self._meters, self.descriptions, strict=True)
        )

    def energy(self, begin_s: float, end_s: float) -> Quantity | str:
        """Return the energy of the devices that do the work over a window, or why it cannot be had."""
        sampler, description = self._main_sampler(), self._main()
        return energy_between(sampler.frame(begin_s), begin_s, end_s, description).total(self.work_kind)

    @property
    def relative_interval(self) -> tuple[float, float] | None:
        """Factors that turn an energy of the devices that do the work into its 90 % interval, where known."""
        return self._main().relative_interval

    def latest(self) -> tuple[Reading[DeviceReading], ...]:
        """Return the newest reading of each meter that has any, for a live view."""
        return tuple(reading for s in self._meters if (reading := s.latest()) is not None)

    def read_until_s(self) -> float:
        """Return the time of the last reading of the meter that counts; windows may end there at the latest.

        Where not every reading holds the energy counter, it is the last that does; a counter that has been silent
        for longer than a window bears is not waited for, because power must do then.
        """
        sampler = self._main_sampler()
        reading, counted_s = sampler.latest(), sampler.counted_s()
        if reading is None:
            return float("-inf")
        return reading.mono_s if counted_s is None or reading.mono_s - counted_s > MAX_GAP_S else counted_s

    def latest_power_w(self) -> float | None:
        """Return the newest power of the devices that do the work, for a live view."""
        reading = self._main_sampler().latest()
        if reading is None:
            return None
        wanted = {d.device for d in self._main().devices if d.kind == self.work_kind}
        values = [row.power_w for row in reading.rows if row.device in wanted]
        known = [w for w in values if w is not None]
        return sum(known) if len(known) == len(wanted) else None

    def kv_cache_utilization(self) -> float | None:
        """Return the newest share of the KV cache that the engine uses, for a live view."""
        sample = None if self._engine is None else self._engine.latest()
        return None if sample is None else sample.kv_cache_utilization

    def power_series(self, begin_s: float, end_s: float) -> tuple[Series, Series]:
        """Return times and summed power of the devices that do the work, between two times."""
        wanted = [d.device for d in self._main().devices if d.kind == self.work_kind]
        frame = self._main_sampler().frame()
        inside = frame.filter(pl.col("device").is_in(wanted), pl.col("t_mono_s").is_between(begin_s, end_s))
        summed = (
            inside.drop_nulls("power_w")
            .group_by("t_mono_s")
            .agg(pl.col("power_w").sum(), pl.len().alias("devices"))
            .filter(pl.col("devices") == len(wanted))
            .sort("t_mono_s")
        )
        return summed["t_mono_s"].to_numpy(), summed["power_w"].to_numpy()

    def temperature_series(self, begin_s: float, end_s: float) -> tuple[Series, Series]:
        """Return times and mean temperature of the devices that do the work, between two times."""
        wanted = [d.device for d in self._main().devices if d.kind == self.work_kind]
        frame = self._main_sampler().frame()
        mean = (
            frame.filter(pl.col("device").is_in(wanted), pl.col("t_mono_s").is_between(begin_s, end_s))
            .drop_nulls("temperature_c")
            .group_by("t_mono_s")
            .agg(pl.col("temperature_c").mean())
            .sort("t_mono_s")
        )
        return mean["t_mono_s"].to_numpy(), mean["temperature_c"].to_numpy()

    def meter_error(self) -> JoulemapError | None:
        """Return why the meter that counts has stopped, ``None`` while it reads."""
        return self._main_sampler().status().error

    def clock_steps_s(self, begin_s: float, end_s: float) -> tuple[float, ...]:
        """Return by how much the wall clock was set in each step between two times."""
        steps = self._main_sampler().status().clock_steps
        return tuple(s.step_s for s in steps if begin_s <= s.mono_s <= end_s)

    def frames(self) -> Mapping[str, pl.DataFrame]:
        """Return everything that was read: ``power`` of all meters, and the other sources by name."""
        parts = [
            s.frame().with_columns(meter=pl.lit(d.meter))
            for s, d in zip(self._meters, self.descriptions, strict=True)
        ]
        told = {} if self._engine is None else {"telemetry": self._engine.frame()}
        return {"power": pl.concat(parts), **{name: s.frame() for name, s in self._watched.items()}, **told}

    def activity(self, begin_s: float, end_s: float) -> tuple[Mapping[str, float], Mapping[str, str]]:
        """Return the GPUs' mean activity over a window by field name, and why fields are missing."""
        sampler = self._watched.get(ACTIVITY)
        if sampler is None:
            return {}, {}
        devices = tuple(d.device for d in self._main().devices if d.kind == self.work_kind)
        status = sampler.status()
        reasons = {name: why for told in status.missing.values() for name, why in told.items()}
        if status.error is not None:
            reasons = dict.fromkeys(QUANTITIES, status.error.message)
        window = activity_between(sampler.frame(), begin_s, end_s, devices, reasons)
        return window.values, window.missing

    def notes(self) -> tuple[str, ...]:
        """Return what the meters' descriptions say, and which other sources stopped."""
        notes = [note for d in self.descriptions for note in d.notes]
        for name, sampler in self._watched.items():
            error = sampler.status().error
            if error is not None:
                notes.append(f"{name} stopped: {error.message}")
        return tuple(notes)

    def _position(self) -> int:
        return next(i for i, d in enumerate(self.descriptions) if any(x.kind == self.work_kind for x in d.devices))

    def _main(self) -> MeterDescription:
        return self.descriptions[self._position()]

    def _main_sampler(self) -> Sampler[DeviceReading]:
        return self._meters[self._position()]


def _short_name(gpu: str) -> str:
    try:
        return load_catalog().gpu(gpu).id
    except UnknownNameError:
        return gpu
