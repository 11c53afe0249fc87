"""What one knob does at the same batch, and what it does by the batch that it allows; from measured runs alone.

The study's rule: at the same batch more GPUs cost energy and buy latency, unless they unlock a batch that pays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from joulemap.optimize.levers.precision import BITS
from joulemap.optimize.quantities import latency_of

UNLOCKS = 1.05
"""A larger batch counts as unlocked where it saves more than 5 %: less is within what measurements repeat to."""
_SHARED = ("base_model", "gpu_model", "num_gpus", "weight_precision", "inference_steps", "height_px", "num_frames")


@dataclass(frozen=True, slots=True, kw_only=True)
class SameBatch:
    """Two series that differ in one knob."""

    knob: str
    """``num_gpus`` or ``weight_precision``."""
    gpu_model: str
    fewer: str
    """The side compared with, for example ``"1 GPU"``, or the wider precision."""
    more: str
    batches: tuple[float, ...]
    """Batch ceilings that were measured on both sides."""
    energy_ratios: tuple[float, ...]
    """Energy per output of ``more`` over ``fewer`` at each of these batches."""
    energy_ratio: float | None
    """Their geometric mean; ``None`` where no batch was measured on both sides."""
    latency_ratio: float | None
    """Geometric mean of the ratio of median ITL (for diffusion, of batch latency)."""
    fewer_largest_batch: float
    more_largest_batch: float
    fewer_best_j_per_output: float
    more_best_j_per_output: float
    best_energy_ratio: float
    """Least energy per output of ``more`` over that of ``fewer``, each at its own best batch."""
    pays_from_batch: float | None
    """Smallest common batch from which ``more`` costs less at every common batch; ``None`` for none."""
    verdict: str
    run_ids: tuple[str, ...]
    """The runs of both sides' least energy."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "knob": self.knob,
            "gpu_model": self.gpu_model,
            "fewer": self.fewer,
            "more": self.more,
            "batches": list(self.batches),
            "energy_ratios": list(self.energy_ratios),
            "energy_ratio": self.energy_ratio,
            "latency_ratio": self.latency_ratio,
            "fewer_largest_batch": self.fewer_largest_batch,
            "more_largest_batch": self.more_largest_batch,
            "fewer_best_j_per_output": self.fewer_best_j_per_output,
            "more_best_j_per_output": self.more_best_j_per_output,
            "best_energy_ratio": self.best_energy_ratio,
            "pays_from_batch": self.pays_from_batch,
            "basis": "measured",
            "verdict": self.verdict,
            "run_ids": list(self.run_ids),
        }


def same_batch(table: pl.DataFrame) -> tuple[SameBatch, ...]:
    """Return the comparisons that measured candidates allow: GPU counts in steps, then narrower precisions.

    Args:
        table: Candidates (``CANDIDATE_COLUMNS``); only measured ones are read.
    """
    measured = table.filter(pl.col("basis") == "measured")
    return (*_pairs(measured, "num_gpus"), *_pairs(measured, "weight_precision"))


def _pairs(measured: pl.DataFrame, knob: str) -> Iterator[SameBatch]:
    keys = [c for c in _SHARED if c != knob]
    for group in measured.partition_by(keys, maintain_order=True):
        found = group[knob].drop_nulls().unique().to_list()
        values = sorted(found) if knob == "num_gpus" else sorted(found, key=lambda name: -BITS.get(name, 0))
        for fewer, more in pairwise(values):
            yield _compared(knob, *(_lowest(group.filter(pl.col(knob) == value)) for value in (fewer, more)))


def _lowest(series: pl.DataFrame) -> pl.DataFrame:
    """Return one row a batch: of several parallelisms the one of least energy."""
    return series.sort("energy_per_output_j").unique("batch_ceiling", keep="first").sort("batch_ceiling")


def _compared(knob: str, fewer: pl.DataFrame, more: pl.DataFrame) -> SameBatch:
    common = fewer.join(more, on="batch_ceiling", how="inner", suffix="_more", maintain_order="left")
    energies = (common["energy_per_output_j_more"] / common["energy_per_output_j"]).to_list()
    quantity = "itl_median_s" if fewer["output_unit"][0] == "token" else latency_of(fewer["output_unit"][0])
    latencies = (common[f"{quantity}_more"] / common[quantity]).drop_nulls().to_list()
    best = [side.sort("energy_per_output_j").row(0, named=True) for side in (fewer, more)]
    own = best[1]["energy_per_output_j"] / best[0]["energy_per_output_j"]
    energy, latency = _mean_ratio(energies), _mean_ratio(latencies)
    batches = common["batch_ceiling"].to_list()
    labels = [_label(knob, b) for b in best]
    return SameBatch(
        knob=knob,
        gpu_model=best[0]["gpu_model"],
        fewer=labels[0] if knob == "num_gpus" else f"{labels[0]} on {best[0]['num_gpus']}",
        more=labels[1] if knob == "num_gpus" else f"{labels[1]} on {best[1]['num_gpus']}",
        batches=tuple(batches),
        energy_ratios=tuple(energies),
        energy_ratio=energy,
        latency_ratio=latency,
        fewer_largest_batch=float(fewer["batch_ceiling"].to_numpy().max()),
        more_largest_batch=float(more["batch_ceiling"].to_numpy().max()),
        fewer_best_j_per_output=best[0]["energy_per_output_j"],
        more_best_j_per_output=best[1]["energy_per_output_j"],
        best_energy_ratio=own,
        pays_from_batch=_pays_from(batches, energies),
        verdict=_verdict(knob, energy, latency, own, best),
        run_ids=tuple(b["run_ids"][0] for b in best),
    )


def _label(knob: str, row: Mapping[str, Any]) -> str:
    if knob == "num_gpus":
        precision = row["weight_precision"]
        return f"{row['num_gpus']} GPU{'s' if row['num_gpus'] > 1 else ''} ({precision})"
    return str(row["weight_precision"])


def _mean_ratio(ratios: Sequence[float]) -> float | None:
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else None


def _pays_from(batches: Sequence[float], ratios: Sequence[float]) -> float | None:
    found = None
    for batch, ratio in reversed(list(zip(batches, ratios, strict=True))):
        if ratio >= 1.0:
            break
        found = batch
    return found


def _verdict(
    knob: str, energy: float | None, latency: float | None, own: float, best: Sequence[Mapping[str, Any]]
) -> str:
    larger = best[1]["batch_ceiling"] > best[0]["batch_ceiling"]
    if own * UNLOCKS < 1.0:
        saved = f"{100 * (1 - own):.0f} % less at its own best"
        how = f"unlocks batch {best[1]['batch_ceiling']:g}" if larger else "costs less"
        return f"{how}: {saved}"
    if energy is not None and energy > 1.0 and latency is not None and latency < 1.0:
        return "trades energy for latency"
    if energy is not None and energy > 1.0:
        return "costs energy and buys no latency" if knob == "num_gpus" else "costs energy at these batches"
    return "no clear gain"
