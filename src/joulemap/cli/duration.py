"""Durations as users write them: ``50ms``, ``30s``, ``2min``."""

from __future__ import annotations

import math
import re

from joulemap.errors import UsageError
from joulemap.units import S_PER_MINUTE, S_PER_MS, S_PER_US

_SECONDS_PER_UNIT = {"us": S_PER_US, "µs": S_PER_US, "ms": S_PER_MS, "s": 1.0, "min": S_PER_MINUTE}
_DURATION = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zµ]+)\s*")


def seconds(text: str, option: str) -> float:
    """Return a duration in seconds.

    >>> seconds("50ms", "--itl-limit")
    0.05

    Args:
        text: A positive number with its unit: us, ms, s or min.
        option: The option that it was given to, for the message.

    Raises:
        UsageError: The text is no such duration.
    """
    found = _DURATION.fullmatch(text)
    value = math.nan
    if found and found[2] in _SECONDS_PER_UNIT and found[1].count(".") <= 1 and found[1] != ".":
        value = float(found[1]) * _SECONDS_PER_UNIT[found[2]]
    if not 0 < value < math.inf:
        msg = f"{option} {text!r} is not a duration"
        raise UsageError(msg, fix="a positive number with its unit (us, ms, s, min), for example 50ms")
    return value
