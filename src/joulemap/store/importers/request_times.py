"""Latencies and lengths of single requests, as the ML.ENERGY Benchmark keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from joulemap.store.importers.fields import Fields


@dataclass(slots=True)
class RequestTimes:
    """Of each successful request; times in seconds, lengths in tokens."""

    input_tokens: list[float] = field(default_factory=list)
    output_tokens: list[float] = field(default_factory=list)
    ttft_s: list[float] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    itl_s: list[float] = field(default_factory=list)
    """Gaps between tokens, of all requests together."""
    failed: int = 0

    @property
    def mean_input_tokens(self) -> float | None:
        """Mean prompt length."""
        return sum(self.input_tokens) / len(self.input_tokens) if self.input_tokens else None

    @property
    def mean_output_tokens(self) -> float | None:
        """Mean reply length."""
        return sum(self.output_tokens) / len(self.output_tokens) if self.output_tokens else None

    def statistics(self) -> dict[str, Any]:
        """Return means and quantiles under the names that ``Measured`` has for them."""
        found: dict[str, Any] = {}
        for name, values, quantiles in (
            ("itl", self.itl_s, (50, 90, 95, 99)),
            ("ttft", self.ttft_s, (50, 90, 95, 99)),
            ("latency", self.latency_s, (50, 99)),
        ):
            if not values:
                continue
            array = np.asarray(values, dtype=np.float64)
            found[f"{name}_mean_s"] = float(array.mean())
            for quantile, value in zip(quantiles, np.percentile(array, quantiles), strict=True):
                found[f"{name}_{'median' if quantile == 50 else f'p{quantile}'}_s"] = float(value)
        return found


def read_requests(results: Fields) -> RequestTimes:
    """Return the times of the requests in ``results``; empty lists if the file keeps none.

    Raises:
        ImportFileError: A request is malformed.
    """
    times = RequestTimes()
    if not isinstance(results.values.get("results"), list):
        return times
    for position, entry in enumerate(results.items("results")):
        request = Fields(results.file, results.where(f"results[{position}]"), entry)
        if request.optional_flag("success") is False:
            times.failed += 1
            continue
        _append(times.input_tokens, request.optional_number("input_len"))
        _append(times.output_tokens, request.optional_number("output_len"))
        _append(times.ttft_s, request.optional_number("ttft"))
        _append(times.latency_s, request.optional_number("latency"))
        if request.values.get("itl"):
            times.itl_s += token_gaps_s(request.numbers("itl"))
    return times


def token_gaps_s(chunk_gaps_s: list[float]) -> list[float]:
    """Return the gaps between tokens from those that a client saw between chunks.

    Tokens that arrive in one chunk are recorded as one gap followed by zeros: the gap is the time of all of
    them, so each gets its share. Zeros before the first gap belong to the first token and are dropped.

    >>> token_gaps_s([0.0, 0.75, 0.0, 0.0, 0.5])
    [0.25, 0.25, 0.25, 0.5]
    """
    gaps = np.asarray(chunk_gaps_s, dtype=np.float64)
    starts = np.flatnonzero(gaps > 0)
    if not starts.size:
        return []
    sizes = np.diff(np.append(starts, gaps.size))
    return list(np.repeat(gaps[starts] / sizes, sizes).tolist())


def _append(values: list[float], value: float | None) -> None:
    if value is not None:
        values.append(value)
