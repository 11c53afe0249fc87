"""Why does A cost more energy than B? From measured runs; from the model where none lie between."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from joulemap.diagnose.attribution import Attribution, attribute
from joulemap.diagnose.causes import cause_of
from joulemap.diagnose.explanation import Explanation, Factor
from joulemap.diagnose.path import Step, Stop, find_path
from joulemap.diagnose.residual import residual_factors, waiting_notes
from joulemap.diagnose.series import WORK_EXPONENT, Curves, with_series_columns
from joulemap.errors import UsageError
from joulemap.records import Basis, OutputUnit, weakest
from joulemap.records.run import unit_of
from joulemap.store.run_store import RunStore, open_store
from joulemap.store.schema import COLUMNS
from joulemap.store.selector import find_run

QUANTITIES = (
    "energy_per_request_j",
    "energy_per_output_j",
    "power_w",
    "itl_median_s",
    "latency_median_s",
    "output_throughput_per_s",
)
"""What can be explained; the first that both runs have is the default."""

_Z90 = 1.645
NOTEWORTHY = 1.02
"""Unexplained ratio from which a note says where it comes from."""
_WORK_COLUMNS = {
    "steps": ("inference_steps", "denoising steps"),
    "pixels": ("pixels", "pixels per frame"),
    "frames": ("num_frames", "frames"),
}
"""What multiplies the work of a diffusion pipeline: name of the factor, column, words."""


def explain(
    a: str | Mapping[str, Any],
    b: str | Mapping[str, Any],
    *,
    store: RunStore | None = None,
    quantity: str | None = None,
    measured_only: bool = False,
) -> Explanation:
    """Explain why run ``a`` has a multiple of run ``b``'s energy.

    The ratio is split into output length (or, for diffusion, steps, pixels and frames) and then, at equal
    output, into one factor for each knob that differs, read off configurations that were measured. Where knobs
    changed together and nothing between was measured, the model divides their common factor among them.

    Args:
        a: A run id, a selector, or a row of the run table.
        b: Likewise.
        store: The run store; the default one if ``None``.
        quantity: One of ``QUANTITIES``; by default energy per response.
        measured_only: Leave knobs that changed together one factor, and let no model take part.

    Raises:
        UsageError: The quantity is unknown, or one of the runs does not have it.
        SelectorError: A selector matches no run, or several.
    """
    runs = store if store is not None else open_store()
    row_a, row_b = (find_run(runs, reference) if isinstance(reference, str) else reference for reference in (a, b))
    curves = Curves(runs.non_empty_frame())
    return explain_rows(row_a, row_b, curves=curves, quantity=quantity, measured_only=measured_only)


def explain_rows(
    row_a: Mapping[str, Any],
    row_b: Mapping[str, Any],
    *,
    curves: Curves,
    quantity: str | None = None,
    measured_only: bool = False,
) -> Explanation:
    """Explain two rows of the run table; see :func:`explain`."""
    pair = pl.DataFrame([row_a, row_b], schema=COLUMNS, strict=False)
    a, b = with_series_columns(pair).iter_rows(named=True)
    chosen = _choose_quantity(a, b, quantity)
    ratio = a[chosen] / b[chosen]
    tokens = [row["output_unit"] == OutputUnit.TOKEN for row in (a, b)]
    factors = list(_work_factors(a, b, chosen)) if tokens[0] == tokens[1] else []
    curve_quantity = "energy_per_output_j" if chosen == "energy_per_request_j" else chosen
    if tokens[0] == tokens[1]:
        factors += _knob_factors(curves, a, b, curve_quantity, measured_only=measured_only)
        if not measured_only:
            left = ratio / math.prod(f.ratio for f in factors)
            factors += residual_factors(row_a, row_b, left, curve_quantity)
    else:
        factors.append(_other_output(a, b, ratio))
    explained = math.prod(f.ratio for f in factors)
    return Explanation(
        a=a["run_id"],
        b=b["run_id"],
        a_label=label(a),
        b_label=label(b),
        quantity=chosen,
        unit=unit_of(chosen, a["output_unit"]),
        a_value=a[chosen],
        b_value=b[chosen],
        ratio=ratio,
        factors=tuple(factors),
        unexplained_ratio=ratio / explained,
        notes=(
            *_notes(a, b),
            *_waiting_notes(row_a, row_b, factors),
            *_unexplained_notes(ratio / explained, factors),
        ),
    )


def label(row: Mapping[str, Any]) -> str:
    """Return a run's configuration in words, for example ``Qwen 3 32B · gpqa · 1x B200 · batch 128``."""
    asked = [row[name] for name in ("max_num_seqs", "max_concurrency") if row[name] is not None]
    ceiling = min(asked) if row["max_num_seqs"] is not None else row["batch_size"]
    batch = f"batch {ceiling:g}" if ceiling is not None else "batch unknown"
    return " · ".join([row["nickname"] or row["model_id"], row["task"] or "unnamed task", gpus_of(row), batch])


