"""A snapshot as one plain line, for logs and pipes."""

from __future__ import annotations

from joulemap.cli.output import figure
from joulemap.records import Basis, Quantity
from joulemap.watch.snapshot import Snapshot


def line_of(snapshot: Snapshot) -> str:
    """Return a snapshot as one line; what is not known is a dash, and a source that is down is named."""
    now = snapshot.now
    parts = [
        snapshot.at.strftime("%H:%M:%S"),
        f"{told(now.energy_per_output)} J/token",
        f"{told(now.power)} W",
        f"{figure(now.output_throughput_per_s)} token/s",
        f"batch {figure(now.batch_size)}",
    ]
    if now.kv_cache_utilization is not None:
        parts.append(f"KV cache {now.kv_cache_utilization:.0%}")
    if now.starved_power is not None:
        parts.append(f"starved {told(now.starved_power)} W")
    if now.idle:
        parts.append("idle")
    elif now.bound_by is not None:
        parts.append(f"bound by {now.bound_by.value}")
    parts += [f"{name.upper()} DOWN: {state.reason}" for name, state in snapshot.sources.items() if not state.up]
    return " · ".join(parts)


def told(quantity: Quantity | None) -> str:
    """Return a quantity with its basis where that is not measured."""
    if quantity is None:
        return figure(None)
    mark = "" if quantity.basis is Basis.MEASURED else f" ({quantity.basis})"
    return f"{figure(quantity.value)}{mark}"
