r"""Power limit: a lower clock at lower voltage; advice only, joulemap never sets one.

With relative clock f, the time of clocked work (arithmetic, launches) grows as 1/f, that of memory and links does
not, and the energy of one clocked operation falls as f^v:

    t(f) = m + (1 − m) / f,   E(f) = E_s · t(f) + E_m + E_c · f^v,   P(f) = E(f) / t(f)

m is the share of time that the clock does not set; E_s static, E_m memory's and links', E_c clocked work's energy
at full clock, all from the calibrated model; v = 1 lies between a voltage that does not fall (v = 0) and one that
falls with the clock (v = 2).

Valid above the voltage's floor, taken as f ≥ 0.5. Reference: dynamic power C·V²·f, Weste and Harris 2010, CMOS VLSI
Design, section 5.2; the exponent is assumed, not calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import load_catalog
from joulemap.diagnose.diagnosis import Change
from joulemap.physics.arrays import Floats
from joulemap.predict.predict import decompose
from joulemap.records import Basis

NAME = "power_limit"
COSTS = "clocked work takes longer, so latency rises and throughput falls; only its owner should set a GPU's limit"
EVIDENCE = "an assumed law of voltage and clock on the calibrated model's parts of time and energy; no run shows it"

SHARES = (0.7,)
"""Limits to look at, as shares of TDP."""
EXPONENTS = (1.0, 2.0, 0.0)
"""Central, low-energy and high-energy exponent of the energy of an operation."""
CLOCKS = np.linspace(1.0, 0.5, 101)
_UNCLOCKED = frozenset({"weights", "kv", "communication", "starved"})
_STATIC = frozenset({"static", "starved"})


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether the row's GPU runs at its full limit."""
    return not row["power_limit_w"]


def options(frame: pl.DataFrame) -> pl.DataFrame:
    """Return every uncapped row at each share of its GPU's TDP."""
    catalog = load_catalog()
    uncapped = frame.filter(pl.col("power_limit_w").is_null())
    tdp = pl.Series("tdp", [float(catalog.gpu(name).tdp_w) for name in uncapped["gpu_model"]], dtype=pl.Float64)
    return pl.concat([uncapped.with_columns((tdp * share).alias("power_limit_w")) for share in SHARES])


def change(frame: pl.DataFrame) -> list[Change | None]:
    """Return what the limit of each row of :func:`options` does; ``None`` where it does not bind."""
    if frame.is_empty():
        return []
    parts = decompose(frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("power_limit_w")))
    rows = zip(parts.iter_rows(named=True), frame["power_limit_w"] * frame["num_gpus"], strict=True)
    return [_change(row, float(limit_w)) for row, limit_w in rows]


def _change(row: Mapping[str, Any], limit_w: float) -> Change | None:
    known = {n: v for n, v in row.items() if v is not None}  # of two forms, each lacks the other's parts
    times = {n[len("step_") : -len("_s")]: v for n, v in known.items() if n.startswith("step_")}
    energies = {n[len("energy_") : -len("_j")]: v for n, v in known.items() if _is_part(n)}
    unclocked = sum(v for n, v in times.items() if n in _UNCLOCKED) / sum(times.values())
    found = [_at_limit(energies, unclocked, limit_w, float(row["power_w"]), v) for v in EXPONENTS]
    if found[0] is None or found[1] is None or found[2] is None:
        return None
    energy, slower = found[0]
    ends = sorted(f[0] for f in found if f is not None)
    return Change(
        energy_ratio=energy,
        energy_ratio_min=ends[0],
        energy_ratio_max=ends[-1],
        latency_ratio=slower,
        throughput_ratio=1.0 / slower,
        basis=Basis.ASSUMED,
    )


def _is_part(name: str) -> bool:
    return name.startswith("energy_") and name.endswith("_j") and not name.startswith("energy_per_")


def _at_limit(
    energies: Mapping[str, float], unclocked: float, limit_w: float, power_w: float, exponent: float
) -> tuple[float, float] | None:
    """Return energy and time, relative to no limit, at the highest clock within the limit."""
    total = sum(energies.values())
    static = sum(v for n, v in energies.items() if n in _STATIC) / total
    moved = sum(v for n, v in energies.items() if n in _UNCLOCKED - _STATIC) / total
    time: Floats = np.asarray(unclocked + (1.0 - unclocked) / CLOCKS)
    energy = static * time + moved + (1.0 - static - moved) * CLOCKS**exponent
    within = np.flatnonzero(power_w * energy / time <= limit_w)
    if within.size == 0 or within[0] == 0:
        return None
    return float(energy[within[0]]), float(time[within[0]])
