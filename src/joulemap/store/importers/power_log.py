"""Power logs of GPUs, and their energy over a measurement window.

Read are the CSV of ``nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -l 1`` and any CSV with
the columns ``timestamp,gpu,power_w``. A log is trusted only if it brackets the window on both sides, has no
gap over :data:`LONGEST_GAP_S` and covers as many GPUs as were measured; else energy stays unknown.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from joulemap.errors import ImportFileError, UsageError
from joulemap.store.importers.source import Source
from joulemap.units import S_PER_MS, S_PER_NS, S_PER_US

LONGEST_GAP_S = 3.0
"""A longer gap between samples hides what the GPU did in it."""
LARGEST_POWER_W = 1e5
"""No accelerator draws more; a larger figure is in another unit."""

_TIME_COLUMNS = ("timestamp", "time")
_GPU_COLUMNS = ("gpu", "index", "gpu_index", "uuid", "gpu_uuid", "pci.bus_id")
_POWER_COLUMNS = ("power_w", "power.draw", "power.draw.average", "power.draw.instant")
_NAME_COLUMNS = ("name", "gpu_name")
LATEST_UNIX_S = 4.2e9
"""The year 2103: a larger time is in another unit."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLog:
    """Power over time of each GPU: rising Unix times in seconds, and watts, of equal length."""

    file: str
    times_s: Mapping[str, Floats]
    powers_w: Mapping[str, Floats]
    gpu_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowEnergy:
    """Energy and mean power of all GPUs of a log together over a window."""

    energy_j: float
    power_w: float
    num_gpus: int
    gpu_name: str | None


def zone_named(name: str | None) -> tzinfo | None:
    """Return the timezone of this name; ``None``, which means this machine's, for ``None``.

    Raises:
        UsageError: There is no such timezone.
    """
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        msg = f"unknown timezone {name!r}"
        raise UsageError(msg, fix="give one as UTC or Europe/Zurich") from error


