"""Runs as the calibrated model sees them, and as it would see them were one limit relieved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.catalog import Catalog, load_catalog
from joulemap.diagnose.diagnosis import Bound
from joulemap.errors import UnknownNameError
from joulemap.physics.arrays import Floats
from joulemap.predict.calibration import Calibration, FormCalibration, default_calibration
from joulemap.predict.diffusion import DiffusionTerms
from joulemap.predict.forms import FormName, FormRows, Models, form_of, form_rows, layout
from joulemap.predict.frames import Index
from joulemap.predict.intervals import DIFFERENT_GPU, SAME_GENERATION
from joulemap.predict.language import LanguageTerms
from joulemap.predict.language_rows import LanguageRows
from joulemap.predict.language_volume import HELD_TOKENS, prompt_tokens
from joulemap.predict.served import known_precision

Terms = LanguageTerms | DiffusionTerms

DRAWS = 48
"""Vectors drawn from the calibration's covariance: enough for 5 % and 95 % points of a ledger's parts."""
SEED = 20260123
TWOFOLD = 2.0
STATIC_TASK = "static-decode"
"""Task of runs that repeat one decoding step on a cache filled beforehand: they read no prompt."""
ENDLESS_TOKENS = 1e9
"""Reply length of a step that is repeated for ever."""
AMPLE_HOST = "_ample_host"
"""Column of a run table that is true where the run shows that its host was not narrow."""
REMOVED = 1e6
"""A relief so large that the limit is gone."""

LIMITS: Mapping[FormName, Mapping[Bound, Mapping[str, int]]] = {
    "language": {
        Bound.MEMORY_BANDWIDTH: dict.fromkeys(
            ("bandwidth", "expert_bandwidth", "kv_bandwidth", "latent_bandwidth"), 1
        ),
        # Sampling and all else that each sequence costs a step runs on the GPU, beside arithmetic.
        Bound.COMPUTE: {
            **dict.fromkeys(("arithmetic", "arithmetic_fp8", "arithmetic_prefill"), 1),
            **dict.fromkeys(("sample_element", "sample_sequence"), -1),
        },
        Bound.COMMUNICATION: {"all_reduce": -1, "link_bandwidth": 1},
        Bound.HOST: dict.fromkeys(
            (
                *("narrow_host_long", "narrow_host_pixels", "narrow_host_sequence"),
                *("preprocess_image", "preprocess_video"),
            ),
            -1,
        ),
        Bound.LAUNCH_OVERHEAD: dict.fromkeys(
            (
                *("launch_attention", "launch_dense", "launch_experts", "launch_experts_fp8"),
                *("launch_experts_fp4", "launch_recurrent", "launch_quantise", "launch_step"),
                *("eager_dense", "eager_experts", "eager_recurrent"),
            ),
            -1,
        ),
        Bound.IMBALANCE: {"replica_prefill": -1},
    },
    "diffusion": {
        Bound.MEMORY_BANDWIDTH: {"elementwise": 1},
        Bound.COMPUTE: dict.fromkeys(("matrix", "attention", "decode_arithmetic"), 1),
        Bound.COMMUNICATION: {
            **dict.fromkeys(("exchange", "ring", "ring_attention"), -1),
            **dict.fromkeys(("exchange_bandwidth", "ring_bandwidth"), 1),
        },
        Bound.LAUNCH_OVERHEAD: dict.fromkeys(("launch_block", "launch_step", "start"), -1),
    },
}
"""For each limit, the coefficients that carry it: 1 for a rate (relief raises it), −1 for a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Modelled:
    """The runs of a table that one model form describes."""

    form: FormName
    index: Index
    """Their positions in the table."""
    rows: FormRows
    calibration: FormCalibration
    terms: Terms
    """What the form says of them as they were run."""
    gpu_deviation: Floats
    """Standard deviation (logarithm) that a GPU without calibrated runs adds."""

    def __len__(self) -> int:
        return len(self.index)

    def deviation(self, quantity: str) -> Floats:
        """Return the standard deviation (logarithm) of the form's error in a quantity, run by run.

        It is that of backbones that were held out of the calibration; a GPU without calibrated runs adds to it.
        """
        return np.hypot(self.calibration.kernels[quantity].prior_deviation, self.gpu_deviation)

    def capacity(self) -> Floats:
        """Return the requests that fit in memory, at least those that ran; not a number if unknown."""
        if not isinstance(self.terms, LanguageTerms):
            return np.full(len(self), np.nan)
        return np.fmax(self.terms.batch_ceiling, self.batch())

    def batch_told(self) -> Floats:
        """Return the configured ceiling of all copies together; the batch itself where none is known."""
        rows = self.rows.rows
        return np.maximum(
            rows.ceiling * rows.copies if isinstance(rows, LanguageRows) else self.batch(), self.batch()
        )

    def batch(self) -> Floats:
        """Return the achieved batch of all copies together."""
        rows = self.rows.rows
        each = np.asarray(rows.batch, dtype=np.float64)
        return each * rows.copies if isinstance(rows, LanguageRows) else each

    def relieved(self, bound: Bound, factor: float = TWOFOLD) -> Terms:
        """Return what the form says with one limit relieved by a factor."""
        return self.rows.terms(self.relieved_vector([bound], factor))

    def relieved_vector(self, bounds: Sequence[Bound], factor: float) -> Floats:
        """Return the calibration's vector with the coefficients of the given limits relieved by a factor."""
        names = [c.name for c in self.rows.coefficients.coefficients]
        vector = self.calibration.vector.copy()
        for bound in bounds:
            for name, direction in LIMITS[self.form].get(bound, {}).items():
                vector[names.index(name)] += direction * np.log(factor)
        return vector

    def with_batch(self, batch: Floats) -> FormRows:
        """Return the rows at another batch of each copy, the configured ceiling never below it."""
        rows = self.rows.rows
        if isinstance(rows, LanguageRows):
            changed = replace(rows, batch=batch, ceiling=np.maximum(rows.ceiling, batch))
            return replace(self.rows, rows=changed)
        return replace(self.rows, rows=replace(rows, batch=batch))

    def draws(self) -> Iterator[Terms]:
        """Yield what the form says for vectors drawn from the calibration's covariance."""
        random = np.random.default_rng(SEED)
        mean, root = self.calibration.vector, _root(self.calibration.covariance.tobytes())
        for _ in range(DRAWS):
            yield self.rows.terms(mean + root @ random.standard_normal(len(mean)))


