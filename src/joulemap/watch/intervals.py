"""Intervals between two scrapes: what each cost, and what came out; and "now", the last minute of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from joulemap.measure.meters.energy import MAX_GAP_S, DeviceEnergy, EnergySource
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.windows import Ratio, ratio
from joulemap.measure.telemetry.window import TelemetryWindow
from joulemap.records import Basis, Quantity

BRIDGE_S = 60.0
"""A meter's silence over which its energy counter is trusted: only its power would be unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Everything that is known of the time between two scrapes."""

    begin_s: float
    end_s: float
    energy_j: float | None
    """Of the devices that do the work."""
    missing: str
    """Why there is no energy."""
    device_j: Mapping[str, float]
    """Energy of each device whose energy is known."""
    window: TelemetryWindow
    """What the engine told."""

    @property
    def duration_s(self) -> float:
        """Length of the interval."""
        return self.end_s - self.begin_s

    @property
    def prefill_tokens(self) -> float | None:
        """Prompt tokens that were not found in the prefix cache."""
        prompt, hits = self.window.prompt_tokens, self.window.prefix_cache_hit_rate
        return None if prompt is None else prompt * (1.0 - min(1.0, hits or 0.0))

    @property
    def idle_fraction(self) -> float | None:
        """Share of the time in which the engine had nothing to do; ``None`` where it did not tell."""
        window = self.window
        if window.starved_fraction is not None:
            return window.starved_fraction
        if window.batch_size is None or window.generation_tokens is None:
            return None
        worked = window.batch_size + (window.requests_waiting or 0.0) + window.generation_tokens
        return 1.0 if worked + (window.prompt_tokens or 0.0) == 0.0 else 0.0


def energy_of(instruments: Instruments, begin_s: float, end_s: float) -> tuple[float | None, str, dict[str, float]]:
    """Return the energy of the work between two times, why there is none, and the energy of each device."""
    device_j: dict[str, float] = {}
    work_j, missing = 0.0, ""
    found = False
    for window in instruments.energies(begin_s, end_s, max_gap_s=BRIDGE_S):
        for device in window.devices:
            energy_j, reason = _trusted(device)
            if energy_j is not None:
                device_j[device.device] = energy_j
            if device.kind is instruments.work_kind:
                found = True
                work_j += energy_j or 0.0
                missing = missing or reason
    if not found:
        missing = f"no meter reads a {instruments.work_kind.value}"
    return (None if missing else work_j), missing, device_j


def _trusted(device: DeviceEnergy) -> tuple[float | None, str]:
    """Return a device's energy, or why it cannot be trusted: power that was not read cannot be integrated."""
    if device.energy_j is None:
        return None, f"{device.device}: {device.missing['energy_j']}"
    if device.source is EnergySource.INTEGRATED and device.longest_gap_s > MAX_GAP_S:
        return None, f"{device.device}: no power was read for {device.longest_gap_s:.1f} s"
    return max(0.0, device.energy_j), ""


class Recent:
    """The intervals of the last minute or so.

    Args:
        rolling_s: How far back.
    """

    def __init__(self, rolling_s: float) -> None:
        self.rolling_s = rolling_s
        self._intervals: deque[Interval] = deque()
        self._energy_per_output: Ratio | None = None
        """Reckoned once for each change: Student's quantile costs more than all the rest of a tick."""

    def __iter__(self) -> Iterator[Interval]:
        return iter(self._intervals)

    @property
    def last(self) -> Interval | None:
        """The newest one."""
        return self._intervals[-1] if self._intervals else None

    def add(self, interval: Interval) -> None:
        """Take note of the next interval."""
        self._intervals.append(interval)
        self._energy_per_output = None
        self.forget(interval.end_s)

    def forget(self, now_s: float) -> None:
        """Drop what is no longer recent, so that a source that stopped does not seem to go on."""
        while self._intervals and self._intervals[0].end_s <= now_s - self.rolling_s:
            self._intervals.popleft()
            self._energy_per_output = None

    def clear(self) -> None:
        """Begin anew: what was is no guide to what is."""
        self._intervals.clear()
        self._energy_per_output = None

    @property
    def metered(self) -> list[Interval]:
        """Those whose energy is known."""
        return [i for i in self._intervals if i.energy_j is not None]

    @property
    def counted(self) -> list[Interval]:
        """Those whose energy and outputs are known."""
        return [i for i in self.metered if i.window.generation_tokens is not None]

    def power_w(self, basis: Basis) -> Quantity | None:
        """Return the mean power; ``None`` where nothing was metered."""
        metered = self.metered
        if not metered:
            return None
        joules, duration_s = sum(i.energy_j or 0.0 for i in metered), sum(i.duration_s for i in metered)
        return Quantity(value=joules / duration_s, unit="W", basis=basis)

    def output_throughput_per_s(self) -> float | None:
        """Return output tokens per second; ``None`` where they were not counted."""
        counted = [i for i in self._intervals if i.window.generation_tokens is not None]
        duration_s = sum(i.duration_s for i in counted)
        return sum(i.window.generation_tokens or 0.0 for i in counted) / duration_s if duration_s > 0 else None

    def energy_per_output_j(
        self, basis: Basis, relative_interval: tuple[float, float] | None
    ) -> tuple[Quantity | None, str]:
        """Return joules per output token with the interval of its spread and of the meter, or why there is none."""
        counted = self.counted
        if not counted:
            last = self.last
            reason = "" if last is None else last.missing or last.window.missing.get("generation_tokens", "")
            return None, reason or "nothing was measured yet"
        outputs = [i.window.generation_tokens or 0.0 for i in counted]
        if sum(outputs) <= 0:
            return None, f"no output in the last {self.rolling_s:g} s"
        told = self._energy_per_output or ratio([i.energy_j or 0.0 for i in counted], outputs)
        self._energy_per_output = told
        low, high = relative_interval or (1.0, 1.0)
        if told.half_width is None:
            return Quantity(value=told.value, unit="J/token", basis=basis, note="too few intervals"), ""
        return Quantity(
            value=told.value,
            unit="J/token",
            basis=basis,
            low=max(0.0, min(told.value, low * (told.value - told.half_width))),
            high=max(told.value, high * (told.value + told.half_width)),
        ), ""
