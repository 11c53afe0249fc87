"""What each of several knobs that changed together contributes, by the model: Shapley values.

Between two measured configurations that differ in several knobs, the model can be asked for every configuration
between them. A knob's contribution is the mean, over all orders of turning the knobs, of the change of the
logarithm that turning it brings. It does not depend on an order, and the contributions sum to the model's whole
change (Shapley 1953). They are then fitted to what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import load_catalog
from joulemap.diagnose.modelled import Modelled, energy_per_output, modelled_forms
from joulemap.diagnose.path import Step, Stop
from joulemap.diagnose.series import PARALLELISM, WORK_EXPONENT, with_series_columns
from joulemap.errors import JoulemapError
from joulemap.physics.arrays import Floats
from joulemap.predict.language import LanguageTerms
from joulemap.predict.predict import shipped_calibration
from joulemap.predict.prepare import prepare
from joulemap.store.schema import COLUMNS, DEPLOYMENT_COLUMNS, WORKLOAD_COLUMNS

Z90 = 1.645
OWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "model": ("model_id", "nickname", "total_params_billions", "activated_params_billions"),
    "precision": ("weight_precision",),
    "gpu_model": ("gpu_model", "power_limit_w"),
    "num_gpus": ("num_gpus",),
    "parallelism": (),
    "batch": ("batch_size", "max_num_seqs"),
}
"""Columns that turn with each knob; those of work and parallelism turn with the first knob that sets them."""
SETS_WORK = ("task", "model")
SETS_PARALLELISM = ("num_gpus", "parallelism", "model", "precision", "gpu_model")
UNMODELLED = frozenset({"engine"})
"""Knobs of which the model knows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """A knob's part in a step."""

    knob: str
    ratio: float
    low: float
    """Lower end of the 90 % interval."""
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """A step divided among its knobs; the contributions times the rest are the measured ratio."""

    contributions: tuple[Contribution, ...]
    unexplained_ratio: float
    modelled_ratio: float
    """What the model alone says of the whole step."""


def attribute(step: Step, ratio: float, quantity: str) -> Attribution | None:
    """Divide a step in which several knobs changed among them.

    The model's contributions are stretched so that they multiply to the measured ratio, each in proportion to its
    own size, as far as the model's 90 % interval reaches; what lies beyond stays unexplained.

    Args:
        step: A step of several knobs.
        ratio: Its measured (or interpolated) ratio.
        quantity: The column compared.

    Returns:
        ``None`` where the model cannot tell: an engine among the knobs, a model or GPU that it does not know, or a
        quantity that it does not give.
    """
    knobs = step.knobs
    if UNMODELLED & set(knobs):
        return None
    rows = [_between(step, turned) for turned in subsets(knobs)]
    modelled = modelled_logs(rows, quantity)
    if modelled is None:
        return None
    logs, deviation = modelled
    effects = shapley(knobs, dict(zip(subsets(knobs), logs.tolist(), strict=True)))
    return divided(effects, ratio, deviation)


def divided(effects: Mapping[str, float], ratio: float, deviation: float) -> Attribution:
    """Fit modelled effects to a measured ratio, each stretched in proportion to its size.

    Args:
        effects: Logarithms by knob.
        ratio: What was measured.
        deviation: Standard deviation (logarithm) of the model's error; effects are stretched no further than its
            90 % interval, and the rest stays unexplained.
    """
    whole = math.fsum(effects.values())
    reach = Z90 * math.sqrt(2.0) * deviation
    missing = math.log(ratio) - whole
    placed = max(-reach, min(reach, missing))
    size = math.fsum(abs(e) for e in effects.values())
    shares = {k: abs(e) / size if size > 0 else 1.0 / len(effects) for k, e in effects.items()}
    fitted = {k: e + placed * shares[k] for k, e in effects.items()}
    return Attribution(
        contributions=tuple(
            Contribution(knob=k, ratio=math.exp(x), low=math.exp(x - reach), high=math.exp(x + reach))
            for k, x in fitted.items()
        ),
        unexplained_ratio=ratio / math.exp(math.fsum(fitted.values())),
        modelled_ratio=math.exp(whole),
    )


