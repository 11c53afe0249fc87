"""Energy over a window, twice: by the device's counter and by integrating its power; and how far they disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.errors import MeterError
from joulemap.measure.meters.meter import DeviceKind, MeterDescription
from joulemap.records import Basis, Quantity

MAX_GAP_S = 3.0
"""A longer silence of a meter inside a window hides energy: the window is refused."""
DISAGREEMENT_LIMIT = 0.1
"""Counter and integrated power that differ by more than this share of the counter are worth a warning."""
STUCK_AFTER_S = 1.0
"""A counter that repeats for longer than this while power is drawn no longer counts (NVML: 20–100 ms)."""
FLOAT_DUST_S = 1e-9

Series = NDArray[np.float64]


class EnergySource(StrEnum):
    """Which of the two ways gave the energy."""

    COUNTER = "counter"
    INTEGRATED = "integrated power"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnergy:
    """Energy of one device over a window; ``None`` with a reason where it cannot be had."""

    device: str
    kind: DeviceKind
    energy_j: float | None
    low_j: float | None
    """Lower end of the interval: what the counter's period, or the sampling, leaves open at both ends."""
    high_j: float | None
    source: EnergySource | None
    counter_j: float | None
    integrated_j: float | None
    longest_gap_s: float
    samples: int
    missing: dict[str, str] = field(default_factory=dict)
    """Why ``energy_j``, ``counter_j`` or ``integrated_j`` is ``None``."""
    notes: tuple[str, ...] = ()

    @property
    def disagreement(self) -> float | None:
        """Integrated power over the counter, less one; ``None`` unless both are there."""
        if self.counter_j is None or self.integrated_j is None or self.counter_j <= 0:
            return None
        return self.integrated_j / self.counter_j - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowEnergy:
    """Energy of all devices of a meter over a window of monotonic time."""

    begin_s: float
    end_s: float
    basis: Basis
    devices: tuple[DeviceEnergy, ...]

    @property
    def duration_s(self) -> float:
        """Length of the window."""
        return self.end_s - self.begin_s

    def of(self, kind: DeviceKind) -> tuple[DeviceEnergy, ...]:
        """Return the devices of one kind."""
        return tuple(d for d in self.devices if d.kind == kind)

    def total(self, kind: DeviceKind) -> Quantity | str:
        """Return the energy of all devices of a kind, or the reason why there is no sum.

        A sum over fewer devices than the meter has would be a smaller number that looks right, so there is none.
        """
        devices = self.of(kind)
        if not devices:
            return f"the meter has no device of kind {kind.value}"
        for device in devices:
            if device.energy_j is None:
                return f"{device.device}: {device.missing['energy_j']}"
        return Quantity(
            value=math.fsum(d.energy_j or 0.0 for d in devices),
            unit="J",
            basis=self.basis,
            low=math.fsum(d.low_j or 0.0 for d in devices),
            high=math.fsum(d.high_j or 0.0 for d in devices),
            note="; ".join(n for d in devices for n in d.notes),
        )

    def warnings(self) -> tuple[str, ...]:
        """Return what makes the energies doubtful: disagreements beyond the limit, and notes."""
        found = []
        for device in self.devices:
            gap = device.disagreement
            if gap is not None and abs(gap) > DISAGREEMENT_LIMIT:
                found.append(
                    f"{device.device}: the counter says {device.counter_j:.1f} J and integrated power "
                    f"{device.integrated_j:.1f} J over the same {self.duration_s:.1f} s ({gap:+.1%})"
                )
            found += [f"{device.device}: {note}" for note in device.notes]
        return tuple(found)


def energy_between(
    frame: pl.DataFrame,
    begin_s: float,
    end_s: float,
    description: MeterDescription,
    *,
    max_gap_s: float = MAX_GAP_S,
) -> WindowEnergy:
    """Return the energy of every device between two monotonic times.

    The window must be bracketed: a reading at or before its begin and one at or after its end, at most
    ``max_gap_s`` away, and no longer silence in between. Counter values at the ends are interpolated; the
    interval holds what the counter's period leaves open there.

    Args:
        frame: A sampler's frame of the meter (``device, t_mono_s, energy_j, power_w, …``).
        begin_s: Begin of the window on the monotonic clock.
        end_s: End of the window.
        description: The meter's own description: its devices, its counter's period and its basis.
        max_gap_s: Longest silence that is tolerated.

    Raises:
        MeterError: The window has no length.
    """
    if not end_s > begin_s:
        msg = f"a window must end after it begins, not at {end_s!r} s after {begin_s!r} s"
        raise MeterError(msg)
    by_device = {key[0]: part for key, part in frame.partition_by("device", as_dict=True).items()}
    energies = []
    for device in description.devices:
        part = by_device.get(device.device)
        window = _Window(part, begin_s, end_s, max_gap_s)
        energies.append(_energy_of(window, device.device, device.kind, description))
    return WindowEnergy(begin_s=begin_s, end_s=end_s, basis=description.basis, devices=tuple(energies))


