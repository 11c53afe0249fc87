"""Sensitivity: by how many percent energy, latency and throughput change with one percent more of something.

Each elasticity is the slope, in logarithms, of the calibrated model between 5 % less and 5 % more of one quantity,
everything else held: a setting, a figure of the hardware, or a dimension of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

import numpy as np

from joulemap.diagnose.diagnosis import Bound
from joulemap.diagnose.modelled import LIMITS, Modelled, Terms, energy_per_output
from joulemap.errors import UsageError
from joulemap.physics.arrays import Floats
from joulemap.predict.forms import FormRows
from joulemap.predict.language import LanguageTerms
from joulemap.predict.language_rows import LanguageRows
from joulemap.records import Basis

STEP = 1.05
"""Factor up and down: small enough for a slope, large enough to see past rounding of experts and tiles."""
LAYERED = (
    *("layers", "attention_layers", "recurrent_layers", "dense_layers", "moe_layers", "shared_layers"),
    *("mixer_params", "mlp_params", "mixer_bytes", "mlp_bytes", "state_bytes"),
    *("full_kv_heads", "windowed_kv_heads", "latent_kv", "full_width", "windowed_width", "latent_width"),
)
"""Fields of a language model's shape that grow with its number of layers."""


class Kind(StrEnum):
    """Who can change a quantity."""

    SETTING = "setting"
    """Whoever runs the service."""
    HARDWARE = "hardware"
    """Whoever buys or builds the machine."""
    STACK = "stack"
    """Whoever writes the engine or tunes the host."""
    MODEL = "model"
    """Whoever designs the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elasticity:
    """Percent of change for one percent more of a quantity; intervals are 90 %."""

    name: str
    kind: Kind
    energy_elasticity: float
    low: float
    """Lower end of the interval of ``energy_elasticity``, from the calibration's uncertainty."""
    high: float
    latency_elasticity: float
    """Of the inter-token latency; for diffusion, of the batch's latency."""
    throughput_elasticity: float
    basis: Basis = Basis.MODELLED

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


Change = Callable[[Modelled, float], tuple[FormRows, Floats]]
"""Returns the rows and the vector of coefficients with a quantity times a factor."""


def sensitivity(modelled: Modelled) -> tuple[Elasticity, ...]:
    """Return the elasticities of one run or configuration, the largest effect on energy first.

    Args:
        modelled: The run as the model sees it (:func:`joulemap.diagnose.modelled.modelled_forms`), one row.

    Raises:
        UsageError: There are several rows.
    """
    if len(modelled) != 1:
        msg = f"a sensitivity is of one configuration, not of {len(modelled)}"
        raise UsageError(msg)
    drawn = _drawn_vectors(modelled)
    found = []
    for name, (kind, change) in _changes(modelled).items():
        slopes = [_slopes(modelled, change, shift) for shift in (np.zeros_like(drawn[0]), *drawn)]
        energy, latency, throughput = slopes[0]
        if max(abs(energy), abs(latency), abs(throughput)) < SMALLEST:
            continue
        low, high = np.quantile([s[0] for s in slopes[1:]], [0.05, 0.95])
        found.append(
            Elasticity(
                name=name,
                kind=kind,
                energy_elasticity=energy,
                low=min(float(low), energy),
                high=max(float(high), energy),
                latency_elasticity=latency,
                throughput_elasticity=throughput,
            )
        )
    return tuple(sorted(found, key=lambda e: -abs(e.energy_elasticity)))


SMALLEST = 5e-4
"""Elasticities below this on all three are left out: nothing depends on them."""


