"""What is left of a ratio after the knobs: settings that are no knob, and GPUs that waited.

Two runs of one configuration may differ in the length of prompts and replies, in the precision of the KV cache, or
in how long GPUs waited for their host or for requests. The model says what such a difference costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import load_catalog
from joulemap.diagnose.attribution import divided, modelled_logs, shapley, subsets
from joulemap.diagnose.completed import completed
from joulemap.diagnose.explanation import Factor
from joulemap.diagnose.hosts import with_hosts_as_seen
from joulemap.diagnose.ledger import measurement_of, static_power, times_of
from joulemap.diagnose.modelled import modelled_forms
from joulemap.predict.predict import shipped_calibration
from joulemap.records import Basis
from joulemap.store.schema import COLUMNS, DEPLOYMENT_COLUMNS, WORKLOAD_COLUMNS

SETTINGS = {
    "prompt_length": (
        "mean_input_tokens",
        "prompts of {:,.0f} tokens against {:,.0f}, read once for each reply",
    ),
    "context": (
        "mean_output_tokens",
        "replies of {:,.0f} tokens against {:,.0f}: context for each token",
    ),
    "kv_cache_precision": ("kv_cache_precision", "a KV cache in {} against {}"),
}
"""Factor, the column that it is read from, and words for both values."""
SAME = 1.02
"""Two lengths differ if their ratio is larger."""
WORTH = 1.05
"""A ratio that is left over is looked into from here on, and a factor of waiting is told."""
MUCH_WAITED = 0.3
"""Difference of the shares of time spent waiting from which a note says so."""
MOST_WAITING = 0.95

Row = Mapping[str, Any]


def residual_factors(a: Row, b: Row, left: float, quantity: str) -> Iterator[Factor]:
    """Yield factors of what the knobs leave over.

    Args:
        a: The run to explain.
        b: The run to compare with.
        left: What the factors of the knobs leave of the ratio.
        quantity: The column compared, per output.
    """
    if 1.0 / WORTH < left < WORTH:
        return
    for factor in _setting_factors(a, b, left, quantity):
        left /= factor.ratio
        yield factor
    if quantity == "energy_per_output_j" and not 1.0 / WORTH < left < WORTH:
        yield from _waiting_factor(a, b, left)


def waiting_notes(a: Row, b: Row) -> Iterator[str]:
    """Yield a note where one run's GPUs waited much longer than the other's."""
    waited = _waited(a, b)
    if waited is None:
        return
    (time_a, _), (time_b, _) = waited
    if abs(time_a - time_b) > MUCH_WAITED:
        yield (
            f"by the model, A's GPUs waited {time_a:.0%} of the time and B's {time_b:.0%}: part of what is laid to "
            "the knobs may be the host's"
        )


def differing_settings(a: Row, b: Row) -> list[str]:
    """Return the settings in which two runs of one task differ."""
    if a["task"] != b["task"]:
        return []
    return [name for name, (column, _) in SETTINGS.items() if _differ(a[column], b[column])]


def _differ(a: object, b: object) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a > 0 and b > 0 and not 1.0 / SAME < a / b < SAME
    return isinstance(a, str) and isinstance(b, str) and a != b


def _setting_factors(a: Row, b: Row, left: float, quantity: str) -> Iterator[Factor]:
    names = differing_settings(a, b)
    if not names or not a["batch_size"]:
        return
    rows = [_with_settings(a, b, turned, names) for turned in subsets(names)]
    modelled = modelled_logs(rows, quantity)
    if modelled is None:
        return
    logs, deviation = modelled
    effects = shapley(names, dict(zip(subsets(names), logs.tolist(), strict=True)))
    for part in divided(effects, left, deviation).contributions:
        column, words = SETTINGS[part.knob]
        yield Factor(
            name=part.knob,
            cause=words.format(a[column], b[column]) + " (by the model)",
            ratio=part.ratio,
            basis=Basis.MODELLED,
            evidence=(a["run_id"], b["run_id"]),
            low=part.low,
            high=part.high,
        )


def _with_settings(a: Row, b: Row, turned: frozenset[str], names: Sequence[str]) -> dict[str, Any]:
    """Return A's configuration with B's value of every setting that is not turned."""
    row = {c: a[c] for c in (*WORKLOAD_COLUMNS, *DEPLOYMENT_COLUMNS)} | {"batch_size": a["batch_size"]}
    others = (SETTINGS[name][0] for name in names if name not in turned)
    return row | {column: b[column] for column in others}


def _waiting_factor(a: Row, b: Row, left: float) -> Iterator[Factor]:
    waited = _waited(a, b)
    if waited is None:
        return
    (time_a, share_a), (time_b, share_b) = waited
    effect = math.log1p(-share_b) - math.log1p(-share_a)
    if effect * math.log(left) <= 0 or abs(effect) < math.log(WORTH):
        return
    yield Factor(
        name="waiting",
        cause=f"GPUs waited {time_a:.0%} of the time against {time_b:.0%}, at static power: the host, or demand, "
        "left them without work",
        ratio=math.exp(math.copysign(min(abs(effect), abs(math.log(left))), effect)),
        basis=Basis.MODELLED,
        evidence=(a["run_id"], b["run_id"]),
    )


def _waited(a: Row, b: Row) -> list[tuple[float, float]] | None:
    """Return the shares of time and energy that each run's GPUs spent waiting; ``None`` where nothing tells."""
    catalog, calibration = load_catalog(), shipped_calibration()
    told = completed(pl.DataFrame([a, b], schema=COLUMNS, strict=False), catalog)
    frame = with_hosts_as_seen(told, calibration=calibration, catalog=catalog)
    forms = modelled_forms(frame, calibration=calibration, catalog=catalog)
    if len(forms) != 1 or len(forms[0]) != frame.height:
        return None
    measured, terms = measurement_of(frame), forms[0].terms
    waited_s = times_of(terms, measured).starved_s
    time = waited_s / measured.step_s
    energy = static_power(terms, measured) * waited_s / measured.outputs_per_step / measured.energy_j
    if not np.all(np.isfinite(time) & np.isfinite(energy)):
        return None
    return list(zip(time.tolist(), np.clip(energy, 0.0, MOST_WAITING).tolist(), strict=True))