def subsets(knobs: Sequence[str]) -> list[frozenset[str]]:
    """Return every choice of knobs, the fewest first."""
    return [frozenset(chosen) for count in range(len(knobs) + 1) for chosen in combinations(knobs, count)]


def shapley(knobs: Sequence[str], values: Mapping[frozenset[str], float]) -> dict[str, float]:
    """Return each knob's mean effect over all orders, from the values of all subsets."""
    count = len(knobs)
    effects = {}
    for knob in knobs:
        others = [s for s in values if knob not in s]
        effects[knob] = math.fsum(
            (values[s | {knob}] - values[s]) / (count * math.comb(count - 1, len(s))) for s in others
        )
    return effects


def _between(step: Step, turned: frozenset[str]) -> dict[str, Any]:
    """Return the configuration in which some knobs of a step are turned and the others not."""
    before, after = _representative(step.before), _representative(step.after)
    row = dict(before)
    for knob in turned:
        row |= {column: after[column] for column in OWN_COLUMNS.get(knob, ())}
    for columns, setters in ((_WORK, SETS_WORK), (PARALLELISM, SETS_PARALLELISM)):
        setter = next((k for k in setters if k in step.knobs), None)
        if setter in turned:
            row |= {column: after[column] for column in columns}
    return row


_WORK = tuple(c for c in WORKLOAD_COLUMNS if c not in {"max_concurrency", "request_rate_per_s"})


def _representative(stop: Stop) -> dict[str, Any]:
    """Return the run of a stop's curve nearest to its batch, at that batch."""
    rows = [r for r in stop.series.rows if r["batch_size"]] or list(stop.series.rows)
    batch = stop.batch or 1.0
    nearest = min(rows, key=lambda r: abs(math.log((r["batch_size"] or batch) / batch)))
    ceiling = None if stop.ceiling is None else round(stop.ceiling)
    stated = {c: nearest[c] for c in (*WORKLOAD_COLUMNS, *DEPLOYMENT_COLUMNS)}
    return stated | {"batch_size": stop.batch, "max_num_seqs": ceiling}


def modelled_logs(rows: Sequence[Mapping[str, Any]], quantity: str) -> tuple[Floats, float] | None:
    """Return the model's logarithms of a quantity per unit of work, and the deviation of its error."""
    catalog, calibration = load_catalog(), shipped_calibration()
    frame = pl.DataFrame(rows, schema={c: COLUMNS[c] for c in rows[0]}, strict=False)
    try:
        prepared = prepare(frame, catalog)
    except JoulemapError:
        return None
    forms = modelled_forms(prepared.frame, calibration=calibration, catalog=catalog, models=prepared.models)
    if len(forms) != 1 or len(forms[0]) != len(rows):
        return None
    form = forms[0]
    values = _value(form, quantity)
    if values is None or not np.all(np.isfinite(values) & (values > 0)):
        return None
    work = with_series_columns(prepared.frame)["work"].to_numpy()
    name = "output_throughput_per_s" if quantity == "latency_median_s" else quantity
    return np.log(values) - WORK_EXPONENT.get(quantity, 0) * np.log(work), float(form.deviation(name).max())


def _value(form: Modelled, quantity: str) -> Floats | None:
    terms = form.terms
    if quantity == "energy_per_output_j":
        return energy_per_output(terms)
    if quantity in {"power_w", "output_throughput_per_s"}:
        return np.asarray(getattr(terms, quantity), dtype=np.float64)
    if quantity == "itl_median_s" and isinstance(terms, LanguageTerms):
        return terms.itl_median_s
    if quantity == "latency_median_s" and not isinstance(terms, LanguageTerms):
        return terms.latency_s
    return None
