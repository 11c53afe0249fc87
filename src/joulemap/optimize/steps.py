"""From the current configuration to another, one knob at a time, and what each turn does to the energy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from joulemap.diagnose.diagnosis import Change
from joulemap.diagnose.explain import explain_rows
from joulemap.diagnose.explanation import PRODUCT_TOLERANCE
from joulemap.errors import UsageError
from joulemap.optimize.candidates import Candidates
from joulemap.optimize.quantities import Z90
from joulemap.optimize.scope import SYSTEM_COLUMNS, WORK_COLUMNS
from joulemap.records import Basis

ENERGY = "energy_per_output_j"
KNOBS: Mapping[str, tuple[str, ...]] = {
    "precision": ("model_id", "nickname", "weight_precision"),
    "gpu_model": ("gpu_model",),
    "num_gpus": ("num_gpus",),
    "kv_cache_precision": ("kv_cache_precision",),
    "diffusion_work": ("inference_steps", "height_px", "width_px", "num_frames"),
    "batch": ("max_num_seqs", "batch_ceiling", "batch_size"),
}
"""Knobs in the order in which modelled steps turn them, and the columns that they set."""
_SET_WITH = (*SYSTEM_COLUMNS[6:12], "gpu_memory_utilization", "power_limit_w", "mean_output_tokens")
"""Columns that follow from the others (parallelism, lengths): they change with the first knob that is turned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One turn on the way from the current configuration to the recommended one."""

    knob: str
    cause: str
    """What was turned and what that does, with the values on both sides."""
    change: Change
    evidence: tuple[str, ...] = ()
    """Ids of the runs that the change was read from."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "knob": self.knob,
            "cause": self.cause,
            "change": self.change.to_json(),
            "evidence": list(self.evidence),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """All steps, with what they leave unexplained.

    Raises:
        ArithmeticError: Steps and rest do not multiply to the ratio of the energies.
    """

    energy_ratio: float
    """Energy per output at the end over that at the start."""
    steps: tuple[Step, ...]
    unexplained_ratio: float

    def __post_init__(self) -> None:
        product = math.prod(s.change.energy_ratio or 1.0 for s in self.steps) * self.unexplained_ratio
        if not math.isclose(product, self.energy_ratio, rel_tol=PRODUCT_TOLERANCE):
            msg = f"the steps multiply to {product!r}, not to {self.energy_ratio!r}"
            raise ArithmeticError(msg)


def way_between(found: Candidates, start: Mapping[str, Any], end: Mapping[str, Any]) -> Way:
    """Return the way from one candidate to another.

    Between two measured candidates it is read from measured runs (as ``joulemap explain`` does); otherwise every
    step is modelled, and what model and measurement disagree on is the unexplained rest.

    Args:
        found: Where the candidates come from.
        start: A row of the candidates.
        end: Another.
    """
    ratio = end[ENERGY] / start[ENERGY]
    if start["basis"] == end["basis"] == Basis.MEASURED:
        steps = tuple(_measured_steps(found, start, end))
    else:
        steps = tuple(_modelled_steps(found, start, end))
    product = math.prod(s.change.energy_ratio or 1.0 for s in steps)
    return Way(energy_ratio=ratio, steps=steps, unexplained_ratio=ratio / product)


def _measured_steps(found: Candidates, start: Mapping[str, Any], end: Mapping[str, Any]) -> Iterator[Step]:
    runs = found.measured.task_runs
    rows = [runs.row(by_predicate=pl.col("run_id") == row["run_ids"][0], named=True) for row in (end, start)]
    for factor in explain_rows(rows[0], rows[1], curves=found.curves, quantity=ENERGY).factors:
        change = Change(
            energy_ratio=factor.ratio,
            energy_ratio_min=factor.low,
            energy_ratio_max=factor.high,
            basis=factor.basis,
        )
        yield Step(knob=factor.name, cause=factor.cause, change=change, evidence=factor.evidence)


def _modelled_steps(found: Candidates, start: Mapping[str, Any], end: Mapping[str, Any]) -> Iterator[Step]:
    turned = [knob for knob, columns in KNOBS.items() if any(start[c] != end[c] for c in columns)]
    columns = ("base_model", *WORK_COLUMNS, *SYSTEM_COLUMNS, "max_num_seqs", "batch_ceiling", "batch_size")
    stops = [{c: start[c] for c in columns}]
    for position, knob in enumerate(turned):
        following = _SET_WITH if position == 0 else ()
        stops.append(stops[-1] | {c: end[c] for c in (*KNOBS[knob], *following)})
    table = pl.DataFrame(stops, schema={c: found.table.schema[c] for c in columns})
    try:
        said = found.model.predict(table).to_dicts()
    except UsageError:
        return
    for knob, (i, before) in zip(turned, enumerate(said), strict=False):
        yield Step(knob=knob, cause=_turned(knob, stops[i], stops[i + 1]), change=_change(before, said[i + 1]))


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """Return the change from one prediction to another; errors are taken as independent, which widens it."""
    ratio = after[ENERGY] / before[ENERGY]
    widths = [math.log(p[f"{ENERGY}_high"] / p[ENERGY]) / Z90 for p in (before, after)]
    spread = math.exp(Z90 * math.hypot(*widths))
    time = "itl_median_s" if after.get("itl_median_s") is not None else "latency_median_s"
    return Change(
        energy_ratio=ratio,
        energy_ratio_min=ratio / spread,
        energy_ratio_max=ratio * spread,
        latency_ratio=after[time] / before[time],
        throughput_ratio=after["output_throughput_per_s"] / before["output_throughput_per_s"],
        basis=Basis.MODELLED,
    )


def _turned(knob: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    column = {"precision": "weight_precision", "batch": "batch_ceiling"}.get(knob, knob)
    if knob == "diffusion_work":
        sides = [
            f"{r['inference_steps']} steps, {r['width_px']}×{r['height_px']} px, {r['num_frames'] or 1} frames"
            for r in (before, after)
        ]
    else:
        sides = [f"{r[column]:g}" if isinstance(r[column], float) else f"{r[column]}" for r in (before, after)]
    return f"{knob} from {sides[0]} to {sides[1]}"
