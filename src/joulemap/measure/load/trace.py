"""Request traces: when requests came, and how long they and their replies were."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from joulemap.errors import ImportFileError
from joulemap.measure.load.lengths import ListedLengths
from joulemap.measure.load.plan import Replay
from joulemap.measure.load.prompts import SyntheticPrompts

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
"""Columns of the Azure LLM inference traces (Azure Public Dataset, 2023)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTrace:
    """A recorded trace, in order of arrival."""

    offsets_s: tuple[float, ...]
    """Arrival after the first request."""
    input_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]

    def replay(self, *, speed: float = 1.0) -> Replay:
        """Return the trace's arrivals."""
        return Replay(offsets_s=self.offsets_s, speed=speed)

    def prompts(self) -> SyntheticPrompts:
        """Return synthetic prompts of the trace's lengths, request by request."""
        return SyntheticPrompts(
            input_tokens=ListedLengths(self.input_tokens), output_tokens=ListedLengths(self.output_tokens)
        )


def read_trace(path: Path, *, limit: int | None = None) -> RequestTrace:
    """Read a trace in the Azure CSV form.

    Args:
        path: CSV file with ``TIMESTAMP``, ``ContextTokens`` and ``GeneratedTokens``.
        limit: Requests to read at most.

    Raises:
        ImportFileError: The file is not such a trace.
    """
    rows: list[tuple[datetime, int, int]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames is None or not set(COLUMNS) <= set(reader.fieldnames):
                reason = f"a trace has the columns {', '.join(COLUMNS)}, not {reader.fieldnames}"
                raise ImportFileError(str(path), None, reason)
            for row in reader:
                if limit is not None and len(rows) >= limit:
                    break
                rows.append(_row(row, str(path), reader.line_num))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImportFileError(str(path), None, f"cannot be read: {error}") from error
    if not rows:
        raise ImportFileError(str(path), None, "holds no request")
    rows.sort(key=lambda row: row[0])
    first = rows[0][0]
    return RequestTrace(
        offsets_s=tuple((at - first).total_seconds() for at, _, _ in rows),
        input_tokens=tuple(tokens for _, tokens, _ in rows),
        output_tokens=tuple(tokens for _, _, tokens in rows),
    )


def _row(row: dict[str, str], path: str, line: int) -> tuple[datetime, int, int]:
    stamp, context, generated = (row[name] for name in COLUMNS)
    try:
        # The trace has seven decimals of a second, one more than Python reads.
        whole, _, fraction = stamp.partition(".")
        at = datetime.fromisoformat(f"{whole}.{fraction[:6].ljust(6, '0')}")
        return at, int(context), int(generated)
    except (TypeError, ValueError) as error:
        raise ImportFileError(path, f"line {line}", f"{stamp!r}, {context!r}, {generated!r}: {error}") from error
