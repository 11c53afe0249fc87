"""GPU activity in joulemap's words, and its mean over a window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl

from joulemap.measure.meters.meter import Reading, Source

ACTIVITY_RATE_HZ = 5.0
"""A rate whose interval stays clear of the shortest sound one."""
COVERAGE_LIMIT = 0.5
"""A mean over less than this share of a window is not one of the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceActivity:
    """Activity of one GPU, averaged over the interval that ends at the reading."""

    device: str
    """The GPU's UUID."""
    interval_s: float | None = None
    """Length of the interval."""
    sm_utilization: float | None = None
    """Share of multiprocessors that had at least one warp, averaged over time."""
    sm_occupancy: float | None = None
    """Resident warps ÷ the most that fit."""
    compute_utilization: float | None = None
    """Share of the tensor pipes' cycles in use, for any number format."""
    memory_bandwidth_utilization: float | None = None
    """Memory bandwidth in use ÷ its theoretical maximum."""
    nvlink_rx_bytes_per_s: float | None = None
    nvlink_tx_bytes_per_s: float | None = None
    pcie_rx_bytes_per_s: float | None = None
    pcie_tx_bytes_per_s: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Why a field is ``None``."""


SHARES = ("sm_utilization", "sm_occupancy", "compute_utilization", "memory_bandwidth_utilization")
RATES = ("nvlink_rx_bytes_per_s", "nvlink_tx_bytes_per_s", "pcie_rx_bytes_per_s", "pcie_tx_bytes_per_s")
QUANTITIES = (*SHARES, *RATES)

ActivityReading = Reading[DeviceActivity]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityDescription:
    """Where GPU activity comes from."""

    source: str
    """``"gpm"`` or ``"dcgm"``."""
    devices: tuple[str, ...]
    """The GPUs' UUIDs."""
    notes: tuple[str, ...] = ()


class ActivitySource(Source[DeviceActivity], Protocol):
    """Something that tells GPU activity; a sampler reads it."""

    def describe(self) -> ActivityDescription:
        """Return where the activity comes from."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityWindow:
    """Activity over a window: the mean over time of each GPU, then over GPUs."""

    begin_s: float
    end_s: float
    values: Mapping[str, float]
    """Mean over all GPUs, by quantity; ``nvlink_bytes_per_s`` and ``pcie_bytes_per_s`` are both directions."""
    by_device: Mapping[str, Mapping[str, float]]
    missing: Mapping[str, str]
    """Why a quantity is not in ``values``."""

    def __getitem__(self, name: str) -> float | None:
        """Return a quantity's mean over all GPUs, ``None`` where ``missing`` says why."""
        return self.values.get(name)


def activity_between(
    frame: pl.DataFrame, begin_s: float, end_s: float, devices: tuple[str, ...], reasons: Mapping[str, str]
) -> ActivityWindow:
    """Return the mean activity between two monotonic times.

    Each reading counts by how much of its interval lies in the window.

    Args:
        frame: A sampler's frame of the source.
        begin_s: Begin of the window.
        end_s: End of the window.
        devices: The GPUs that must all be there.
        reasons: Why quantities were missing, as the sampler's status tells for one device.
    """
    missing: dict[str, str] = {}
    by_device: dict[str, dict[str, float]] = {device: {} for device in devices}
    for device in devices:
        part = frame.filter(pl.col("device") == device)
        for name in QUANTITIES:
            mean = _mean(part, name, begin_s, end_s)
            if mean is None:
                missing[name] = reasons.get(name, f"{device}: told for less than half of the window")
            else:
                by_device[device][name] = mean
    values = {
        name: math.fsum(by_device[d][name] for d in devices) / len(devices)
        for name in QUANTITIES
        if devices and name not in missing
    }
    for link in ("nvlink", "pcie"):
        ways = (f"{link}_rx_bytes_per_s", f"{link}_tx_bytes_per_s")
        lacking = [way for way in ways if way not in values]
        if lacking:
            missing[f"{link}_bytes_per_s"] = missing.get(lacking[0], "no GPU was read")
        else:
            values[f"{link}_bytes_per_s"] = math.fsum(values[way] for way in ways)
    return ActivityWindow(begin_s=begin_s, end_s=end_s, values=values, by_device=by_device, missing=missing)


def _mean(part: pl.DataFrame, name: str, begin_s: float, end_s: float) -> float | None:
    known = part.select("t_mono_s", "interval_s", name).drop_nulls()
    ends = known["t_mono_s"].to_numpy()
    begins = ends - known["interval_s"].to_numpy()
    inside_s = np.clip(np.minimum(ends, end_s) - np.maximum(begins, begin_s), 0.0, None)
    covered_s = float(np.sum(inside_s))
    if covered_s < COVERAGE_LIMIT * (end_s - begin_s):
        return None
    return float(np.dot(known[name].to_numpy(), inside_s) / covered_s)
