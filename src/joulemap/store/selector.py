"""Selectors: short texts that name runs, such as ``task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,batch=max``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from joulemap.errors import SelectorError, UnknownNameError, UsageError
from joulemap.store.run_store import RunStore

BATCH_CEILING = (
    pl.coalesce(
        pl.when(pl.col("max_num_seqs").is_not_null()).then(pl.min_horizontal("max_num_seqs", "max_concurrency")),
        "batch_size",
    )
    .cast(pl.Float64)
    .alias("batch_ceiling")
)
"""The batch that was asked for: an LLM engine's ``max_num_seqs``, or the requests that its clients kept in flight
where those are fewer; a diffusion pipeline's batch size."""

_TEXT_KEYS = {
    "task": "task",
    "gpu": "gpu_model",
    "precision": "weight_precision",
    "engine": "engine",
    "source": "source",
}
_NUMBER_KEYS = {
    "gpus": "num_gpus",
    "tp": "tensor_parallel",
    "ep": "expert_parallel",
    "dp": "data_parallel",
    "ulysses": "ulysses_degree",
    "ring": "ring_degree",
    "steps": "inference_steps",
    "height": "height_px",
    "width": "width_px",
    "frames": "num_frames",
}
KEYS = ("task", "model", "gpu", "gpus", "batch", "precision", "engine", "source", *list(_NUMBER_KEYS)[1:])
"""Every key that a selector may use."""

_SELECTED_BY = ["run_id", "valid", "source", "nickname", "batch_size", "energy_per_output_j"]
"""The columns beside a configuration's own that selecting needs."""
_RUN_ID = re.compile(r"[0-9a-fA-F]{4,}")
_CONFIGURATION = [
    *("task", "model_id", "gpu_model", "num_gpus", "weight_precision", "engine", "engine_version"),
    *("tensor_parallel", "expert_parallel", "data_parallel", "pipeline_parallel"),
    *("ulysses_degree", "ring_degree", "inference_steps", "height_px", "width_px", "num_frames"),
    *("max_num_seqs", "mean_input_tokens", "request_rate_per_s", "max_concurrency", "batch_asked"),
]


SELECTION_COLUMNS = list(dict.fromkeys([*_SELECTED_BY, *(c for c in _CONFIGURATION if c != "batch_asked")]))
"""What :func:`select` and :func:`condition` need of the run table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A parsed selector: which values the wanted runs have."""

    text: str
    values: dict[str, str]


def parse_selector(text: str) -> Selector:
    """Parse ``key=value`` pairs joined by commas.

    Raises:
        SelectorError: A part is no pair, a key is unknown or given twice, or a number is none.
    """
    values: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = (s.strip() for s in part.partition("="))
        if not equals or not value:
            msg = f"{part!r} in the selector {text!r} is not of the form key=value"
            raise SelectorError(msg, fix="for example task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max")
        if key not in KEYS:
            kind = "selector key"
            raise UnknownNameError(kind, key, KEYS, fix="keys are " + ", ".join(KEYS))
        if key in values:
            msg = f"the selector {text!r} gives {key} twice"
            raise SelectorError(msg)
        if key in _NUMBER_KEYS or (key == "batch" and value not in {"max", "best"}):
            _number(key, value)
        values[key] = value
    return Selector(text=text, values=values)


def select(frame: pl.DataFrame, selector: str | Selector) -> pl.DataFrame:
    """Return the valid runs that a selector names, the latest of each configuration.

    ``batch=N`` asks for the configured ceiling N, ``batch=max`` for the largest and ``batch=best`` for the
    one of least energy per output.

    Raises:
        SelectorError: Nothing matches; the message says which part emptied the selection.
        UnknownNameError: A name is not in the store; suggests the nearest.
    """
    parsed = parse_selector(selector) if isinstance(selector, str) else selector
    found = latest(frame.filter(pl.col("valid")))
    for key, value in parsed.values.items():
        if key == "batch":
            continue
        narrowed = found.filter(condition(frame, key, value))
        if narrowed.is_empty():
            there = _values_of(found, key)
            msg = f"no run matches {key}={value} together with the rest of {parsed.text!r}"
            raise SelectorError(msg, fix=f"{key} there is one of: {there}")
        found = narrowed
    return _with_batch(found, parsed)


def filtered(frame: pl.DataFrame, selector: Selector) -> pl.DataFrame:
    """Return the rows that a selector matches, repeated configurations included.

    Raises:
        UsageError: The selector chooses one run by its batch, which lists do not.
        UnknownNameError: A name is not in the store; suggests the nearest.
    """
    found = frame.with_columns(BATCH_CEILING)
    for key, value in selector.values.items():
        if key == "batch" and value in {"max", "best"}:
            msg = f"batch={value} chooses one run; a list needs a number, or no batch"
            raise UsageError(msg, fix="'joulemap show' and 'joulemap explain' take batch=max and batch=best")
        found = found.filter(condition(frame, key, value))
    return found.drop("batch_ceiling")


