"""What findings share: words for ratios and neighbours, and how sure a change is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scipy.special import ndtr

from joulemap.diagnose.diagnosis import Change
from joulemap.diagnose.explain import gpus_of
from joulemap.records import Basis

Z90 = 1.645
MEASURED_CONFIDENCE = 0.9
"""Of a cause that measured neighbours show at the same batch."""
_WIDE = re.compile(r"^(?:b?f|bfloat|float|fp)(?:16|32)$|^half$", re.I)
REPEAT_SPREAD = 0.07
"""Relative standard deviation of a measured energy from node to node on the study's H100s; B200s repeat better."""


def is_wide(row: Mapping[str, Any]) -> bool:
    """Say whether a run's weights are known to have 16 bits or more.

    >>> is_wide({"weight_precision": "bfloat16"}), is_wide({"weight_precision": "fp8"})
    (True, False)
    """
    return bool(row["weight_precision"] and _WIDE.search(row["weight_precision"]))


def is_narrow(row: Mapping[str, Any]) -> bool:
    """Say whether a run's weights are known to have fewer than 16 bits.

    >>> is_narrow({"weight_precision": "int4-w4a16"}), is_narrow({"weight_precision": None})
    (True, False)
    """
    return bool(row["weight_precision"]) and not is_wide(row)


def percent(ratio: float) -> str:
    """Return a ratio as a change.

    >>> percent(0.8), percent(1.25)
    ('-20 %', '+25 %')
    """
    return f"{100.0 * (ratio - 1.0):+.0f} %"


def measured_change(now: Mapping[str, Any], then: Mapping[str, Any]) -> Change:
    """Return the change from one measured run to another."""
    spread = math.exp(Z90 * math.sqrt(2.0) * REPEAT_SPREAD)
    energy = then["energy_per_output_j"] / now["energy_per_output_j"]
    return Change(
        energy_ratio=energy,
        energy_ratio_min=energy / spread,
        energy_ratio_max=energy * spread,
        latency_ratio=_ratio(then, now, "itl_median_s") or _ratio(then, now, "latency_median_s"),
        throughput_ratio=_ratio(then, now, "output_throughput_per_s"),
        basis=Basis.MEASURED,
    )


def relief(gain: float, *, spread: float = 0.15) -> Change:
    """Return the change that relieving a limit is modelled to bring, from its gain."""
    width = math.exp(Z90 * spread * min(math.log(max(gain, 1.0)) + 0.05, 1.0))
    return Change(energy_ratio=1.0 / gain, energy_ratio_min=1.0 / gain / width, energy_ratio_max=width / gain)


def at_most(change: Change, gain: float) -> Change:
    """Return a modelled change of the batch that saves no more than measured neighbours allow.

    Args:
        change: The model's prediction.
        gain: Energy now over energy at twice the batch, measurements considered.
    """
    if change.energy_ratio is None or change.energy_ratio_min is None or change.energy_ratio_max is None:
        return change
    shift = max(1.0 / gain / change.energy_ratio, 1.0)
    return replace(
        change,
        energy_ratio=change.energy_ratio * shift,
        energy_ratio_min=change.energy_ratio_min * shift,
        energy_ratio_max=change.energy_ratio_max * shift,
    )


def confidence_of(change: Change) -> float:
    """Return the probability that a change saves energy, from its interval."""
    if change.energy_ratio is None or change.energy_ratio_min is None or change.energy_ratio_max is None:
        return 0.5
    spread = (math.log(change.energy_ratio_max) - math.log(change.energy_ratio_min)) / (2.0 * Z90)
    return float(ndtr(-math.log(change.energy_ratio) / max(spread, 1e-6)))


def weight_of(change: Change) -> float:
    """Return the energy at stake as a logarithm; 0 for a change that saves nothing."""
    return max(-math.log(change.energy_ratio), 0.0) if change.energy_ratio else 0.0


def described(row: Mapping[str, Any]) -> str:
    """Return a neighbour in words, with its energy and id."""
    batch = f"batch {row['batch_size']:.0f}" if row["batch_size"] else "batch unknown"
    energy = f"{row['energy_per_output_j']:.3g} J/{row['output_unit']}"
    system = [gpus_of(row), row["weight_precision"] or "precision unknown", batch]
    run = f" [{row['run_id']}]" if row["run_id"] else ""
    return f"{', '.join(system)}: {energy}{run}"


def _ratio(then: Mapping[str, Any], now: Mapping[str, Any], quantity: str) -> float | None:
    return then[quantity] / now[quantity] if then[quantity] and now[quantity] else None
