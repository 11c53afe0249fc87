"""The runs explorer: filter, sort, choose two to explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

import polars as pl
from fastapi import APIRouter, Query, Request
from pydantic import Field, JsonValue
from starlette.responses import Response

from joulemap.errors import UnknownNameError
from joulemap.report.numbers import figure
from joulemap.store.export import to_records
from joulemap.store.run_store import RunStore
from joulemap.store.schema import COLUMNS, energy_basis
from joulemap.store.selector import filtered, parse_selector
from joulemap.units import MS_PER_S
from joulemap.web.answers import Answer, Asked, documented, respond

router = APIRouter()

WORDS = {
    "nickname": "model",
    "task": "task",
    "gpu_model": "GPU",
    "weight_precision": "precision",
}
NUMBERS = {
    "num_gpus": "GPUs",
    "max_num_seqs": "ceiling",
    "batch_size": "batch",
    "energy_per_output_j": "J/output",
    "energy_per_request_j": "J/response",
    "power_w": "power (W)",
    "itl_median_s": "ITL (ms)",
}
"""Columns of the table, with their headings."""
ROWS_AT_ONCE = 60
"""Rows laid out together: a browser passes over those that are far out of sight."""
MOST_ROWS = 5_000
"""Rows of the page; the JSON has no such limit."""
SORTABLE: list[JsonValue] = [name for name, kind in COLUMNS.items() if not isinstance(kind, pl.List)]
_KEYS = ("task", "model", "gpu", "gpus", "precision", "batch", "engine", "source")
"""Fields of the form that are keys of a selector."""


class AskedRuns(Asked):
    """Which runs, in which order."""

    task: str | None = Field(None, description="Only this task.")
    model: str | None = Field(None, description="Only this model: id, last part of the id, or nickname.")
    gpu: str | None = Field(None, description="Only this GPU model.")
    gpus: int | None = Field(None, ge=1, le=1_000_000, description="Only this number of GPUs.")
    precision: str | None = Field(None, description="Only weights of this precision.")
    batch: int | None = Field(None, ge=1, le=1_000_000_000, description="Only this batch ceiling.")
    engine: str | None = Field(None, description="Only this engine.")
    source: str | None = Field(None, description="Only runs of this dataset or tool.")
    selector: str = Field("", description="Further selection, such as task=gpqa,gpu=B200,steps=28.")
    sort: str | None = Field(None, description="Column to sort by.", json_schema_extra={"enum": SORTABLE})
    descending: bool = Field(False, description="Largest first.")
    limit: int | None = Field(None, ge=1, le=1_000_000, description="At most this many.")
    include_invalid: bool = Field(False, description="Invalid runs too.")

    def text(self) -> str:
        """Return the selector that the fields mean together."""
        pairs = ((key, getattr(self, key)) for key in _KEYS)
        return ",".join(filter(None, (*(f"{k}={v}" for k, v in pairs if v is not None), self.selector)))

    def address(self, **changed: object) -> str:
        """Return the address of this page with some fields changed."""
        kept = {**self.model_dump(exclude_defaults=True), **changed}
        return "/runs?" + urlencode({name: value for name, value in kept.items() if value not in (None, False)})


@router.get(
    "/runs",
    summary="Runs",
    **documented("joulemap runs --json", {"type": "array", "items": {"type": "object"}}),
)
async def runs_page(request: Request, asked: Annotated[AskedRuns, Query()]) -> Response:
    """List the runs of the store: filter, sort, choose two to explain."""
    return await respond(request, asked, lambda store: runs_answer(store, asked))


def runs_answer(store: RunStore, asked: AskedRuns) -> Answer:
    """Return the runs that are asked for.

    Raises:
        UsageError: The selector means nothing, or the column is unknown.
    """
    frame = store.non_empty_frame()
    found = filtered(frame if asked.include_invalid else frame.filter("valid"), parse_selector(asked.text()))
    if asked.sort is not None:
        if asked.sort not in SORTABLE:
            kind = "column"
            raise UnknownNameError(kind, asked.sort, map(str, SORTABLE))
        found = found.sort(asked.sort, descending=asked.descending, nulls_last=True)
    found = found if asked.limit is None else found.head(asked.limit)
    if asked.format == "json":
        return Answer(payload=to_records(found), template="runs.html")
    return Answer(
        payload=None,
        template="runs.html",
        shown={
            "asked": asked,
            "rows": rows_of(found.head(MOST_ROWS)),
            "columns": {**WORDS, **NUMBERS},
            "words": tuple(WORDS),
            "found": found.height,
            "rows_at_once": ROWS_AT_ONCE,
            "total": frame.height,
            "invalid": frame.height - frame["valid"].sum(),
            "choices": choices(frame),
            "selector": asked.text(),
        },
    )


def rows_of(frame: pl.DataFrame) -> list[Mapping[str, Any]]:
    """Return the texts of the table's rows."""
    told = frame.select(
        "run_id",
        "task",
        pl.coalesce("nickname", "model_id").alias("nickname"),
        *("gpu_model", "weight_precision", "valid"),
        *NUMBERS,
    ).with_columns(pl.col("itl_median_s") * MS_PER_S)
    columns = {name: told[name].to_list() for name in told.columns}
    texts = {
        name: ["–" if v is None else figure(v) if isinstance(v, float) else str(v) for v in columns[name]]
        for name in (*WORDS, *NUMBERS)
    }
    return [
        {"run_id": run_id, "valid": valid, "basis": basis, "cells": cells}
        for run_id, valid, basis, *cells in zip(
            columns["run_id"], columns["valid"], energy_basis(frame), *texts.values(), strict=True
        )
    ]


def choices(frame: pl.DataFrame) -> dict[str, list[str]]:
    """Return what the form offers to filter by."""
    named = {"task": "task", "model": "model_id", "gpu": "gpu_model", "precision": "weight_precision"}
    return {key: frame[column].drop_nulls().unique().sort().to_list() for key, column in named.items()}
