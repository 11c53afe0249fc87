"""What a plan chooses from: configurations that serve a task, measured, or predicted between and beyond.

An option is one replica of a model on so many GPUs at one point of its batch curve. Options of one curve share
``series``; a curve's points are alternatives, since a replica may be run at any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, ModelArchitecture, load_catalog
from joulemap.diagnose.series import Curves
from joulemap.errors import JoulemapError, UnknownNameError, UsageError
from joulemap.predict.calibration import Calibration
from joulemap.predict.intervals import LEVEL
from joulemap.predict.predict import predict_many
from joulemap.records import Basis, LengthDistribution
from joulemap.store.schema import COLUMNS
from joulemap.store.selector import BATCH_CEILING, latest

UNKNOWN_REPEATABILITY = 0.1
"""Relative standard deviation of one measurement where a store repeats too few to tell: a guess."""
GAP = 1.5
"""Measured neighbours whose batches differ by a larger factor get a predicted option between them."""
SMALLEST = (1.0, 2.0, 4.0)
"""Batches that are predicted where only larger ones were measured."""
PREDICTED_GPUS = (1, 2, 4, 8)
"""GPU counts of predicted configurations."""
NORMAL_90 = 1.645
"""Half width of a normal distribution's 90 % interval, in standard deviations."""