def find_run(store: RunStore, reference: str) -> dict[str, Any]:
    """Return the table row of the one run that an id or selector names.

    Raises:
        SelectorError: The selector matches several configurations; says in what they differ.
        UnknownNameError: There is no such run.
        EmptyStoreError: The store is empty.
    """
    store.non_empty_run_ids()
    if "=" not in reference:
        if not _RUN_ID.fullmatch(reference):
            kind = "run"
            raise UnknownNameError(
                kind,
                reference,
                [],
                fix="give a run id (four digits are enough), or a selector such as task=gpqa,model=…,batch=max",
            )
        return store.row(reference)
    # Of a large store, only what selecting needs is read of every run.
    found = select(store.columns(SELECTION_COLUMNS), reference)
    if found.height > 1:
        differing = {
            key: values for key in KEYS if len(values := _distinct(found.with_columns(BATCH_CEILING), key)) > 1
        }
        in_what = "; ".join(f"{key}={', '.join(values)}" for key, values in differing.items())
        msg = (
            f"{reference!r} matches {found.height} runs, which differ in {in_what or 'nothing a selector can name'}"
        )
        add = " and ".join(f"{key}=…" for key in differing) or "a run id"
        raise SelectorError(msg, fix=f"add {add} (batch=max or batch=best choose by batch)")
    return store.row(found["run_id"][0])


def latest(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the runs without those that a later one of the same configuration and source replaces."""
    # A diffusion run's batch is part of what was asked; an LLM run's achieved batch is an outcome.
    asked = pl.when(pl.col("max_num_seqs").is_null()).then(pl.col("batch_size")).alias("batch_asked")
    return (
        frame.with_columns(asked)
        .unique([*_CONFIGURATION, "source"], keep="last", maintain_order=True)
        .drop("batch_asked")
    )


def _with_batch(found: pl.DataFrame, parsed: Selector) -> pl.DataFrame:
    batch = parsed.values.get("batch")
    if batch is None or found.is_empty():
        return found
    ceilings = found.with_columns(BATCH_CEILING)
    if batch == "max":
        chosen = ceilings.filter(pl.col("batch_ceiling") == pl.col("batch_ceiling").max())
    elif batch == "best":
        chosen = ceilings.filter(pl.col("energy_per_output_j") == pl.col("energy_per_output_j").min()).head(1)
    else:
        chosen = ceilings.filter(pl.col("batch_ceiling") == _number("batch", batch))
    if chosen.is_empty():
        there = _values_of(ceilings, "batch")
        msg = f"no run of {parsed.text!r} has batch {batch}"
        raise SelectorError(msg, fix=f"batch there is one of: {there}")
    return chosen.drop("batch_ceiling")


def condition(frame: pl.DataFrame, key: str, value: str) -> pl.Expr:
    """Return the condition that a selector's pair puts on the run table (with ``BATCH_CEILING`` for ``batch``)."""
    if key == "batch":
        return pl.col("batch_ceiling") == _number(key, value)
    if key in _NUMBER_KEYS:
        return pl.col(_NUMBER_KEYS[key]) == _number(key, value)
    if key == "model":
        return _model_condition(frame, value)
    column = _TEXT_KEYS[key]
    return _matching(frame, [column], value, key)


def _model_condition(frame: pl.DataFrame, value: str) -> pl.Expr:
    """Match a model by id, by the id's last part, or by nickname; never by a mere piece of a name."""
    short = [v for v in frame["model_id"].unique() if _fold(v.rsplit("/")[-1]) == _fold(value)]
    if short:
        return pl.col("model_id").is_in(short)
    return _matching(frame, ["model_id", "nickname"], value, "model")


def _matching(frame: pl.DataFrame, columns: list[str], value: str, kind: str) -> pl.Expr:
    wanted = _fold(value)
    known = {c: [v for v in frame[c].unique() if v is not None] for c in columns}
    hits = {c: [v for v in values if _fold(v) == wanted] for c, values in known.items()}
    if not any(hits.values()):
        raise UnknownNameError(kind, value, [v for values in known.values() for v in values])
    return pl.any_horizontal([pl.col(c).is_in(values) for c, values in hits.items()])


def _fold(name: str) -> str:
    """Reduce a name to what people remember of it: letters, digits, dots, slashes; no case."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def _number(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        also = ", max or best" if key == "batch" else ""
        msg = f"{key}={text} is not a positive number{also}"
        raise SelectorError(msg)
    return number


def _distinct(frame: pl.DataFrame, key: str) -> list[str]:
    column = {"batch": "batch_ceiling", "model": "model_id", **_TEXT_KEYS, **_NUMBER_KEYS}[key]
    values = frame[column].drop_nulls().unique().sort().to_list()
    return [f"{v:g}" if isinstance(v, float) else str(v) for v in values]


def _values_of(frame: pl.DataFrame, key: str) -> str:
    values = _distinct(frame if key != "batch" else frame.with_columns(BATCH_CEILING), key)
    return ", ".join(values[:12]) + (" …" if len(values) > 12 else "") if values else "not stated"