def gpus_of(row: Mapping[str, Any]) -> str:
    """Return a run's GPUs in words, for example ``1x B200``."""
    if row["num_gpus"] is None and row["gpu_model"] is None:
        return "no GPU stated"
    return f"{row['num_gpus'] or '?'}x {row['gpu_model'] or 'unknown GPU'}"


def _choose_quantity(a: Mapping[str, Any], b: Mapping[str, Any], wanted: str | None) -> str:
    if wanted is not None and wanted not in QUANTITIES:
        msg = f"cannot explain {wanted!r}"
        raise UsageError(msg, fix="quantities are " + ", ".join(QUANTITIES))
    for quantity in QUANTITIES if wanted is None else (wanted,):
        if (a[quantity] or 0) > 0 and (b[quantity] or 0) > 0:
            return quantity
    lacking = next((r["run_id"] for r in (a, b) if not (r[wanted or QUANTITIES[1]] or 0) > 0), a["run_id"])
    msg = f"the runs {a['run_id']} and {b['run_id']} have no {wanted or 'energy'} in common that could be compared"
    raise UsageError(msg, fix=f"'joulemap show {lacking}' says what was measured, and why not more")


def _work_factors(a: Mapping[str, Any], b: Mapping[str, Any], quantity: str) -> Iterator[Factor]:
    """Yield what multiplies the work per response: output tokens, or steps, pixels and frames."""
    evidence = (a["run_id"], b["run_id"])
    tokens = (a["mean_output_tokens"], b["mean_output_tokens"])
    if quantity == "energy_per_request_j" and all(tokens):
        ratio = tokens[0] / tokens[1]
        cause = f"{_times(ratio)} output tokens per response: {tokens[0]:,.0f} against {tokens[1]:,.0f}"
        yield Factor(name="output_tokens", cause=cause, ratio=ratio, basis=Basis.MEASURED, evidence=evidence)
    exponent = WORK_EXPONENT.get("energy_per_output_j" if quantity == "energy_per_request_j" else quantity, 0)
    if not exponent:
        return
    for name, (column, words) in _WORK_COLUMNS.items():
        values = [row[column] or 1 for row in (a, b)]  # an image is one frame
        if values[0] == values[1]:
            continue
        ratio = (values[0] / values[1]) ** exponent
        cause = f"{_times(ratio)} {words}: {values[0]:,} against {values[1]:,}"
        yield Factor(name=name, cause=cause, ratio=ratio, basis=Basis.MEASURED, evidence=evidence)


def _knob_factors(
    curves: Curves, a: Mapping[str, Any], b: Mapping[str, Any], quantity: str, *, measured_only: bool
) -> list[Factor]:
    """Return one factor a knob where the path or the model tells them apart, in causal order."""
    factors: list[tuple[int, Factor]] = []
    for step in find_path(curves, a, b, quantity):
        ratio = step.after.value.value / step.before.value.value
        divided = None if measured_only or len(step.knobs) == 1 else attribute(step, ratio, quantity)
        if divided is not None:
            factors += _modelled_factors(step, a, b, divided)
            continue
        low, high = _interval(curves, step, quantity, ratio)
        factors.append(
            (
                _ORDER[step.knobs[0]],
                Factor(
                    name="_and_".join(_FACTOR_NAMES[k] for k in step.knobs),
                    cause=cause_of(step, a, b, ratio),
                    ratio=ratio,
                    basis=weakest(step.before.value.basis, step.after.value.basis),
                    evidence=tuple(dict.fromkeys((*step.after.value.run_ids, *step.before.value.run_ids))),
                    low=low,
                    high=high,
                    parts=_parts(step, ratio, quantity),
                ),
            )
        )
    return [factor for _, factor in sorted(factors, key=lambda pair: pair[0])]


