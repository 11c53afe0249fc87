"""What was sampled during a run, binned for drawing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from joulemap.physics.arrays import Floats

MOST_BINS = 240
"""Points of a trace: a pixel or two each on paper."""
_SHARES = {
    "memory_bandwidth_utilization": "memory bandwidth",
    "compute_utilization": "compute",
    "sm_utilization": "SM utilization",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One quantity over time."""

    panel: str
    """The panel that it belongs to: ``power``, ``requests``, ``throughput``, ``KV cache`` or ``activity``."""
    name: str
    unit: str
    time_s: tuple[float, ...]
    """Middle of each bin, since the timeline's begin."""
    values: tuple[float, ...]
    """Mean of each bin."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "panel": self.panel,
            "name": self.name,
            "unit": self.unit,
            "time_s": list(self.time_s),
            "values": list(self.values),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimeline:
    """A run over time."""

    length_s: float
    windows_s: tuple[tuple[float, float], ...]
    """Begin and end of each window that the run's quantities were taken over, since the timeline's begin."""
    traces: tuple[Trace, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "length_s": self.length_s,
            "windows_s": [list(window) for window in self.windows_s],
            "traces": [trace.to_json() for trace in self.traces],
        }


def run_timeline(tables: Mapping[str, pl.DataFrame], output_unit: str) -> RunTimeline | None:
    """Return a run's timeline from what was sampled; ``None`` where nothing can be drawn.

    Args:
        tables: Tables by kind, as ``RunStore.timelines.of_run`` returns them.
        output_unit: What the run made: ``token``, ``image`` or ``video``.
    """
    raw = [
        (panel, name, unit, time, values)
        for panel, name, unit, time, values in _raw(tables, output_unit)
        if len(time) > 1
    ]
    if not raw:
        return None
    begin = min(float(time[0]) for *_, time, _ in raw)
    end = max(float(time[-1]) for *_, time, _ in raw)
    traces = [
        Trace(panel=panel, name=name, unit=unit, **_binned(time - begin, values, end - begin))
        for panel, name, unit, time, values in raw
    ]
    windows = tables.get("windows")
    told = (
        ()
        if windows is None
        else tuple((row["begin_s"] - begin, row["end_s"] - begin) for row in windows.iter_rows(named=True))
    )
    return RunTimeline(length_s=end - begin, windows_s=told, traces=tuple(traces))


_Raw = tuple[str, str, str, Floats, Floats]


def _raw(tables: Mapping[str, pl.DataFrame], output_unit: str) -> Iterator[_Raw]:
    """Yield panel, name, unit, times and values of everything that was sampled."""
    if (power := tables.get("power")) is not None:
        for (meter,), own in power.drop_nulls("power_w").group_by("meter", maintain_order=True):
            summed = _summed(own, "t_mono_s", "power_w")
            yield ("power", str(meter), "W", *summed)
    if (steps := tables.get("steps")) is not None:
        yield ("requests", "in flight", "request", *_columns(steps, "t_mono_s", "in_flight"))
        yield (
            "throughput",
            f"{output_unit}s",
            f"{output_unit}/s",
            *_rates(*_columns(steps, "t_mono_s", "outputs")),
        )
    if (client := tables.get("client")) is not None:
        yield from _of_client(client, output_unit)
    if (told := tables.get("telemetry")) is not None:
        for column, name in (("requests_running", "running in the engine"), ("requests_waiting", "waiting there")):
            yield ("requests", name, "request", *_columns(told, "t_mono_s", column))
        yield ("KV cache", "KV cache in use", "1", *_columns(told, "t_mono_s", "kv_cache_utilization"))
    if (activity := tables.get("activity")) is not None:
        for column, name in _SHARES.items():
            if column in activity.columns:
                mean = activity.drop_nulls(column).group_by("t_mono_s").agg(pl.col(column).mean())
                yield ("activity", name, "1", *_columns(mean.sort("t_mono_s"), "t_mono_s", column))


def _of_client(client: pl.DataFrame, output_unit: str) -> Iterator[_Raw]:
    """Yield what the load client saw; its workers report apart, and each report holds until the next."""
    workers = client["worker"].unique().to_list()
    times = client.select(pl.col("time_s").unique().sort())
    held = [
        times.join_asof(client.filter(worker=w).sort("time_s"), on="time_s", strategy="backward") for w in workers
    ]
    time = times["time_s"].to_numpy().astype(np.float64)

    def total(column: str) -> Floats:
        parts = [one[column].fill_null(0).to_numpy().astype(np.float64) for one in held]
        return np.asarray(np.sum(parts, axis=0), dtype=np.float64)

    yield "requests", "in flight at the client", "request", time, total("in_flight")
    if output_unit == "image":
        yield ("throughput", "images", "image/s", *_rates(time, total("images")))
    elif output_unit == "token":
        # Tokens are counted when a reply ends; until then, chunks tell, at as many tokens each as in ended replies.
        ended = float(total("completed_chunks")[-1])
        tokens_per_chunk = float(total("output_tokens")[-1]) / ended if ended else 1.0
        yield ("throughput", "tokens", "token/s", *_rates(time, total("content_chunks") * tokens_per_chunk))


def _summed(frame: pl.DataFrame, time: str, column: str) -> tuple[Floats, Floats]:
    return _columns(frame.group_by(time).agg(pl.col(column).sum()).sort(time), time, column)


def _columns(frame: pl.DataFrame, time: str, column: str) -> tuple[Floats, Floats]:
    known = frame.select(time, column).drop_nulls()
    return known[time].to_numpy().astype(np.float64), known[column].to_numpy().astype(np.float64)


def _rates(time: Floats, counted: Floats) -> tuple[Floats, Floats]:
    """Return the rate of a counter over bins wide enough for a rate to mean something."""
    if len(time) < 2 or time[-1] <= time[0]:
        return time[:0], counted[:0]
    edges = np.linspace(time[0], time[-1], min(MOST_BINS, max(2, int(2 * (time[-1] - time[0])))) + 1)
    rates = np.diff(np.interp(edges, time, counted)) / np.diff(edges)
    return np.asarray((edges[1:] + edges[:-1]) / 2, dtype=np.float64), np.asarray(rates, dtype=np.float64)


def _binned(time: Floats, values: Floats, length_s: float) -> dict[str, tuple[float, ...]]:
    """Return means over equal bins, of which those without a sample are left out."""
    if len(time) > MOST_BINS:
        bins = np.clip((time / max(length_s, 1e-9) * MOST_BINS).astype(int), 0, MOST_BINS - 1)
        count = np.bincount(bins, minlength=MOST_BINS)
        full = count > 0
        time = np.bincount(bins, time, MOST_BINS)[full] / count[full]
        values = np.bincount(bins, values, MOST_BINS)[full] / count[full]
    return {"time_s": tuple(time.tolist()), "values": tuple(values.tolist())}
