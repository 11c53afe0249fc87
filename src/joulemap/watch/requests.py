"""A finished request as a gateway or client logs it: one JSON object a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from joulemap.units import S_PER_MS

LONGEST_NAME = 64
"""Characters of a tenant's, route's or model's name; longer ones are cut."""
LONGEST_TOKENS = 1e9
"""A request with more tokens than this is a mistake."""
LONGEST_S = 86_400.0
MS = 1e11
"""Unix times above this are milliseconds: seconds reach it in the year 5138."""

PROMPT_NAMES = ("prompt_tokens", "input_tokens", "gen_ai.usage.input_tokens")
OUTPUT_NAMES = ("output_tokens", "completion_tokens", "gen_ai.usage.output_tokens")
CACHED_NAMES = ("cached_tokens", "cached_input_tokens", "gen_ai.usage.cache_read.input_tokens")
"""Names of the counts, also looked for in ``usage`` and its ``prompt_tokens_details``."""
BEGIN_NAMES = ("start", "start_time", "startTime")
FIRST_NAMES = ("first_token", "completionStartTime")
END_NAMES = ("end", "end_time", "endTime")


class Account(NamedTuple):
    """Who pays: what a line says of itself, made printable and cut."""

    tenant: str = ""
    route: str = ""
    model: str = ""


OTHER = Account(tenant="(other)", route="(other)", model="(other)")
"""Where accounts beyond the limit are billed together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFields:
    """Which field of a line names what; a dot steps into an object."""

    tenant: str = "tenant"
    route: str = "route"
    model: str = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRequest:
    """One finished request; times are seconds since 1970."""

    account: Account
    begin_unix_s: float
    first_unix_s: float
    """First token; the begin where the line does not tell."""
    end_unix_s: float
    prompt_tokens: float
    prefill_tokens: float
    """Prompt tokens that were not found in the prefix cache, as far as the line tells."""
    output_tokens: float


class LineError(ValueError):
    """A line that is no finished request; the text says why, in a few fixed words."""


_DECODER = msgspec.json.Decoder()


def request_of(line: bytes, fields: AccountFields) -> ServedRequest:
    """Return the request of a line.

    Raises:
        LineError: It is none.
    """
    try:
        told = _DECODER.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        reason = "no JSON"
        raise LineError(reason) from error
    if not isinstance(told, dict):
        reason = "no JSON object"
        raise LineError(reason)
    usage = told.get("usage")
    counts = {**told, **usage} if isinstance(usage, dict) else told
    details = counts.get("prompt_tokens_details")
    cached = _count({**counts, **details} if isinstance(details, dict) else counts, CACHED_NAMES)
    prompt, output = _count(counts, PROMPT_NAMES), _count(counts, OUTPUT_NAMES)
    if prompt is None and output is None:
        reason = "no token counts"
        raise LineError(reason)
    begin_s, first_s, end_s = _times(told)
    prompt = prompt or 0.0
    return ServedRequest(
        account=Account(*(printable(_at(told, path)) for path in (fields.tenant, fields.route, fields.model))),
        begin_unix_s=begin_s,
        first_unix_s=first_s,
        end_unix_s=end_s,
        prompt_tokens=prompt,
        prefill_tokens=max(0.0, prompt - (cached or 0.0)),
        output_tokens=output or 0.0,
    )


def printable(value: Any) -> str:
    r"""Return an untrusted value as a short text without control characters.

    >>> printable("team\x1b[31m red")
    'team?[31m red'
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    cut = text[:LONGEST_NAME] + ("…" if len(text) > LONGEST_NAME else "")
    return "".join(c if c.isprintable() else "?" for c in cut)


def _at(told: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path; a field whose own name holds the dots comes first."""
    if path in told:
        value = told[path]
    else:
        value = told
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, str | int | float | bool) else None


def _count(told: Mapping[str, Any], names: Sequence[str]) -> float | None:
    for name in names:
        value = told.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not 0 <= value <= LONGEST_TOKENS:
                reason = "impossible token count"
                raise LineError(reason)
            return float(value)
    return None


def _times(told: Mapping[str, Any]) -> tuple[float, float, float]:
    begin_s, first_s, end_s = (_moment(told, names) for names in (BEGIN_NAMES, FIRST_NAMES, END_NAMES))
    duration_s = _seconds(told, "duration_s")
    if begin_s is None and end_s is not None and duration_s is not None:
        begin_s = end_s - duration_s
    if end_s is None and begin_s is not None and duration_s is not None:
        end_s = begin_s + duration_s
    if begin_s is None or end_s is None:
        reason = "no begin or end"
        raise LineError(reason)
    if not 0 <= end_s - begin_s <= LONGEST_S:
        reason = "impossible times"
        raise LineError(reason)
    if first_s is None:
        ttft_s = _seconds(told, "ttft_s")
        first_s = begin_s if ttft_s is None else begin_s + ttft_s
    return begin_s, min(max(first_s, begin_s), end_s), end_s


def _seconds(told: Mapping[str, Any], name: str) -> float | None:
    value = told.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value >= 0 else None


def _moment(told: Mapping[str, Any], names: Sequence[str]) -> float | None:
    """Return a moment given as seconds or milliseconds since 1970, or in ISO 8601 (UTC where no zone is told)."""
    for name in names:
        value = told.get(name)
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError as error:
                reason = "no begin or end"
                raise LineError(reason) from error
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value) * S_PER_MS if value > MS else float(value)
    return None
