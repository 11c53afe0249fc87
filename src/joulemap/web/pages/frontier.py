"""The page of the time–energy frontier of a model at a task."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from joulemap.cli.choice_options import ScopeOptions, scope_of
from joulemap.optimize.scope import Scope
from joulemap.optimize.tradeoff import Frontier, TimeAxis, frontier
from joulemap.report.documents.frontier import frontier_document
from joulemap.store.run_store import RunStore
from joulemap.web.answers import Answer, Asked, documented, respond
from joulemap.web.documents import document_answer
from joulemap.web.runs_at_hand import RunsAtHand

router = APIRouter()


class AskedScope(Asked):
    """One model (in all its precisions) at one task, and which of its configurations."""

    model: str | None = Field(
        None, max_length=200, description="Model id or nickname; by default the most measured."
    )
    task: str | None = Field(None, max_length=100, description="A task of the store; the most measured by default.")
    gpu: list[str] = Field([], max_length=20, description="Only these GPU models.")
    gpus: list[Annotated[int, Field(ge=1, le=1_000_000)]] = Field(
        [], max_length=20, description="Only these numbers of GPUs."
    )
    precision: list[str] = Field([], max_length=20, description="Only weights of these precisions.")
    measured_only: bool = Field(False, description="Leave out what was interpolated or modelled.")

    def scope(self, frame: pl.DataFrame) -> Scope:
        """Return the scope asked for; the most measured model and task where none is named."""
        model, task = most_measured(frame, self.model, self.task)
        options = ScopeOptions(
            gpu=tuple(filter(None, self.gpu)),
            gpus=tuple(self.gpus),
            precision=tuple(filter(None, self.precision)),
            measured_only=self.measured_only,
        )
        return scope_of(model, task, options)


class AskedFrontier(AskedScope):
    """A scope, and the axis of time."""

    x: TimeAxis | None = Field(
        None, description="Axis of time; itl by default for text, latency for images and video."
    )


@router.get("/frontier", summary="Frontier", **documented("joulemap frontier --json"))
async def frontier_page(request: Request, asked: Annotated[AskedFrontier, Query()]) -> Response:
    """Show which configurations of a model nothing beats in time and energy at once."""
    runs: RunsAtHand = request.app.state.runs

    def answer(store: RunStore) -> Answer:
        frame = store.non_empty_frame()
        scope = asked.scope(frame)
        if asked.format == "json":
            return Answer(payload=kept_frontier(runs, scope, asked.x).to_json(), template="frontier.html")
        more = {"asked": asked, "scope": scope, **scope_choices(frame, scope)}
        return document_answer(
            request, "frontier.html", lambda: frontier_document(kept_frontier(runs, scope, asked.x)), **more
        )

    return await respond(request, asked, answer)


def kept_frontier(runs: RunsAtHand, scope: Scope, x: TimeAxis | None) -> Frontier:
    """Return the frontier of a scope, computed once; errors as of ``joulemap.frontier``."""
    return runs.kept(("frontier", scope, x), lambda store: frontier(scope, x=x, store=store))


def most_measured(frame: pl.DataFrame, model: str | None, task: str | None) -> tuple[str, str]:
    """Return model and task; what is not named is what most valid runs have, given the other; text goes first."""
    rows = frame.filter("valid").drop_nulls(["model_id", "task"])
    if model is not None:
        named = rows.filter((pl.col("model_id") == model) | (pl.col("nickname") == model))
        rows = named if named.height else rows
    if task is not None:
        named = rows.filter(pl.col("task") == task)
        rows = named if named.height else rows
    token = (pl.col("output_unit") == "token").first().alias("token")
    counted = rows.group_by("model_id", "task").agg(pl.len(), token)
    counted = counted.sort(["token", "len", "model_id", "task"], descending=[True, True, False, False])
    first = counted.row(0, named=True) if counted.height else {"model_id": "", "task": ""}
    return model or first["model_id"], task or first["task"]


def scope_choices(frame: pl.DataFrame, scope: Scope) -> dict[str, Any]:
    """Return what the form offers: the models and tasks of the store, and the GPU models that a task was run on."""
    valid = frame.filter("valid")
    of_model = valid.filter((pl.col("model_id") == scope.model) | (pl.col("nickname") == scope.model))

    def names(rows: pl.DataFrame, column: str) -> list[str]:
        return rows[column].drop_nulls().unique().sort().to_list()

    return {
        "models": names(valid, "model_id"),
        "tasks": names(of_model if of_model.height else valid, "task"),
        "gpu_models": names(valid, "gpu_model"),
        "is_text": "token" in valid.filter(pl.col("task") == scope.task)["output_unit"],
    }