def read_power_log(path: Path, timezone: str | None = None) -> PowerLog:
    """Read a power log.

    Args:
        path: The CSV file.
        timezone: Timezone of stamps that name none, as nvidia-smi's; this machine's if ``None``.

    Raises:
        ImportFileError: It is no power log, or a line of it cannot be used.
        UsageError: There is no such timezone.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise ImportFileError(str(path), None, f"cannot be read: {error.strerror or error}") from error
    return _read(path, timezone, stat.st_mtime_ns, stat.st_size)


def energy_over(log: PowerLog, start_s: float, end_s: float, num_gpus: int | None) -> WindowEnergy:
    """Integrate a log over a window by the trapezoidal rule, all GPUs together.

    Args:
        log: The power log.
        start_s: Start of the window, Unix seconds.
        end_s: End of the window, Unix seconds.
        num_gpus: GPUs that the log must cover; any number if ``None``.

    Raises:
        ImportFileError: The log does not bracket the window, has a gap in it, or covers other GPUs.
    """
    if not end_s > start_s:
        raise ImportFileError(log.file, None, f"the measurement window of {end_s - start_s:g} s is empty")
    if num_gpus is not None and len(log.times_s) != num_gpus:
        reason = f"covers {len(log.times_s)} GPUs, but {num_gpus} were measured"
        raise ImportFileError(log.file, "gpu", reason, fix="log only those GPUs (nvidia-smi -i), or correct --gpus")
    energy_j = 0.0
    for gpu, times_s in log.times_s.items():
        _check_cover(log.file, gpu, times_s, start_s, end_s)
        inside = (times_s > start_s) & (times_s < end_s)
        at_s = np.concatenate(([start_s], times_s[inside], [end_s]))
        energy_j += float(np.trapezoid(np.interp(at_s, times_s, log.powers_w[gpu]), at_s))
    return WindowEnergy(
        energy_j=energy_j,
        power_w=energy_j / (end_s - start_s),
        num_gpus=len(log.times_s),
        gpu_name=log.gpu_name,
    )


def _check_cover(file: str, gpu: str, times_s: Floats, start_s: float, end_s: float) -> None:
    place = f"GPU {gpu}"
    if times_s[0] > start_s or times_s[-1] < end_s:
        lacking = []
        if times_s[0] > start_s:
            lacking.append(f"begins {times_s[0] - start_s:,.1f} s after the measurement began")
        if times_s[-1] < end_s:
            lacking.append(f"ends {end_s - times_s[-1]:,.1f} s before it ended")
        fix = "log from before to after the run; if it did, the stamps' timezone differs: give --timezone"
        raise ImportFileError(file, place, " and ".join(lacking), fix=fix)
    first = int(np.searchsorted(times_s, start_s, side="right")) - 1
    last = int(np.searchsorted(times_s, end_s, side="left"))
    gaps_s = np.diff(times_s[first : last + 1])
    if gaps_s.size and gaps_s.max() > LONGEST_GAP_S:
        reason = f"has a gap of {gaps_s.max():,.1f} s in the measurement (at most {LONGEST_GAP_S:g} s)"
        raise ImportFileError(file, place, reason, fix="log at least once a second")


@lru_cache(maxsize=4)
def _read(path: Path, timezone: str | None, _mtime_ns: int, _size_bytes: int) -> PowerLog:
    # Cached because one log often serves every result of a folder; a changed file has another key.
    zone = zone_named(timezone)
    source = Source(path)
    rows = csv.reader(io.StringIO(source.text), skipinitialspace=True)
    columns: _Columns | None = None
    samples: dict[str, tuple[list[float], list[float]]] = {}
    names: set[str] = set()
    try:
        for row in rows:
            if not row or _is_header(row):
                columns = columns or (_columns(source.file, row) if row else None)
                continue
            if columns is None:
                raise ImportFileError(source.file, "header", "names no column 'timestamp'")
            _add_sample(source.file, rows.line_num, row, columns, zone, samples)
            if columns.name is not None and columns.name < len(row):
                names.add(row[columns.name].strip())
    except csv.Error as error:
        raise ImportFileError(source.file, f"line {rows.line_num}", f"is not CSV: {error}") from error
    if not samples:
        raise ImportFileError(source.file, None, "holds no power samples")
    return PowerLog(
        file=source.file,
        times_s={gpu: np.array(times, dtype=np.float64) for gpu, (times, _) in samples.items()},
        powers_w={gpu: np.array(powers, dtype=np.float64) for gpu, (_, powers) in samples.items()},
        gpu_name=names.pop() if len(names) == 1 else None,
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    time: int
    gpu: int
    power: int
    name: int | None


def _is_header(row: Sequence[str]) -> bool:
    return any(cell.strip().lower() in _TIME_COLUMNS for cell in row)


def is_power_header(line: str) -> bool:
    """Return whether this is the first line of a power log."""
    cells = [_bare(cell) for cell in line.split(",")]
    return any(c in cells for c in _TIME_COLUMNS) and any(c in cells for c in _POWER_COLUMNS)


def _bare(cell: str) -> str:
    """Return a column's name without nvidia-smi's unit: ``power.draw [W]`` is ``power.draw``."""
    return cell.strip().lower().removesuffix("[w]").strip()


def _columns(file: str, header: Sequence[str]) -> _Columns:
    names = [_bare(cell) for cell in header]

    def found(options: Sequence[str]) -> int | None:
        return next((names.index(option) for option in options if option in names), None)

    time, gpu, power = found(_TIME_COLUMNS), found(_GPU_COLUMNS), found(_POWER_COLUMNS)
    if time is None or gpu is None or power is None:
        reason = "needs the columns timestamp, gpu (or index) and power_w (or power.draw)"
        fix = "nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -l 1 > power.csv"
        raise ImportFileError(file, "header", reason, fix=fix)
    return _Columns(time, gpu, power, found(_NAME_COLUMNS))


def _add_sample(
    file: str,
    line: int,
    row: Sequence[str],
    columns: _Columns,
    zone: tzinfo | None,
    samples: dict[str, tuple[list[float], list[float]]],
) -> None:
    place = f"line {line}"
    if len(row) <= max(columns.time, columns.gpu, columns.power):
        # A log that is cut off while it is written ends in half a line; a gap shows if it matters.
        return
    gpu = row[columns.gpu].strip()
    if gpu.upper().startswith("MIG"):
        raise ImportFileError(file, place, "is of a MIG slice, which repeats the power of its whole GPU")
    text = row[columns.power].strip().removesuffix("W").strip()
    if text.startswith("[") or text in {"", "N/A"}:
        return
    try:
        power_w = float(text)
    except ValueError:
        raise ImportFileError(file, place, f"has the power {text[:30]!r}, which is no number") from None
    if not 0 <= power_w <= LARGEST_POWER_W:
        raise ImportFileError(file, place, f"has a power of {text[:30]} W, which cannot be")
    time_s = _unix_s(file, place, row[columns.time].strip(), zone)
    times, powers = samples.setdefault(gpu, ([], []))
    if times and time_s <= times[-1]:
        if time_s == times[-1]:
            return
        reason = f"steps back in time by {times[-1] - time_s:,.1f} s"
        raise ImportFileError(file, place, reason, fix="sort the log, and log in UTC over clock changes")
    times.append(time_s)
    powers.append(power_w)


def _unix_s(file: str, place: str, text: str, zone: tzinfo | None) -> float:
    try:
        number = float(text)
    except ValueError:
        return _local_unix_s(file, place, text, zone)
    for scale in (1.0, S_PER_MS, S_PER_US, S_PER_NS):
        # A count of seconds, milli-, micro- or nanoseconds: only one of them lies in this century.
        if 0 <= number * scale <= LATEST_UNIX_S:
            return number * scale
    raise ImportFileError(file, place, f"has the time {text[:40]!r}, which is no Unix time")


def _local_unix_s(file: str, place: str, text: str, zone: tzinfo | None) -> float:
    try:
        stamp = datetime.fromisoformat(text.replace("/", "-"))
        if stamp.tzinfo is None and zone is not None:
            stamp = stamp.replace(tzinfo=zone)
        return stamp.timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ImportFileError(file, place, f"has the time {text[:40]!r}, which is no date and time") from error
