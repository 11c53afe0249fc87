"""What each client of the benchmark prints: times in seconds, as one line of JSON. Needs nothing but Python."""

from __future__ import annotations

import json
from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile by linear interpolation, as NumPy's default does."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(values_s: Sequence[float]) -> list[float]:
    """Return mean, median and 99th percentile."""
    ordered = sorted(values_s)
    return [sum(ordered) / len(ordered), percentile(ordered, 0.5), percentile(ordered, 0.99)]


def print_report(ttfts_s: Sequence[float], gaps_s: Sequence[float], **more: object) -> None:
    """Print a client's report."""
    print(json.dumps({"ttft_s": summary(ttfts_s), "gap_s": summary(gaps_s), **more}), flush=True)
