"""A stretch of a load, evaluated: throughput, latencies, achieved batch, and whether the client kept up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.measure.load.failure import ErrorKind
from joulemap.measure.load.result import LoadResult

Array = NDArray[np.float64]

BLOCK_REQUESTS = 1024
"""Requests whose chunks are looked at together."""
BUSY_SHARE = 0.9
"""A worker that uses more of its core than this has no room for a burst: it coalesces reads."""
LAG_SHARE = 0.25
"""The loop's lag may not exceed this share of the median gap between chunks …"""
LEAST_LAG_S = 0.010
"""… unless it is below this, which matters to no latency worth reporting."""
DELAY_SHARE = 0.05
"""Requests of an open loop may begin later than due (p99) by this share of the mean latency …"""
LEAST_DELAY_S = 0.010
"""… unless by less than this."""
LAG_OFTEN = 0.05
"""A loop that lags by more than is allowed at more than this share of its looks shapes throughput and medians; one
that lags less often shapes the tails of TTFT and ITL alone."""
FILL_SHARE = 0.95
"""A closed loop that holds fewer of its streams in flight than this is not at its stated concurrency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Mean and percentiles of a time; ``None`` in their stead where nothing was observed."""

    mean_s: float
    median_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    count: int

    @staticmethod
    def of(values_s: Array) -> Percentiles | None:
        """Return the percentiles of a set of times; ``None`` of an empty one."""
        if not values_s.size:
            return None
        median, p90, p95, p99 = np.percentile(values_s, [50, 90, 95, 99]).tolist()
        return Percentiles(
            mean_s=float(values_s.mean()), median_s=median, p90_s=p90, p95_s=p95, p99_s=p99, count=values_s.size
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWindow:
    """What the client saw between two moments."""

    start_s: float
    end_s: float
    output_tokens: float
    """Tokens that arrived in the window; each of a request's chunks counts for its mean tokens per chunk."""
    output_tokens_per_s: float
    input_tokens: int
    """Prompt tokens of the requests that began to answer in the window."""
    images: int
    """Images of the requests that ended in the window."""
    in_flight: float
    """Mean number of requests in flight."""
    completed: int
    failed: int
    ttft: Percentiles | None
    """Of requests whose first content came in the window."""
    itl: Percentiles | None
    """Of gaps that ended in the window."""
    tpot: Percentiles | None
    """(last − first content) ÷ (tokens − 1) of requests completed in the window."""
    latency: Percentiles | None
    """Of requests completed in the window."""
    tokens_per_chunk: float | None
    """Of requests whose server told a count; above 1, the gaps are between chunks, not tokens."""
    client_cpu_share: float | None
    """Cores that the client's processes used, together."""
    notes: tuple[str, ...] = ()
    """What a careful reader should know."""
    reasons: tuple[str, ...] = ()
    """Why the window is invalid; empty if it is valid."""


def in_flight_steps(result: LoadResult) -> tuple[Array, NDArray[np.int64]]:
    """Return the moments at which the number of requests in flight changed, and the number after each."""
    start_s = result.requests["start_s"].to_numpy()
    times = np.concatenate((start_s, start_s + result.requests["latency_s"].to_numpy()))
    changes = np.concatenate((np.ones(start_s.size, np.int64), -np.ones(start_s.size, np.int64)))
    order = np.lexsort((-changes, times))  # at equal times, a beginning before an end
    return times[order], np.cumsum(changes[order])


def full_span(result: LoadResult, target: int | None = None) -> tuple[float, float] | None:
    """Return from when the batch is full to when it can no longer be refilled.

    Args:
        result: The load.
        target: Requests in flight that count as full; by default those that the plan asked for.

    Returns:
        Two monotonic times; ``None`` if the batch was never full.
    """
    wanted = target or result.in_flight_target
    times, counts = in_flight_steps(result)
    if wanted is None:
        return (result.started_s, result.stopped_s) if times.size else None
    full = np.flatnonzero(counts >= wanted)
    if not full.size:
        return None
    # The last request to begin is the last refill: after it, or after the load's end, the batch drains.
    last_start_s = float(result.requests["start_s"].cast(pl.Float64).max() or 0.0)  # type: ignore[arg-type]
    start_s, end_s = float(times[full[0]]), min(result.stopped_s, last_start_s)
    if end_s <= start_s:
        end_s = min(result.stopped_s, float(times[-1]))
    return (start_s, end_s) if end_s > start_s else None


def content_times(result: LoadResult, rows: slice = slice(None)) -> tuple[Array, NDArray[np.int64]]:
    """Return when each content chunk of some requests arrived, and the row of the request to which it belongs.

    Args:
        result: The load.
        rows: The requests, in one piece; by default all.
    """
    first, last, _ = rows.indices(len(result.requests))
    chunks = result.requests["chunks"].to_numpy()
    earlier = int(np.maximum(chunks[:first] - 1, 0).sum())
    chunks = chunks[first:last]
    own = np.repeat(np.arange(chunks.size), chunks)
    if not own.size:
        return np.zeros(0), own
    first_s = (result.requests["start_s"] + result.requests["ttft_s"]).to_numpy()[first:last]
    heads = np.concatenate(([0], np.cumsum(chunks)[:-1]))[chunks > 0]
    steps = np.zeros(own.size)
    is_head = np.zeros(own.size, bool)
    is_head[heads] = True
    steps[~is_head] = result.gaps_s[earlier : earlier + own.size - heads.size]
    # Sums run on from request to request; what had summed up at each one's head is taken off again.
    summed = np.cumsum(steps)
    return first_s[own] + summed - np.repeat(summed[heads], chunks[chunks > 0]), own + first


def _content_between(
    result: LoadResult, start_s: float, end_s: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return how many content chunks of each request arrived in a window, and the gaps that ended in it.

    Requests are looked at in blocks, and only those that overlap the window, so that a long load with many windows
    costs neither much memory nor much time.
    """
    chunks = result.requests["chunks"].to_numpy()
    begun_s = result.requests["start_s"].to_numpy()
    overlaps = (begun_s < end_s) & (begun_s + result.requests["latency_s"].to_numpy() >= start_s)
    before = np.concatenate(([0], np.cumsum(np.maximum(chunks - 1, 0))))
    counts, gaps = np.zeros(chunks.size, np.int64), [np.zeros(0, np.float32)]
    for first in range(0, chunks.size, BLOCK_REQUESTS):
        block = slice(first, first + BLOCK_REQUESTS)
        if not overlaps[block].any():
            continue
        arrivals_s, rows = content_times(result, block)
        inside = (arrivals_s >= start_s) & (arrivals_s < end_s)
        counts += np.bincount(rows[inside], minlength=chunks.size)
        no_head = np.zeros(rows.size, bool)
        no_head[1:] = rows[1:] == rows[:-1]
        ends = before[first], before[min(first + BLOCK_REQUESTS, chunks.size)]
        gaps.append(result.gaps_s[slice(*ends)][inside[no_head]])
    return counts, np.concatenate(gaps)


def evaluate(result: LoadResult, start_s: float, end_s: float) -> LoadWindow:
    """Evaluate the stretch of a load between two monotonic times.

    Args:
        result: The load.
        start_s: Start of the window.
        end_s: Its end.

    Raises:
        ValueError: The window has no length.
    """
    if end_s <= start_s:
        msg = f"a window ends after it starts: {start_s!r} … {end_s!r}"
        raise ValueError(msg)
    requests, notes = result.requests, []
    chunks, gaps_s = _content_between(result, start_s, end_s)
    weights, tokens_per_chunk, untold = _tokens_per_chunk(requests)
    tokens = float(weights @ chunks)
    if untold:
        per = f"{tokens_per_chunk:.3g}" if tokens_per_chunk is not None else "1 (assumed)"
        notes.append(f"the server told no token count for {untold} requests: {per} tokens a chunk were taken")
    ended = requests.filter((pl.col("start_s") + pl.col("latency_s")).is_between(start_s, end_s, closed="left"))
    done = ended.filter(pl.col("error").is_null())
    answered = requests.filter((pl.col("start_s") + pl.col("ttft_s")).is_between(start_s, end_s, closed="left"))
    tpot = done.filter(pl.col("output_tokens") > 1).select(pl.col("decode_s") / (pl.col("output_tokens") - 1))
    itl = Percentiles.of(gaps_s.astype(np.float64))
    if tokens_per_chunk is not None and tokens_per_chunk > 1.05:
        notes.append(f"chunks hold {tokens_per_chunk:.2f} tokens: gaps between them are not ITLs; see TPOT")
    window = LoadWindow(
        start_s=start_s,
        end_s=end_s,
        output_tokens=tokens,
        output_tokens_per_s=tokens / (end_s - start_s),
        input_tokens=int(answered["input_tokens"].sum()),
        images=int(done["images"].sum()),
        in_flight=mean_in_flight(result, start_s, end_s),
        completed=len(done),
        failed=len(ended.filter(pl.col("error").is_not_null() & (pl.col("error") != ErrorKind.UNFINISHED))),
        ttft=Percentiles.of(answered["ttft_s"].to_numpy()),
        itl=itl,
        tpot=Percentiles.of(tpot.to_series().to_numpy()),
        latency=Percentiles.of(done["latency_s"].to_numpy()),
        tokens_per_chunk=tokens_per_chunk,
        client_cpu_share=client_cpu_share(result, start_s, end_s),
        notes=tuple(notes),
        reasons=(),
    )
    reasons = (*result.reasons, *saturation(result, window))
    lag = _lag(result, window)
    if lag is not None and 0.0 < lag.often <= LAG_OFTEN:
        notes.append(
            f"the load client lagged at times, by {lag.worst_s * 1e3:.0f} ms at most: TTFT and ITL p99 hold it"
        )
    return replace(window, reasons=reasons, notes=tuple(notes))


def mean_in_flight(result: LoadResult, start_s: float, end_s: float) -> float:
    """Return the mean number of requests in flight over a window."""
    begun_s = result.requests["start_s"].to_numpy()
    over_s = begun_s + result.requests["latency_s"].to_numpy()
    shared_s = np.minimum(over_s, end_s) - np.maximum(begun_s, start_s)
    return float(np.maximum(shared_s, 0.0).sum() / (end_s - start_s))


def client_cpu_share(result: LoadResult, start_s: float, end_s: float) -> float | None:
    """Return how many cores the client used over a window; ``None`` where it was too short to tell."""
    shares = list(_cpu_shares(result, start_s, end_s).values())
    return sum(shares) if shares else None


def _cpu_shares(result: LoadResult, start_s: float, end_s: float) -> dict[int, float]:
    inside = result.samples.filter(pl.col("time_s").is_between(start_s, end_s))
    spans = inside.group_by("worker").agg(
        (pl.col("cpu_s").last() - pl.col("cpu_s").first()).alias("used_s"),
        (pl.col("time_s").last() - pl.col("time_s").first()).alias("span_s"),
    )
    return {row["worker"]: row["used_s"] / row["span_s"] for row in spans.to_dicts() if row["span_s"] > 0}


def saturation(result: LoadResult, window: LoadWindow) -> tuple[str, ...]:
    """Return why the client itself, not the server, may have shaped the window; empty if it did not.

    A client that falls behind reads several chunks at once: its TTFT grows while its median gap shrinks. So
    the client's own processor time, the lag of its event loop and the delay of its requests are judged.
    """
    reasons = []
    for worker, share in sorted(_cpu_shares(result, window.start_s, window.end_s).items()):
        if share > BUSY_SHARE:
            reasons.append(f"load worker {worker} was saturated: it used {share:.0%} of a core; use more workers")
    lag = _lag(result, window)
    if lag is not None and lag.often > LAG_OFTEN:
        reasons.append(
            f"the load client lagged by {lag.p95_s * 1e3:.1f} ms (p95; {lag.allowed_s * 1e3:.1f} ms are allowed): "
            "its machine is too busy"
        )
    begun = result.requests.filter(
        pl.col("start_s").is_between(window.start_s, window.end_s) & pl.col("scheduled_s").is_not_null()
    )
    if len(begun):
        delay_s = float(np.percentile((begun["start_s"] - begun["scheduled_s"]).to_numpy(), 99))
        latency_s = window.latency.mean_s if window.latency is not None else 0.0
        if delay_s > max(LEAST_DELAY_S, DELAY_SHARE * latency_s):
            reasons.append(
                f"requests began {delay_s * 1e3:.0f} ms later than due (p99): the offered rate was not reached"
            )
    target = result.in_flight_target
    if target is not None and window.in_flight < FILL_SHARE * target:
        reasons.append(f"only {window.in_flight:.1f} of {target} requests were in flight on average")
    return tuple(reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lag:
    """How late the client's event loops woke up."""

    often: float
    """Share of the looks at which they were later than allowed."""
    p95_s: float
    worst_s: float
    allowed_s: float


def _lag(result: LoadResult, window: LoadWindow) -> _Lag | None:
    looks = result.samples.filter(pl.col("time_s").is_between(window.start_s, window.end_s))["lag_s"].to_numpy()
    if not looks.size:
        return None
    gap_s = window.itl.median_s if window.itl is not None else 0.0
    allowed_s = max(LEAST_LAG_S, LAG_SHARE * gap_s)
    return _Lag(
        often=float(np.mean(looks > allowed_s)),
        p95_s=float(np.percentile(looks, 95)),
        worst_s=float(looks.max()),
        allowed_s=allowed_s,
    )


def _tokens_per_chunk(requests: pl.DataFrame) -> tuple[Array, float | None, int]:
    """Return each request's tokens per chunk, the mean of those known, and how many are not known."""
    chunks = requests["chunks"].to_numpy().astype(np.float64)
    told = requests["output_tokens"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = np.isfinite(told) & (chunks > 0)
    mean = float(told[known].sum() / chunks[known].sum()) if known.any() else None
    weights = np.full(chunks.size, 1.0 if mean is None else mean)
    weights[known] = told[known] / chunks[known]
    finished = requests["error"].is_null().to_numpy()
    return weights, mean, int((~known & finished & (chunks > 0)).sum())
