"""Metrics as aiperf and genai-perf write them: an object with a unit and statistics.

``{"time_to_first_token": {"unit": "ms", "avg": 41.2, "p50": 40.0, "p99": 55.1, …}}``
"""

from __future__ import annotations

from joulemap.store.importers.fields import Fields
from joulemap.units import J_PER_KJ, J_PER_MEGAJOULE, J_PER_MJ, S_PER_MS, S_PER_NS, S_PER_US, W_PER_KW, W_PER_MW

SECONDS = {"s": 1.0, "sec": 1.0, "ms": S_PER_MS, "us": S_PER_US, "µs": S_PER_US, "ns": S_PER_NS}
PER_SECOND = dict.fromkeys(("requests/sec", "tokens/sec", "req/s", "tokens/s"), 1.0)
COUNTS = dict.fromkeys(("requests", "tokens", "count", "request", "token"), 1.0)
WATTS = {"W": 1.0, "mW": W_PER_MW, "kW": W_PER_KW}
JOULES = {"J": 1.0, "mJ": J_PER_MJ, "kJ": J_PER_KJ, "MJ": J_PER_MEGAJOULE}
"""Upper and lower case differ: tools write megajoules, and NVML counts millijoules."""


def statistic(document: Fields, metric: str, name: str, units: dict[str, float]) -> float | None:
    """Return a statistic of a metric in the unit whose ratio is 1; ``None`` where there is none.

    Args:
        document: Where the metric is.
        metric: The metric's name.
        name: The statistic's name: ``avg``, ``p50``, ``min``, ….
        units: Ratio of each unit that the metric may have.

    Raises:
        ImportFileError: The metric has another unit, or the value cannot be.
    """
    values = document.optional_fields(metric)
    return None if values is None else scaled(values, name, units)


def scaled(values: Fields, name: str, units: dict[str, float]) -> float | None:
    """Return a statistic of a metric's object as :func:`statistic` does."""
    unit = values.text("unit")
    if unit not in units:
        values.refuse("unit", f"is {unit!r}; known are {', '.join(units)}")
    return values.optional_number(name, scale=units[unit])