def _modelled_factors(
    step: Step, a: Mapping[str, Any], b: Mapping[str, Any], divided: Attribution
) -> list[tuple[int, Factor]]:
    """Return the factors of a step's knobs as the model divides it."""
    together = " and ".join(_FACTOR_NAMES[k] for k in step.knobs)
    evidence = tuple(dict.fromkeys((*step.after.value.run_ids, *step.before.value.run_ids)))
    return [
        (
            _ORDER[part.knob],
            Factor(
                name=_FACTOR_NAMES[part.knob],
                cause=f"{cause_of(step, a, b, part.ratio, part.knob)} (by the model: {together} changed together, "
                "and nothing between was measured)",
                ratio=part.ratio,
                basis=Basis.MODELLED,
                evidence=evidence,
                low=part.low,
                high=part.high,
            ),
        )
        for part in divided.contributions
    ]


_FACTOR_NAMES = {
    "task": "task_at_same_batch",
    "model": "model",
    "precision": "precision",
    "gpu_model": "gpu_generation",
    "num_gpus": "gpu_count",
    "parallelism": "parallelism",
    "engine": "engine",
    "batch": "batch",
}
_ORDER = {knob: position for position, knob in enumerate(_FACTOR_NAMES)}


def _interval(curves: Curves, step: Step, quantity: str, ratio: float) -> tuple[float | None, float | None]:
    repeated, interpolation_error = curves.errors(quantity)
    if repeated is None:
        return None, None
    one_measurement, _pairs = repeated
    variance = 2 * one_measurement**2
    for stop in (step.before, step.after):
        if stop.value.basis is Basis.INTERPOLATED:
            variance += (interpolation_error or 0.0) ** 2
    spread = math.exp(_Z90 * math.sqrt(variance))
    return ratio / spread, ratio * spread


def _parts(step: Step, ratio: float, quantity: str) -> dict[str, float]:
    """Split an energy ratio into power and time per output, read at the same stops."""
    if quantity != "energy_per_output_j":
        return {}
    before, after = (_at(stop, "power_w") for stop in (step.before, step.after))
    if before is None or after is None:
        return {}
    power = after / before
    return {"power": power, "time_per_output": ratio / power}


def _at(stop: Stop, quantity: str) -> float | None:
    point = stop.series.at(quantity, stop.ceiling, stop.batch) if stop.batch else None
    return None if point is None else point.value


def _other_output(a: Mapping[str, Any], b: Mapping[str, Any], ratio: float) -> Factor:
    """Return the one factor between responses of different kinds, such as a reply and a video."""
    kinds = [_RESPONSES[row["output_unit"]] for row in (a, b)]
    cause = f"{kinds[0]} against {kinds[1]}: another kind of work, which no shared knob connects"
    return Factor(
        name="task",
        cause=cause,
        ratio=ratio,
        basis=Basis.MEASURED,
        evidence=(a["run_id"], b["run_id"]),
    )


_RESPONSES = {"token": "a text reply", "image": "an image", "video": "a video"}


def _notes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    for name, row in (("A", a), ("B", b)):
        if not row["valid"]:
            reasons = "; ".join(row["validity_reasons"] or ["no reason given"])
            yield f"{name} ({row['run_id']}) is marked invalid: {reasons}"
    if not a["batch_size"] or not b["batch_size"]:
        yield "the achieved batch of one run is unknown, so that nothing could be compared at the same batch"


def _waiting_notes(a: Mapping[str, Any], b: Mapping[str, Any], factors: Sequence[Factor]) -> Iterator[str]:
    """Yield a note of waiting that the factors of knobs may hold."""
    laid_to_knobs = any(f.name in _FACTOR_NAMES.values() for f in factors)
    if laid_to_knobs and all(f.name != "waiting" for f in factors):
        yield from waiting_notes(a, b)


def _unexplained_notes(unexplained: float, factors: Sequence[Factor]) -> Iterator[str]:
    if 1 / NOTEWORTHY < unexplained < NOTEWORTHY:
        return
    if any(f.basis is Basis.MODELLED for f in factors):
        yield f"{_times(unexplained)} of the ratio lies beyond what the model's 90 % interval allows the factors"
    else:
        yield f"{_times(unexplained)} of the ratio is left: nothing that the runs state tells why"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:.0f}x"
