"""Numbers and quantities as people read them; the digits follow what is known."""

from __future__ import annotations

import re

from joulemap.records import Quantity
from joulemap.units import BYTES_PER_GB, BYTES_PER_MB


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with ``digits`` significant digits and thousands separators; ``–`` for ``None``.

    >>> figure(1234.5), figure(0.012345), figure(None)
    ('1,234', '0.0123', '–')
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def joules(value_j: float) -> str:
    """Return an energy with its unit, short enough for the end of a bar.

    >>> joules(0.312), joules(1_212_629.0)
    ('0.312 J', '1.21 MJ')
    """
    for size, unit in ((1e6, "MJ"), (1e4, "kJ")):
        if value_j >= size:
            return f"{figure(value_j / (1e6 if unit == 'MJ' else 1e3))} {unit}"
    return f"{figure(value_j)} J"


def span(low: float | None, high: float | None) -> str:
    """Return an interval; ``–`` where none is known.

    >>> span(1.0, 2.5), span(None, None)
    ('1–2.5', '–')
    """
    return "–" if low is None or high is None else f"{figure(low)}–{figure(high)}"


def times(ratio: float) -> str:
    """Return a ratio with the digits that can be told apart.

    >>> times(23.17), times(1.42), times(0.831)
    ('23x', '1.4x', '0.83x')
    """
    return f"{ratio:.1f}x" if 9.95 > ratio >= 1.0 else f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.2f}x"


def change(ratio: float | None) -> str:
    """Return a ratio as a change in percent.

    >>> change(0.8), change(1.25), change(None)
    ('-20 %', '+25 %', '–')
    """
    return "–" if ratio is None else f"{100.0 * (ratio - 1.0):+.0f} %"


def quantity_cells(quantity: Quantity) -> tuple[str, str, str, str]:
    """Return value, unit, 90 % interval and basis of a quantity, as cells of a table.

    Many bytes are told in GB; a share that no digit would show is 0.

    >>> from joulemap.records import Basis
    >>> quantity_cells(Quantity(value=7.9e10, low=7.2e10, high=8.8e10, unit="B/GPU", basis=Basis.MODELLED))
    ('79', 'GB/GPU', '72–88', 'modelled')
    """
    scale, unit = _scale(quantity)
    value, low, high = (
        None if x is None else 0.0 if quantity.unit == "1" and abs(x) < _LEAST_SHARE else x / scale
        for x in (quantity.value, quantity.low, quantity.high)
    )
    return figure(value), "" if unit == "1" else unit, span(low, high), quantity.basis.value


def _scale(quantity: Quantity) -> tuple[float, str]:
    unit = quantity.unit
    if unit.startswith("B") and quantity.value >= BYTES_PER_MB:
        return BYTES_PER_GB, f"G{unit}"
    return 1.0, unit


_LEAST_SHARE = 5e-5
"""Of one."""


def plain(name: str) -> str:
    """Return the name of a quantity, part or factor in words.

    >>> plain("kv_traffic")
    'KV traffic'
    """
    words = name.replace("_", " ").replace("-", " ")
    return " ".join(_SPELLED.get(word, word) for word in words.split())


def sentence(words: str) -> str:
    """Return words with a capital first letter, and all others as they are.

    >>> sentence("median ITL")
    'Median ITL'
    """
    return words[:1].upper() + words[1:]


def quantity_words(name: str) -> str:
    """Return the name of a quantity in words, without its unit.

    >>> quantity_words("output_throughput_per_s"), quantity_words("itl_median_s")
    ('output throughput', 'median ITL')
    """
    words = plain(_UNIT.sub("", name)).split()
    if len(words) > 1 and words[-1] in ("median", "mean", "p90", "p95", "p99"):
        words = [words[-1], *words[:-1]]
    return " ".join(words)


_UNIT = re.compile(r"(_per_s|_j|_w|_s|_bytes|_c)$")
_SPELLED = {"kv": "KV", "gpu": "GPU", "gpus": "GPUs", "num": "number of", "sm": "SM", "itl": "ITL", "ttft": "TTFT"}
