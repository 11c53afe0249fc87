"""Batch curves: what was measured of runs that differ in their batch only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from joulemap.diagnose.explain import gpus_of
from joulemap.diagnose.series import Series

QUANTITIES = ("energy_per_output_j", "output_throughput_per_s", "itl_median_s", "latency_median_s", "power_w")
"""What is shown along the batch, as far as it was measured."""
_SHOWN = ("run_id", "batch_ceiling", "batch_size", *QUANTITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One batch curve, by rising achieved batch."""

    label: str
    """What tells it from the other curves."""
    output_unit: str
    rows: tuple[Mapping[str, Any], ...]
    """``run_id``, ``batch_ceiling``, ``batch_size`` and ``QUANTITIES`` of each run."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"label": self.label, "output_unit": self.output_unit, "runs": [dict(row) for row in self.rows]}


def curves_of(series: Iterable[Series]) -> tuple[Curve, ...]:
    """Return batch curves, each labelled by what it does not share with all others."""
    found = list(series)
    described = [_description(s.rows[0]) for s in found]
    shared = set.intersection(*map(set, described)) if len(described) > 1 else set()
    curves = []
    for one, parts in zip(found, described, strict=True):
        own = [part for part in parts if part not in shared] or parts
        rows = tuple({name: row[name] for name in _SHOWN} for row in one.rows)
        curves.append(Curve(label=", ".join(own), output_unit=str(one.rows[0]["output_unit"]), rows=rows))
    return tuple(curves)


def shared_words(series: Iterable[Series]) -> str:
    """Return what all curves have in common, in words."""
    described = [_description(s.rows[0]) for s in series]
    if not described:
        return ""
    return " · ".join(part for part in described[0] if all(part in parts for parts in described))


def _description(row: Mapping[str, Any]) -> list[str]:
    """Return what a series' runs share, in words."""
    parallel = {"TP": "tensor_parallel", "EP": "expert_parallel", "DP": "data_parallel"}
    words = [row["nickname"] or row["model_id"], row["task"] or "unnamed task", gpus_of(row)]
    words += [row["weight_precision"]] if row["weight_precision"] else []
    words += [f"{short}{row[name]}" for short, name in parallel.items() if (row[name] or 1) > 1]
    words += [f"{row['engine']} {row['engine_version'] or ''}".strip()] if row["engine"] else []
    return words