IDENTITY = ("task", "model_id", "gpu_model", "num_gpus", "weight_precision")
PARALLELISM = ("tensor_parallel", "expert_parallel", "data_parallel", "ulysses_degree", "ring_degree")
SHAPE = ("inference_steps", "height_px", "width_px", "num_frames")
UNCERTAIN = (
    *("power_w", "output_throughput_per_s", "request_throughput_per_s"),
    *("energy_per_output_j", "energy_per_request_j", "itl_median_s", "latency_s"),
)
"""Quantities with ``_low`` and ``_high``."""
OPTION_COLUMNS = (
    *("series", *IDENTITY, *PARALLELISM, *SHAPE, "label", "output_unit", "batch_size", "batch_ceiling"),
    *("mean_output_tokens", *(f"{q}{end}" for q in UNCERTAIN for end in ("", "_low", "_high"))),
    *("itl_p99_s", "ttft_median_s", "rated_power_w", "basis", "run_id"),
)
"""Columns of the table of options; what a kind of model does not have is null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRequest:
    """Which options are wanted."""

    task: str
    models: tuple[str, ...] = ()
    """Model ids; all that were measured on the task if empty."""
    gpu_models: tuple[str, ...] = ()
    """GPU ids; those that were measured if empty. One without measured runs of a model gets predicted options."""
    mean_input_tokens: float | None = None
    mean_output_tokens: float | None = None
    """Lengths other than those measured on the task: every option is then predicted."""
    output_lengths: LengthDistribution | None = None
    predict_between: bool = True
    """Add predicted options between measured ones, and on GPU models that a model was not measured on."""


@dataclass(frozen=True, slots=True)
class Options:
    """A table of options and what must be said of it."""

    frame: pl.DataFrame
    """Columns: :data:`OPTION_COLUMNS`."""
    notes: tuple[str, ...] = ()
    lengths: Mapping[str, LengthDistribution] = field(default_factory=dict)
    """Measured reply lengths by model id."""


def find_options(
    frame: pl.DataFrame,
    request: OptionRequest,
    *,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
) -> Options:
    """Return the options for a task.

    Args:
        frame: The run table (columns: ``joulemap.store.schema.COLUMNS``).
        request: Task, models, GPU models, lengths.
        calibration: Coefficients of the prediction; the shipped ones if ``None``.
        catalog: Facts; the shipped ones if ``None``.

    Raises:
        UnknownNameError: Neither the store nor the catalog has a model, or a task whose lengths are not given.
        UsageError: Nothing is known of the task.
    """
    facts = catalog or load_catalog()
    runs = _usable(frame)
    of_task = runs.filter(task=request.task)
    own_lengths = request.mean_output_tokens or request.mean_input_tokens or request.output_lengths
    if of_task.is_empty() and request.task not in facts.tasks and not own_lengths:
        # A mistyped name would otherwise be planned for with lengths that nobody gave.
        kind = "task"
        raise UnknownNameError(kind, request.task, {*facts.tasks, *runs["task"].drop_nulls().unique()})
    models = _models(runs, of_task, request, facts)
    chosen = of_task.filter(pl.col("model_id").is_in(models))
    predictor = _Predictor(runs, request, calibration, facts)
    pieces: list[pl.DataFrame] = []
    notes: list[str] = []
    if not own_lengths and not chosen.is_empty():
        on_gpus = chosen.filter(pl.col("gpu_model").is_in(request.gpu_models)) if request.gpu_models else chosen
        pieces.append(_measured(on_gpus, frame, facts, calibration, notes))
        if request.predict_between:
            pieces.append(predictor.options(_between(on_gpus), notes))
    if request.predict_between or own_lengths:
        pieces.append(predictor.options(predictor.beyond(chosen, models, own_lengths=bool(own_lengths)), notes))
    filled = [piece for piece in pieces if not piece.is_empty()]
    if not filled:
        on = f" on {', '.join(request.gpu_models)}" if request.gpu_models else ""
        msg = f"nothing is known of {', '.join(models) or 'any model'} for the task {request.task!r}{on}"
        raise UsageError(msg, fix="'joulemap import study' brings measured runs; 'joulemap runs' lists the tasks")
    table = pl.concat(filled, how="diagonal_relaxed")
    return Options(_numbered(table), tuple(dict.fromkeys(notes)), _lengths(chosen))


def _usable(frame: pl.DataFrame) -> pl.DataFrame:
    positive = [pl.col(c) > 0 for c in ("power_w", "output_throughput_per_s", "batch_size")]
    return latest(frame.filter(pl.col("valid").fill_null(value=True))).filter(
        *positive, pl.col("gpu_model").is_not_null(), pl.col("num_gpus") > 0
    )


def _models(runs: pl.DataFrame, of_task: pl.DataFrame, request: OptionRequest, catalog: Catalog) -> list[str]:
    if not request.models:
        return of_task["model_id"].unique(maintain_order=True).to_list()
    known = set(runs["model_id"].unique())
    for name in request.models:
        if name not in known and name not in catalog.models:
            kind = "model"
            raise UnknownNameError(kind, name, known | set(catalog.models))
    return list(request.models)


def _measured(
    runs: pl.DataFrame,
    everything: pl.DataFrame,
    catalog: Catalog,
    calibration: Calibration | None,
    notes: list[str],
) -> pl.DataFrame:
    """Return measured runs as options, with intervals from how well measurements repeat."""
    if runs.is_empty():
        return runs
    found = _with_derived(runs).with_columns(basis=pl.lit(Basis.MEASURED.value))
    found = _with_predicted_latency(found, catalog, calibration)
    curves = Curves(everything)
    spreads = {}
    for name in UNCERTAIN:
        column = {
            "request_throughput_per_s": "output_throughput_per_s",
            "energy_per_request_j": "energy_per_output_j",
        }
        known = curves.errors(column.get(name, name))[0] if name != "latency_s" else None
        if name == "latency_s":
            known = curves.errors("output_throughput_per_s")[0]
        spreads[name] = known[0] if known else UNKNOWN_REPEATABILITY
        if known is None:
            notes.append(
                f"too few measurements are repeated in the store to tell how well {name} repeats; "
                f"{UNKNOWN_REPEATABILITY:.0%} is assumed"
            )
    ends = []
    for name, spread in spreads.items():
        factor = float(np.exp(NORMAL_90 * spread))
        ends += [(pl.col(name) / factor).alias(f"{name}_low"), (pl.col(name) * factor).alias(f"{name}_high")]
    return _with_rated_power(found.with_columns(ends), catalog)


def _with_derived(runs: pl.DataFrame) -> pl.DataFrame:
    """Add what follows from other columns: rates and energy per request, the ceiling, a name for people."""
    is_token = pl.col("output_unit") == "token"
    outputs = pl.when(is_token).then(pl.col("mean_output_tokens")).otherwise(1.0)
    return runs.with_columns(
        BATCH_CEILING,
        # A closed loop's request rate is its token rate over the reply length.
        request_throughput_per_s=pl.coalesce(
            "request_throughput_per_s", pl.col("output_throughput_per_s") / outputs
        ),
        energy_per_output_j=pl.col("power_w") / pl.col("output_throughput_per_s"),
        label=pl.coalesce("nickname", pl.col("model_id").str.split("/").list.last()),
    ).with_columns(
        energy_per_request_j=pl.col("power_w") / pl.col("request_throughput_per_s"),
        latency_s=pl.when(is_token)
        .then(pl.coalesce("latency_mean_s", pl.col("batch_size") / pl.col("request_throughput_per_s")))
        .otherwise(pl.coalesce("latency_median_s", "latency_mean_s")),
    )


def _with_predicted_latency(found: pl.DataFrame, catalog: Catalog, calibration: Calibration | None) -> pl.DataFrame:
    """Fill time to first token, where nobody measured it, from the model of known architectures."""
    known = pl.col("model_id").is_in(list(catalog.models)) & pl.col("gpu_model").is_in(list(catalog.gpus))
    wanted = found.with_row_index("_row").filter(known & pl.col("ttft_median_s").is_null())
    wanted = wanted.filter(pl.col("output_unit") == "token")
    if wanted.is_empty():
        return found
    predicted = predict_many(wanted.drop("_row"), calibration, catalog=catalog)
    times = pl.DataFrame({"_row": wanted["_row"], "_ttft": predicted["ttft_median_s"]})
    return (
        found.with_row_index("_row")
        .join(times, on="_row", how="left", maintain_order="left")
        .with_columns(ttft_median_s=pl.coalesce("ttft_median_s", "_ttft"))
        .drop("_row", "_ttft")
    )


def _with_rated_power(found: pl.DataFrame, catalog: Catalog) -> pl.DataFrame:
    names = found["gpu_model"].unique().to_list()
    rated = {name: catalog.gpus[name].tdp_w if name in catalog.gpus else None for name in names}
    watts = pl.col("gpu_model").replace_strict(rated, return_dtype=pl.Float64)
    limit = pl.min_horizontal(watts, pl.col("power_limit_w"))
    return found.with_columns(rated_power_w=limit * pl.col("num_gpus"))


def _between(runs: pl.DataFrame) -> pl.DataFrame:
    """Return configurations of language models between batches that lie far apart, and below the smallest."""
    keys = [*IDENTITY, *PARALLELISM, *SHAPE]
    tokens = runs.filter(pl.col("output_unit") == "token").sort("batch_size", maintain_order=True)
    ordered = tokens.with_columns(
        _next=pl.col("batch_size").shift(-1).over(keys),
        _tokens=pl.col("mean_output_tokens").shift(-1).over(keys),
        _least=pl.col("batch_size").min().over(keys),
    )
    wide = ordered.filter(pl.col("_next") > GAP * pl.col("batch_size").clip(1.0)).with_columns(
        batch_size=(pl.col("batch_size") * pl.col("_next")).sqrt().round(),
        mean_output_tokens=(pl.col("mean_output_tokens") * pl.col("_tokens")).sqrt(),
    )
    least = ordered.filter(pl.col("batch_size") == pl.col("_least"))
    below = [
        least.filter(pl.col("batch_size") > GAP * batch).with_columns(batch_size=pl.lit(batch))
        for batch in SMALLEST
    ]
    return (
        pl.concat([wide, *below])
        .with_columns(max_num_seqs=pl.col("batch_size").round().cast(pl.Int64))
        .select(list(COLUMNS))
    )


class _Predictor:
    """Predicts configurations, corrected by the measured runs of the same models."""

    def __init__(
        self, runs: pl.DataFrame, request: OptionRequest, calibration: Calibration | None, catalog: Catalog
    ) -> None:
        self.runs = runs
        self.request = request
        self.calibration = calibration
        self.catalog = catalog

    def beyond(self, measured: pl.DataFrame, models: Sequence[str], *, own_lengths: bool) -> pl.DataFrame:
        """Return configurations on GPU models that a model was not measured on, or with other lengths."""
        wanted = self.request.gpu_models or tuple(measured["gpu_model"].unique(maintain_order=True))
        rows = []
        for name in models:
            if name not in self.catalog.models:
                continue
            own = measured.filter(model_id=name)
            lacking = [g for g in wanted if own_lengths or own.filter(gpu_model=g).is_empty()]
            for precision in own["weight_precision"].unique(maintain_order=True).to_list() or [None]:
                template = self._template(name, own, precision)
                rows += [{**template, "gpu_model": g, "num_gpus": n} for g in lacking for n in PREDICTED_GPUS]
        if not rows:
            return self.runs.clear()
        return self._over_batches(pl.DataFrame(rows, schema=COLUMNS, strict=False, infer_schema_length=None))

    def _template(self, model_id: str, own: pl.DataFrame, precision: str | None) -> dict[str, object]:
        """Return what a configuration's row says beside GPUs and batch."""
        columns = ("task", "model_id", "nickname", "output_unit", "input_modality", "weight_precision", *SHAPE)
        request = self.request
        if not own.is_empty():
            row = own.filter(pl.col("weight_precision").eq_missing(precision)).row(0, named=True)
            template = {c: row[c] for c in columns} | {"mean_output_tokens": _mean(own["mean_output_tokens"])}
        else:
            task = self.catalog.tasks.get(request.task)
            model = self.catalog.models[model_id]
            template = {"task": request.task, "model_id": model_id, "nickname": model.nickname}
            template["output_unit"] = "token" if isinstance(model, ModelArchitecture) else model.output
            template["input_modality"] = task.input_modality if task else "text"
            template["mean_output_tokens"] = (
                task.output_lengths.mean_tokens if task is not None and task.output_lengths else None
            )
        if request.output_lengths is not None:
            template["mean_output_tokens"] = mean_of(request.output_lengths)
        template |= {"mean_output_tokens": request.mean_output_tokens} if request.mean_output_tokens else {}
        return template | {"mean_input_tokens": request.mean_input_tokens}

    def _over_batches(self, configurations: pl.DataFrame) -> pl.DataFrame:
        """Repeat each configuration at powers of two up to the batch that memory allows."""
        ceilings = self._predict(configurations.with_columns(batch_size=pl.lit(1.0)))["batch_ceiling"]
        batches = [
            [float(2**k) for k in range(int(np.log2(ceiling)) + 1)] if ceiling >= 1 else []
            for ceiling in np.minimum(ceilings.to_numpy(), 1024.0)
        ]
        return (
            configurations.with_columns(batch_size=pl.Series(batches, dtype=pl.List(pl.Float64)))
            .explode("batch_size")
            .filter(pl.col("batch_size").is_not_null())
            .with_columns(max_num_seqs=pl.col("batch_size").cast(pl.Int64))
        )

    def _predict(self, configurations: pl.DataFrame, given: pl.DataFrame | None = None) -> pl.DataFrame:
        return predict_many(configurations, self.calibration, given, catalog=self.catalog)

    def options(self, configurations: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
        """Return configurations as options; those whose model the catalog lacks are left out, with a note."""
        known = pl.col("model_id").is_in(list(self.catalog.models)) & pl.col("gpu_model").is_in(
            list(self.catalog.gpus)
        )
        left_out = configurations.filter(~known)["model_id"].unique().to_list()
        notes += [f"{name} is not in the catalog: only its measured runs are options" for name in left_out]
        rows = configurations.filter(known)
        pieces = []
        for (model_id,), own in rows.group_by("model_id", maintain_order=True):
            given = self.runs.filter(model_id=model_id)
            try:
                pieces.append(self._as_options(own, self._predict(own, given if not given.is_empty() else None)))
            except JoulemapError as error:
                notes.append(f"{model_id} could not be predicted: {error.message}")
        return pl.concat(pieces, how="diagonal_relaxed") if pieces else rows.clear()

    def _as_options(self, rows: pl.DataFrame, predicted: pl.DataFrame) -> pl.DataFrame:
        latency = "latency_mean_s" if "latency_mean_s" in predicted.columns else "latency_median_s"
        renamed = predicted.rename({f"{latency}{end}": f"latency_s{end}" for end in ("", "_low", "_high")})
        taken = [c for c in renamed.columns if c in OPTION_COLUMNS and c not in ("batch_size", "batch_ceiling")]
        joined = rows.drop([c for c in taken if c in rows.columns]).hstack(renamed.select(taken))
        if "request_throughput_per_s" not in taken:  # one request of diffusion is one output
            joined = joined.with_columns(
                pl.col(f"{of}{end}").alias(f"{to}{end}")
                for of, to in (
                    ("output_throughput_per_s", "request_throughput_per_s"),
                    ("energy_per_output_j", "energy_per_request_j"),
                )
                for end in ("", "_low", "_high")
            )
        lengths_differ = bool(
            self.request.mean_output_tokens or self.request.mean_input_tokens or self.request.output_lengths
        )
        return _with_rated_power(
            joined.with_columns(
                batch_ceiling=pl.col("batch_size"),
                label=pl.coalesce("nickname", pl.col("model_id").str.split("/").list.last()),
                basis=pl.lit(Basis.MODELLED.value) if lengths_differ else pl.col("basis").cast(pl.String),
                run_id=pl.lit(None, dtype=pl.String),
            ).filter(~predicted["beyond_ceiling"] | (pl.col("basis") == Basis.INTERPOLATED.value)),
            self.catalog,
        )


def _numbered(table: pl.DataFrame) -> pl.DataFrame:
    """Add ``series``, and order by series and batch."""
    missing = [pl.lit(None, dtype=pl.Float64).alias(c) for c in OPTION_COLUMNS if c not in table.columns]
    keys = [*IDENTITY, *PARALLELISM, *SHAPE]
    return (
        table.with_columns(c for c in missing if c.meta.output_name() != "series")
        .with_columns(series=pl.struct(keys).rank("dense").cast(pl.Int64))
        .sort("series", "batch_size", maintain_order=True)
        # Predictions have no tail of their own: that of the next smaller measured batch, over its median, is taken.
        .with_columns(
            itl_p99_s=pl.coalesce(
                "itl_p99_s",
                pl.col("itl_median_s")
                * (pl.col("itl_p99_s") / pl.col("itl_median_s")).forward_fill().over("series"),
            )
        )
        .select(OPTION_COLUMNS)
    )


def at_confidence(options: pl.DataFrame, confidence: float | None) -> pl.DataFrame:
    """Return options with ``planned_power_w`` and ``planned_<rate>`` columns at the pessimistic end of intervals.

    A 90 % interval is widened or narrowed to another confidence as a log-normal one is. ``planned_power_w`` is the
    most that the replica draws at any batch up to its own, since a replica that is not filled runs at a smaller
    one; a GPU holds its power at its rating, so that no more than that is counted.

    Args:
        options: From :func:`find_options`.
        confidence: Of two-sided intervals; ``None`` plans with the values themselves.
    """
    scale = 0.0 if confidence is None else _half_width(confidence) / _half_width(LEVEL)
    power = pl.col("power_w") * (pl.col("power_w_high") / pl.col("power_w")) ** scale
    rates = [
        (pl.col(rate) * (pl.col(f"{rate}_low") / pl.col(rate)) ** scale).alias(f"planned_{rate}")
        for rate in ("output_throughput_per_s", "request_throughput_per_s")
    ]
    times = [
        (pl.col(time) * (pl.col(f"{time}_high") / pl.col(time)) ** scale).alias(f"planned_{time}")
        for time in ("itl_median_s", "latency_s")
    ]
    limited = pl.max_horizontal(pl.min_horizontal(power, pl.col("rated_power_w")), pl.col("power_w"))
    return options.sort("series", "batch_size", maintain_order=True).with_columns(
        limited.cum_max().over("series").alias("planned_power_w"), *rates, *times
    )


def _half_width(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1.0 + confidence) / 2.0))


def mean_of(lengths: LengthDistribution) -> float:
    """Return the mean of a histogram, its bins taken at their middles."""
    edges = np.array(lengths.edges)
    return float(np.average((edges[1:] + edges[:-1]) / 2.0, weights=lengths.counts))


def _mean(values: pl.Series) -> float | None:
    mean = values.mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]  # of a column of floats


def _lengths(runs: pl.DataFrame) -> dict[str, LengthDistribution]:
    rows = runs.filter(pl.col("output_length_counts").is_not_null()).unique("model_id", keep="last")
    columns = rows.select("model_id", "output_length_edges", "output_length_counts").iter_rows()
    return {name: LengthDistribution(edges=tuple(e), counts=tuple(c)) for name, e, c in columns}
