"""The table's rows, and how joulemap's own stands against its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.load_clients.observe import Observed

HEADER = (
    "| client | k tokens/s | TTFT mean / p50 / p99 ms | gap mean / p50 / p99 ms | CPU ms per 1,000 tokens "
    "| MB streaming (as a table) | sent: TTFT mean, gap p99 ms | its own verdict |\n"
    "|---|---|---|---|---|---|---|---|"
)
MS = 1e3
LEAST_TOKENS_PER_S = 45_000.0
TTFT_OFF = 0.01
GAP_OFF_S = 0.0015
MOST_CPU_MS = 10.0
MOST_MB = 100.0
UNDISTORTED_TOKENS_PER_S = 90_000.0
"""At 2,048 streams, of 95,700 that are offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of one client."""

    name: str
    seen: Observed
    ttft_s: tuple[float, ...]
    """Mean, median and 99th percentile, as the client tells them."""
    gap_s: tuple[float, ...]
    mean_gaps: bool
    sent_ttft_s: float
    """What the server says of its own sends."""
    sent_gap_p99_s: float
    table_mb: float | None
    """Peak of the client's main process once the results are a table; joulemap's only."""
    in_flight: float | None
    own_verdict: tuple[str, ...]

    def __str__(self) -> str:
        """Return the row in Markdown."""
        ttft, gap = (" / ".join(f"{value * MS:.1f}" for value in values) for values in (self.ttft_s, self.gap_s))
        of = " (means of requests)" if self.mean_gaps else ""
        as_table = "" if self.table_mb is None else f" ({self.table_mb:.0f})"
        return (
            f"| {self.name} | {self.seen.tokens_per_s / 1e3:.1f} | {ttft} | {gap}{of} "
            f"| {self.seen.cpu_ms_per_1000_tokens:.1f} | {self.seen.peak_rss_mb:.0f}{as_table} "
            f"| {self.sent_ttft_s * MS:.1f}, {self.sent_gap_p99_s * MS:.1f} | {'; '.join(self.own_verdict)} |"
        )


def bars(rows: Mapping[str, Row], more: Mapping[str, Row]) -> str:
    """Return joulemap's limits and what it reached, in Markdown, as far as it was run.

    Args:
        rows: The table at 1,024 streams.
        more: That at 2,048.
    """
    lines = ["| limit | reached | |", "|---|---|---|"]

    def line(limit: str, reached: str, *, kept: bool) -> None:
        lines.append(f"| {limit} | {reached} | {'kept' if kept else 'MISSED'} |")

    if (ours := rows.get("joulemap")) is not None:
        seen = ours.seen
        line("≥ 45,000 tokens/s", f"{seen.tokens_per_s:,.0f}", kept=seen.tokens_per_s >= LEAST_TOKENS_PER_S)
        _truth(line, ours)
        cpu_ms = seen.cpu_ms_per_1000_tokens
        bare = rows.get("bare")
        beside = "" if bare is None else f"; {cpu_ms / bare.seen.cpu_ms_per_1000_tokens:.2f} × the bare client's"
        line("≤ 10 ms of CPU per 1,000 tokens", f"{cpu_ms:.1f}{beside}", kept=cpu_ms <= MOST_CPU_MS)
        mb = max(seen.peak_rss_mb, ours.table_mb or 0.0)
        line("≤ 100 MB", f"{seen.peak_rss_mb:.0f}, {ours.table_mb or 0:.0f} as a table", kept=mb <= MOST_MB)
    if (ours := more.get("joulemap")) is not None:
        speed = ours.seen.tokens_per_s
        line("undistorted at 2,048 streams", f"{speed:,.0f} tokens/s", kept=speed >= UNDISTORTED_TOKENS_PER_S)
        _truth(line, ours)
        line("… and calls itself valid", "; ".join(ours.own_verdict) or "valid", kept=not ours.own_verdict)
    return "\n".join(lines)


def _truth(line: Callable[..., None], ours: Row) -> None:
    off = ours.ttft_s[0] / ours.sent_ttft_s - 1.0
    line("mean TTFT within 1 % of what was sent", f"{off:+.1%}", kept=abs(off) <= TTFT_OFF)
    off_s = ours.gap_s[2] - ours.sent_gap_p99_s
    line("p99 of the gaps within 1.5 ms of what was sent", f"{off_s * MS:+.1f} ms", kept=abs(off_s) <= GAP_OFF_S)
