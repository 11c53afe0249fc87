"""Energy over a window, twice: by the device's counter and by integrating its power; and how far they disagree.

A counter that is slow to read is read more rarely than power. What it counted between two of its readings is
spread over the time between them as the power readings say, scaled so that they integrate to the counter's
difference. Within a window that is the counter alone; only at both edges does power say which part of a step lies
inside. Since the energy up to a moment depends on nothing but the readings around it, windows that meet sum to the
whole. Where no power was read in between, the step is spread evenly.
"""

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
LONG_STEP_S = 0.5
"""Time between two readings of the counter over which an even spread is a guess to be told in the interval."""
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
    ``max_gap_s`` away, and no longer silence in between. Counter values at the ends are interpolated, along the
    power readings where there are any between two readings of the counter; the interval holds what the counter's
    period and the rarity of readings leave open there.

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
        return self.around(column, self.begin_s, self.end_s)

    def around(self, column: str, begin_s: float, end_s: float) -> tuple[Series, Series]:
        """Return times and values of a column, from the last reading before one time to the first after another."""
        if column not in self.part.columns:
            return np.empty(0), np.empty(0)
        known = self.part.select("t_mono_s", column).drop_nulls()
        times, values = known["t_mono_s"].to_numpy(), known[column].to_numpy()
        first = max(0, int(np.searchsorted(times, begin_s + FLOAT_DUST_S, side="right")) - 1)
        last = min(len(times), int(np.searchsorted(times, end_s - FLOAT_DUST_S, side="left")) + 1)
        return times[first:last], values[first:last]

    def refusal(self, times: Series, heard: Series | None = None) -> str | None:
        """Return why readings at these times do not cover the window, or ``None`` if they do.

        ``heard`` are the times at which the meter told anything, if these are more.
        """
        if len(times) == 0:
            return "no reading"
        if times[0] > self.begin_s + FLOAT_DUST_S:
            return f"not bracketed: the first reading is {times[0] - self.begin_s:.2f} s into the window"
        if times[-1] < self.end_s - FLOAT_DUST_S:
            return f"not bracketed: the last reading is {self.end_s - times[-1]:.2f} s before the window's end"
        if len(times) < 2:
            return "shorter than clocks tell"
        gap_s = longest_gap(times if heard is None else heard)
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
    counter_j, open_j = None, 0.0
    heard = np.union1d(counter_t, power_t)
    if (reason := window.refusal(counter_t, heard)) is None:
        try:
            counted = _Counted(window, (counter_t, counter), description.power_delay_s, notes)
        except MeterError as error:
            reason = error.message
        else:
            counter_j, open_j = counted.until(window.end_s) - counted.until(window.begin_s), counted.open_j
    if counter_j is None:
        missing["counter_j"] = str(reason)
    source = EnergySource.COUNTER if counter_j is not None else EnergySource.INTEGRATED
    energy_j = counter_j if counter_j is not None else integrated_j
    times = heard if counter_j is not None else power_t
    low_j = high_j = None
    if energy_j is None:
        missing["energy_j"] = missing["counter_j"] if description.counter_resolution_j else missing["integrated_j"]
    else:
        low_j, high_j = _interval((energy_j, open_j), window, source, times, description)
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


