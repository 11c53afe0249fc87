"""What a load saw: one row a request, the gaps between chunks, and how the client itself fared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.measure.load.failure import ErrorKind
from joulemap.measure.load.ledger import NO_COUNT, Progress, Rows, WorkerResult

LONGEST_WALL_STEP_S = 1.0
"""A larger step of the wall clock during a load puts its alignment with other records in doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """How one worker process ended."""

    worker: int
    peak_rss_bytes: int
    ending: str = ""
    """Why it ended before its time; empty if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """The outcome of a load. Times are monotonic seconds; ``wall_offset_s`` turns them into Unix time."""

    requests: pl.DataFrame
    """One row a request, in the order in which they ended.

    ``request_id``, ``worker``; ``scheduled_s`` (null in a closed loop), ``start_s`` (when it was sent),
    ``start_time`` (UTC), ``connect_s``, ``ttft_s`` (first content), ``latency_s`` (end of the reply),
    ``input_tokens`` and ``output_tokens`` (the server's own count; null where it told none), ``images``,
    ``chunks`` (with content), ``decode_s`` (first to last content), ``http_status``, ``retried``, ``error``
    (an ``ErrorKind``; null for success) and ``error_detail``.
    """
    gaps_s: NDArray[np.float32]
    """Gaps between content chunks: ``chunks − 1`` of each request, in the order of ``requests``."""
    samples: pl.DataFrame
    """The states of every worker over time: ``worker`` and the fields of ``Progress``."""
    workers: tuple[WorkerReport, ...]
    started_s: float
    stopped_s: float
    """When no more requests were begun."""
    wall_offset_s: float
    in_flight_target: int | None
    """Requests that the client tried to keep in flight; ``None`` in an open loop."""
    reasons: tuple[str, ...] = ()
    """Why the load as a whole cannot be believed; empty if nothing speaks against it."""

    @property
    def failures(self) -> dict[str, int]:
        """Failed requests by kind; unfinished ones are not among them."""
        failed = self.requests.filter(pl.col("error").is_not_null() & (pl.col("error") != ErrorKind.UNFINISHED))
        counts = failed.group_by("error").len().sort("len", "error", descending=[True, False])
        return dict(counts.iter_rows())


def assemble(
    rows: Sequence[Rows],
    samples: Sequence[Sequence[Progress]],
    results: Sequence[WorkerResult | None],
    *,
    in_flight_target: int | None,
    endings: Sequence[str],
) -> LoadResult:
    """Merge what the workers delivered.

    Args:
        rows: Each worker's requests, those of ``results`` included.
        samples: Each worker's states.
        results: Each worker's last message; ``None`` for one that died.
        in_flight_target: Of the plan.
        endings: For each worker why it ended before its time; empty if it did not.

    Raises:
        ValueError: No worker delivered a result.
    """
    whole = [result for result in results if result is not None]
    if not whole:
        msg = "no worker delivered a result"
        raise ValueError(msg)
    offset_s = whole[0].wall_offset_s
    frame = pl.concat([_frame(part, worker, offset_s) for worker, part in enumerate(rows)])
    steps_s = max((result.wall_step_s for result in whole), key=abs)
    reasons = [ending for ending in endings if ending]
    if abs(steps_s) > LONGEST_WALL_STEP_S:
        reasons.append(f"the wall clock stepped by {steps_s:+.1f} s during the load")
    gaps = [np.frombuffer(part.gaps_s, np.float32) for part in rows if part.gaps_s]
    return LoadResult(
        requests=frame,
        gaps_s=gaps[0] if len(gaps) == 1 else np.concatenate([np.zeros(0, np.float32), *gaps]),
        samples=_samples(samples),
        workers=tuple(
            WorkerReport(
                worker=worker, peak_rss_bytes=result.peak_rss_bytes if result else 0, ending=endings[worker]
            )
            for worker, result in enumerate(results)
        ),
        started_s=min(result.started_s for result in whole),
        stopped_s=max(result.stopped_s for result in whole),
        wall_offset_s=offset_s,
        in_flight_target=in_flight_target,
        reasons=tuple(reasons),
    )


def _frame(rows: Rows, worker: int, wall_offset_s: float) -> pl.DataFrame:
    # Whole columns, not Polars' expressions: for so little, their engine would take 20 MB of memory.
    columns = rows.columns
    errors = [rows.errors.get(row, (None, None)) for row in range(len(rows))]
    start_us = ((np.array(columns["start_s"]) + wall_offset_s) * 1e6).astype(np.int64)
    series: dict[str, pl.Series] = {
        **{name: pl.Series(np.array(column)) for name, column in columns.items()},
        **{name: pl.Series(np.array(columns[name]), nan_to_null=True) for name in ("scheduled_s", "ttft_s")},
        **{
            name: pl.Series([None if count == NO_COUNT else count for count in columns[name]], dtype=pl.Int64)
            for name in ("input_tokens", "output_tokens")
        },
        "retried": pl.Series(np.array(columns["retried"]).astype(bool)),
        "worker": pl.Series(np.full(len(rows), worker, np.int64)),
        "start_time": pl.Series(start_us).cast(pl.Datetime("us", "UTC")),
        "error": pl.Series([kind for kind, _ in errors], dtype=pl.String),
        "error_detail": pl.Series([detail for _, detail in errors], dtype=pl.String),
    }
    return pl.DataFrame(series)


def _samples(samples: Sequence[Sequence[Progress]]) -> pl.DataFrame:
    schema = {
        field.name: pl.Int64 if field.type is int else pl.Float64 for field in msgspec.structs.fields(Progress)
    }
    frames = [
        pl.DataFrame(
            [msgspec.structs.astuple(state) for state in states], schema=schema, orient="row"
        ).with_columns(pl.lit(worker, pl.Int64).alias("worker"))
        for worker, states in enumerate(samples)
    ]
    return pl.concat(frames)