@lru_cache(maxsize=4)
def _root(covariance: bytes) -> Floats:
    """Return a root of a covariance; finding it takes longer than all that a diagnosis does with it."""
    entries = np.frombuffer(covariance, dtype=np.float64)
    size = math.isqrt(len(entries))
    # An eigen-decomposition bears a covariance that rounding left slightly indefinite.
    values, vectors = np.linalg.eigh(entries.reshape(size, size))
    root: Floats = vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def modelled_forms(
    frame: pl.DataFrame,
    *,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> list[Modelled]:
    """Return the runs of a table that the model can describe, by form.

    A run is left out whose model or GPU the catalog does not know, or that lacks GPU count, batch or, for language
    models, reply length, or whose weights are in a precision that no number format is known for.
    """
    fitted = calibration or default_calibration()
    facts = catalog or load_catalog()
    known: Models = {**facts.models, **(models or {})}
    gpus = _known_gpus(frame, facts)
    precise = known_precision(frame)
    described = []
    for form, own in fitted.forms.items():
        ids = [i for i, model in known.items() if form_of(model) == form]
        usable = (
            pl.col("model_id").is_in(ids)
            & pl.col("gpu_model").is_in(gpus)
            & (pl.col("num_gpus") > 0)
            & (pl.col("batch_size") > 0)
            & pl.lit(precise)
        )
        if form == "language":
            usable &= pl.col("mean_output_tokens") > 0
        index = frame.with_row_index("_row").filter(usable)["_row"].to_numpy().astype(np.intp)
        if index.size == 0:
            continue
        own_frame = frame[index.tolist()]
        rows = form_rows(form, own_frame, facts, known, layout(form, own.gpus))
        rows = _without_prompts(rows, (own_frame["task"] == STATIC_TASK).fill_null(value=False).to_numpy())
        if AMPLE_HOST in own_frame.columns:
            rows = _with_ample_hosts(rows, own_frame[AMPLE_HOST].to_numpy())
        described.append(Modelled(form, index, rows, own, rows.terms(own.vector), _gpu_deviation(rows, own, facts)))
    return described


def _without_prompts(form: FormRows, which: NDArray[np.bool_]) -> FormRows:
    """Return rows of which some read no prompt: their context stays, their reply never ends."""
    rows = form.rows
    if not which.any() or not isinstance(rows, LanguageRows):
        return form
    context = prompt_tokens(rows, HELD_TOKENS) + rows.output_tokens / 2.0
    return replace(
        form,
        rows=replace(
            rows,
            input_tokens=np.where(which, context, rows.input_tokens),
            output_tokens=np.where(which, ENDLESS_TOKENS, rows.output_tokens),
            spread=np.where(which, -1.0, rows.spread),  # the context of a repeated step does not grow
        ),
    )


def _with_ample_hosts(form: FormRows, which: NDArray[np.bool_]) -> FormRows:
    rows = form.rows
    if not isinstance(rows, LanguageRows):
        return form
    return replace(form, rows=replace(rows, narrow_host=np.where(which, 0.0, rows.narrow_host)))


def _gpu_deviation(rows: FormRows, calibration: FormCalibration, catalog: Catalog) -> Floats:
    generations = {catalog.gpus[g].generation for g in calibration.gpus if g in catalog.gpus}
    added = [
        0.0 if g.id in calibration.gpus else SAME_GENERATION if g.generation in generations else DIFFERENT_GPU
        for g in rows.rows.gpu_models
    ]
    return np.array(added)[rows.rows.gpu_index]


def _known_gpus(frame: pl.DataFrame, catalog: Catalog) -> list[str]:
    known = []
    for name in frame["gpu_model"].drop_nulls().unique():
        try:
            catalog.gpu(name)
        except UnknownNameError:
            continue
        known.append(name)
    return known


def energy_per_output(terms: Terms) -> Floats:
    """Return modelled joules per output."""
    return terms.power_w / terms.output_throughput_per_s


def seconds_per_output_step(terms: Terms) -> Floats:
    """Return the modelled time of one step (language) or one batch (diffusion), in seconds."""
    return terms.mean_step_s if isinstance(terms, LanguageTerms) else terms.latency_s