class _Counted:
    """What a counter had counted up to any moment between its readings.

    Args:
        window: The window, and the power readings around it.
        counter: Times and values of the counter, which bracket the window.
        power_delay_s: How late power may be.
        notes: Where what a careful reader must know is added.

    Raises:
        MeterError: The counter cannot be trusted.
    """

    def __init__(
        self, window: _Window, counter: tuple[Series, Series], power_delay_s: float, notes: list[str]
    ) -> None:
        self.times, values = counter
        self.power = window.around("power_w", float(self.times[0]), float(self.times[-1]))
        self.max_gap_s = window.max_gap_s
        self.power_delay_s = power_delay_s
        self._must_move(values)
        self.steps = np.diff(values)
        for i in np.flatnonzero(self.steps < 0):
            # What was counted between the last reading before a reset and the reset itself is lost: power fills in.
            filled_j = self._integrated(int(i), float(self.times[i + 1]))
            if filled_j is None:
                msg = "the energy counter was reset and there is no power reading to fill the step"
                raise MeterError(msg)
            self.steps[i] = filled_j
            notes.append(f"the energy counter was reset; {filled_j:.1f} J of integrated power fill the step")
        self.totals = np.concatenate(([0.0], np.cumsum(self.steps)))
        self.open_j = self._open_j(window.begin_s) + self._open_j(window.end_s)

    def until(self, time_s: float) -> float:
        """Return the energy from the first reading of the counter to a time."""
        i = self._step(time_s)
        whole_j = self._integrated(i, float(self.times[i + 1])) if self._shaped(i) else None
        if not whole_j:
            return float(np.interp(time_s, self.times, self.totals))
        return float(self.totals[i] + self.steps[i] * (self._integrated(i, time_s) or 0.0) / whole_j)

    def _open_j(self, time_s: float) -> float:
        """Return how far the energy up to a time may be off because the counter was not read just then.

        Along power readings: power between two of them is taken to stay between them, and to be shown late by no
        more than the meter says. Without: by the time to the nearest reading of the counter, at the step's power.
        """
        i = self._step(time_s)
        begin_s, end_s = self.times[i], self.times[i + 1]
        from_edge_s = max(0.0, float(min(time_s - begin_s, end_s - time_s)))
        mean_w = float(self.steps[i] / (end_s - begin_s))
        if not self._shaped(i) or not self._integrated(i, float(end_s)):
            return mean_w * from_edge_s if end_s - begin_s > LONG_STEP_S else 0.0
        if from_edge_s <= FLOAT_DUST_S:
            return 0.0
        t, p = self._powers(i)
        changes_j = np.abs(np.diff(p)) * (0.5 * np.diff(t) + self.power_delay_s)
        return float(min(np.sum(changes_j), self.steps[i]))

    def _step(self, time_s: float) -> int:
        found = int(np.searchsorted(self.times, time_s, side="right")) - 1
        return min(max(found, 0), len(self.times) - 2)

    def _shaped(self, i: int) -> bool:
        """Return whether power was read between two readings of the counter, and at both."""
        times = self.power[0]
        inside = (times > self.times[i] + FLOAT_DUST_S) & (times < self.times[i + 1] - FLOAT_DUST_S)
        return bool(inside.any()) and self._covered(i)

    def _covered(self, i: int) -> bool:
        t, _ = self._powers(i)
        begin_s, end_s = self.times[i] + FLOAT_DUST_S, self.times[i + 1] - FLOAT_DUST_S
        return len(t) > 1 and bool(t[0] <= begin_s and t[-1] >= end_s) and longest_gap(t) <= self.max_gap_s

    def _powers(self, i: int) -> tuple[Series, Series]:
        """Return the power readings from the last at or before a step to the first at or after it."""
        times, powers = self.power
        first = max(0, int(np.searchsorted(times, self.times[i] + FLOAT_DUST_S, side="right")) - 1)
        last = int(np.searchsorted(times, self.times[i + 1] - FLOAT_DUST_S, side="left")) + 1
        return times[first:last], powers[first:last]

    def _integrated(self, i: int, until_s: float) -> float | None:
        """Return the integral of power from the begin of a step; ``None`` where power does not cover the step."""
        return integrate(*self._powers(i), float(self.times[i]), until_s) if self._covered(i) else None

    def _must_move(self, values: Series) -> None:
        from_s, to_s = _longest_repeat(self.times, values)
        still_s = 0.0
        if to_s - from_s > max(STUCK_AFTER_S, 2.0 * longest_gap(self.times)) and self._drawn(from_s, to_s):
            still_s = to_s - from_s
        # A counter that is read rarely need not repeat twice: power in between tells that it should have moved.
        lengths_s = np.diff(self.times)
        for i in np.flatnonzero((np.diff(values) == 0) & (lengths_s > LONG_STEP_S)):
            if self._drawn(float(self.times[i]), float(self.times[i + 1])):
                still_s = max(still_s, float(lengths_s[i]))
        if still_s:
            msg = f"the energy counter stood still for {still_s:.1f} s while power was drawn"
            raise MeterError(msg)

    def _drawn(self, begin_s: float, end_s: float) -> bool:
        """Return whether power was read between two times, and was never 0."""
        times, powers = self.power
        inside = powers[(times > begin_s + FLOAT_DUST_S) & (times < end_s - FLOAT_DUST_S)]
        return bool(inside.size and np.min(inside) > 0)


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
    energy: tuple[float, float],
    window: _Window,
    source: EnergySource,
    times: Series,
    description: MeterDescription,
) -> tuple[float, float]:
    """Return the interval: unknown time at both ends of the window, and the meter's own where it states one.

    ``energy`` is the energy and how much of it is open because the counter was not read at the ends.
    """
    energy_j, open_j = energy
    duration_s = window.end_s - window.begin_s
    if source is EnergySource.COUNTER:
        # Each end may be off by the counter's period, at the window's mean power.
        open_s = 2.0 * description.counter_period_s
        slack_j = open_j + energy_j * open_s / duration_s + 2.0 * (description.counter_resolution_j or 0.0)
    else:
        slack_j = energy_j * float(np.median(np.diff(times))) / duration_s
    low, high = description.relative_interval or (1.0, 1.0)
    return max(0.0, energy_j * low - slack_j), energy_j * high + slack_j