class _Window:
    """One device's readings around a window, and whether they bracket it."""

    def __init__(self, part: pl.DataFrame | None, begin_s: float, end_s: float, max_gap_s: float) -> None:
        self.begin_s, self.end_s, self.max_gap_s = begin_s, end_s, max_gap_s
        self.part = pl.DataFrame() if part is None else part.sort("t_mono_s")

    def series(self, column: str) -> tuple[Series, Series]:
        """Return times and values of a column, from the last reading before the window to the first after."""
        if column not in self.part.columns:
            return np.empty(0), np.empty(0)
        known = self.part.select("t_mono_s", column).drop_nulls()
        times, values = known["t_mono_s"].to_numpy(), known[column].to_numpy()
        first = max(0, int(np.searchsorted(times, self.begin_s + FLOAT_DUST_S, side="right")) - 1)
        last = min(len(times), int(np.searchsorted(times, self.end_s - FLOAT_DUST_S, side="left")) + 1)
        return times[first:last], values[first:last]

    def refusal(self, times: Series) -> str | None:
        """Return why readings at these times do not cover the window, or ``None`` if they do."""
        if len(times) == 0:
            return "no reading"
        if times[0] > self.begin_s + FLOAT_DUST_S:
            return f"not bracketed: the first reading is {times[0] - self.begin_s:.2f} s into the window"
        if times[-1] < self.end_s - FLOAT_DUST_S:
            return f"not bracketed: the last reading is {self.end_s - times[-1]:.2f} s before the window's end"
        gap_s = longest_gap(times)
        if gap_s > self.max_gap_s:
            return f"a gap of {gap_s:.1f} s between readings, longer than {self.max_gap_s:g} s"
        return None


def longest_gap(times: Series) -> float:
    """Return the longest time between neighbouring readings; 0 for fewer than two."""
    return float(np.max(np.diff(times))) if len(times) > 1 else 0.0


def _energy_of(window: _Window, device: str, kind: DeviceKind, description: MeterDescription) -> DeviceEnergy:
    missing: dict[str, str] = {}
    notes: list[str] = []
    power_t, power = window.series("power_w")
    integrated_j = None
    if (reason := window.refusal(power_t)) is None:
        integrated_j = integrate(power_t, power, window.begin_s, window.end_s)
    else:
        missing["integrated_j"] = reason
    counter_t, counter = window.series("energy_j")
    counter_j = None
    if (reason := window.refusal(counter_t)) is None:
        counter_j, reason = _by_counter(window, (counter_t, counter), (power_t, power), notes)
    if counter_j is None:
        missing["counter_j"] = str(reason)
    source = EnergySource.COUNTER if counter_j is not None else EnergySource.INTEGRATED
    energy_j = counter_j if counter_j is not None else integrated_j
    times = counter_t if counter_j is not None else power_t
    low_j = high_j = None
    if energy_j is None:
        missing["energy_j"] = missing["counter_j"] if description.counter_resolution_j else missing["integrated_j"]
    else:
        low_j, high_j = _interval(energy_j, window, source, times, description)
    return DeviceEnergy(
        device=device,
        kind=kind,
        energy_j=energy_j,
        low_j=low_j,
        high_j=high_j,
        source=source if energy_j is not None else None,
        counter_j=counter_j,
        integrated_j=integrated_j,
        longest_gap_s=longest_gap(times),
        samples=len(times),
        missing=missing,
        notes=tuple(notes),
    )


def _by_counter(
    window: _Window, counter: tuple[Series, Series], power: tuple[Series, Series], notes: list[str]
) -> tuple[float | None, str | None]:
    """Return the counter's difference over the window, or why it cannot be trusted."""
    times, values = counter
    steps = np.diff(values)
    from_s, to_s = _longest_repeat(times, values)
    drawn = power[1][(power[0] > from_s + FLOAT_DUST_S) & (power[0] < to_s - FLOAT_DUST_S)]
    if to_s - from_s > max(STUCK_AFTER_S, 2.0 * longest_gap(times)) and drawn.size and np.min(drawn) > 0:
        return None, f"the energy counter stood still for {to_s - from_s:.1f} s while power was drawn"
    resets = np.flatnonzero(steps < 0)
    for i in resets:
        # What was counted between the last reading before a reset and the reset itself is lost: power fills in.
        filled_j = (
            integrate(*power, float(times[i]), float(times[i + 1])) if window.refusal(power[0]) is None else None
        )
        if filled_j is None:
            return None, "the energy counter was reset and there is no power reading to fill the step"
        steps[i] = filled_j
        notes.append(f"the energy counter was reset; {filled_j:.1f} J of integrated power fill the step")
    total = np.concatenate(([0.0], np.cumsum(steps)))
    at_begin, at_end = np.interp([window.begin_s, window.end_s], times, total)
    return float(at_end - at_begin), None


def _longest_repeat(times: Series, values: Series) -> tuple[float, float]:
    """Return begin and end of the longest time over which the values did not change."""
    changed = np.flatnonzero(np.diff(values) != 0)
    edges = np.concatenate(([0], changed + 1, [len(values) - 1]))
    longest = int(np.argmax(np.diff(times[edges])))
    return float(times[edges[longest]]), float(times[edges[longest + 1]])


def integrate(times: Series, power: Series, begin_s: float, end_s: float) -> float:
    """Return the energy under power readings between two times, by trapezoids, ends interpolated.

    >>> integrate(np.array([0.0, 2.0]), np.array([100.0, 300.0]), 0.5, 1.5)
    200.0
    """
    inside = (times > begin_s) & (times < end_s)
    t = np.concatenate(([begin_s], times[inside], [end_s]))
    p = np.interp(t, times, power)
    return float(np.trapezoid(p, t))


def _interval(
    energy_j: float, window: _Window, source: EnergySource, times: Series, description: MeterDescription
) -> tuple[float, float]:
    """Return the interval: unknown time at both ends of the window, and the meter's own where it states one."""
    duration_s = window.end_s - window.begin_s
    if source is EnergySource.COUNTER:
        # Each end may be off by the counter's period, at the window's mean power.
        open_s = 2.0 * description.counter_period_s
        slack_j = energy_j * open_s / duration_s + 2.0 * (description.counter_resolution_j or 0.0)
    else:
        slack_j = energy_j * float(np.median(np.diff(times))) / duration_s
    low, high = description.relative_interval or (1.0, 1.0)
    return max(0.0, energy_j * low - slack_j), energy_j * high + slack_j