def _drawn_vectors(modelled: Modelled) -> list[Floats]:
    """Return shifts of the vector, drawn from the calibration's covariance."""
    random = np.random.default_rng(7)
    values, vectors = np.linalg.eigh(modelled.calibration.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return [root @ random.standard_normal(len(values)) for _ in range(32)]


def _slopes(modelled: Modelled, change: Change, shift: Floats) -> tuple[float, float, float]:
    ends = []
    for factor in (1.0 / STEP, STEP):
        rows, vector = change(modelled, factor)
        ends.append(_outcomes(rows.terms(vector + shift)))
    less, more = ends
    energy, latency, throughput = (
        (np.log(m) - np.log(x)) / (2.0 * np.log(STEP)) for x, m in zip(less, more, strict=True)
    )
    return float(energy), float(latency), float(throughput)


def _outcomes(terms: Terms) -> tuple[float, float, float]:
    latency = terms.itl_median_s if isinstance(terms, LanguageTerms) else terms.latency_s
    return float(energy_per_output(terms)[0]), float(latency[0]), float(terms.output_throughput_per_s[0])


def _changes(modelled: Modelled) -> Mapping[str, tuple[Kind, Change]]:
    changes: dict[str, tuple[Kind, Change]] = {
        "batch": (
            Kind.SETTING,
            lambda m, f: (m.with_batch(np.asarray(m.rows.rows.batch) * f), m.calibration.vector),
        ),
        "memory_bandwidth": (Kind.HARDWARE, _of_gpu("bandwidth")),
        "peak_flops": (Kind.HARDWARE, _of_gpu("peak", "peak_fp8")),
        "link_bandwidth": (Kind.HARDWARE, _of_gpu("link")),
        "static_watts": (Kind.HARDWARE, _of_coefficients(("power_static",))),
        "launch_overhead": (Kind.STACK, _of_coefficients(tuple(LIMITS[modelled.form][Bound.LAUNCH_OVERHEAD]))),
    }
    if isinstance(modelled.rows.rows, LanguageRows):
        changes |= {
            "output_tokens": (Kind.SETTING, _of_rows("output_tokens")),
            "input_tokens": (Kind.SETTING, _input_tokens),
            "kv_cache_bytes_per_number": (Kind.SETTING, _of_rows("kv_bytes")),
            "memory_capacity": (Kind.HARDWARE, _capacity),
            "host_time": (Kind.STACK, _of_coefficients(tuple(LIMITS["language"][Bound.HOST]))),
            "layers": (Kind.MODEL, _layers),
            "kv_heads": (Kind.MODEL, _of_shape("full_kv_heads", "windowed_kv_heads")),
            "experts": (Kind.MODEL, _experts),
            "experts_per_token": (Kind.MODEL, _of_shape("experts_per_token")),
            "vocabulary": (Kind.MODEL, _of_shape("vocab_size", "head_params", "head_bytes")),
        }
    else:
        changes |= {
            "denoising_steps": (Kind.SETTING, _of_rows("steps")),
            "latent_tokens": (Kind.SETTING, _latent_tokens),
        }
    return changes


def _with_rows(modelled: Modelled, **values: Any) -> tuple[FormRows, Floats]:
    rows = replace(modelled.rows.rows, **values)
    return replace(modelled.rows, rows=rows), modelled.calibration.vector


def _of_rows(name: str) -> Change:
    return lambda m, f: _with_rows(m, **{name: getattr(m.rows.rows, name) * f})


def _of_gpu(*names: str) -> Change:
    return lambda m, f: _with_rows(m, gpu={n: v * (f if n in names else 1.0) for n, v in m.rows.rows.gpu.items()})


def _of_shape(*names: str) -> Change:
    def change(modelled: Modelled, factor: float) -> tuple[FormRows, Floats]:
        shape = _language(modelled).shape
        return _with_rows(modelled, shape={n: v * (factor if n in names else 1.0) for n, v in shape.items()})

    return change


def _of_coefficients(names: Sequence[str]) -> Change:
    def change(modelled: Modelled, factor: float) -> tuple[FormRows, Floats]:
        known = [c.name for c in modelled.rows.coefficients.coefficients]
        vector = modelled.calibration.vector.copy()
        vector[[known.index(name) for name in names]] += np.log(factor)
        return modelled.rows, vector

    return change


def _input_tokens(modelled: Modelled, factor: float) -> tuple[FormRows, Floats]:
    terms = modelled.terms
    known = terms.input_tokens if isinstance(terms, LanguageTerms) else np.zeros(1)
    return _with_rows(modelled, input_tokens=known * factor)


def _layers(modelled: Modelled, factor: float) -> tuple[FormRows, Floats]:
    shape = dict(_language(modelled).shape)
    head = shape["head_bytes"]
    changed = {n: v * (factor if n in LAYERED else 1.0) for n, v in shape.items()}
    changed["weight_bytes"] = (shape["weight_bytes"] - head) * factor + head
    return _with_rows(modelled, shape=changed)


def _experts(modelled: Modelled, factor: float) -> tuple[FormRows, Floats]:
    shape = dict(_language(modelled).shape)
    if float(shape["experts"][0]) <= 1.0:
        return modelled.rows, modelled.calibration.vector
    routed = shape["moe_layers"] * shape["experts"] * shape["expert_bytes"]
    shape["experts"] = shape["experts"] * factor
    shape["weight_bytes"] = shape["weight_bytes"] + routed * (factor - 1.0)
    return _with_rows(modelled, shape=shape)


def _capacity(modelled: Modelled, factor: float) -> tuple[FormRows, Floats]:
    """Let the batch follow the ceiling that memory sets: the elasticity where memory holds the batch."""
    gpu = {n: v * (factor if n == "memory_bytes" else 1.0) for n, v in modelled.rows.rows.gpu.items()}
    larger, vector = _with_rows(modelled, gpu=gpu)
    now, then = modelled.terms, larger.terms(vector)
    if not isinstance(now, LanguageTerms) or not isinstance(then, LanguageTerms):
        return modelled.rows, vector
    ratio = np.where(now.batch_ceiling > 0, then.batch_ceiling / np.maximum(now.batch_ceiling, 1e-9), 1.0)
    return modelled.with_batch(np.asarray(modelled.rows.rows.batch) * ratio), vector


def _latent_tokens(modelled: Modelled, factor: float) -> tuple[FormRows, Floats]:
    """Scale pixels × frames: products and traffic grow with them, attention with their square."""
    powers = {
        "latent_tokens": 1,
        "linear_flops": 1,
        "attention_flops": 2,
        "activation_bytes": 1,
        "normalised_bytes": 1,
        "pixels": 1,
    }
    volume: Mapping[str, Floats] = modelled.rows.rows.volume  # type: ignore[union-attr]
    return _with_rows(modelled, volume={n: v * factor ** powers.get(n, 0) for n, v in volume.items()})


def _language(modelled: Modelled) -> LanguageRows:
    rows = modelled.rows.rows
    if not isinstance(rows, LanguageRows):
        msg = "a diffusion pipeline has no language model's shape"
        raise UsageError(msg)
    return rows
