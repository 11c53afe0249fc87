"""The page of the recommendation: the least energy that keeps the limits."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from joulemap.cli.choice_options import LimitOptions, constraints_of
from joulemap.optimize.choice import Recommendation, recommend
from joulemap.report.document import Document
from joulemap.report.documents.recommendation import recommendation_document
from joulemap.report.payloads.recommendation import RecommendationPayload
from joulemap.store.run_store import RunStore
from joulemap.store.selector import find_run
from joulemap.web.answers import Answer, documented, respond
from joulemap.web.documents import document_answer
from joulemap.web.pages.frontier import AskedScope, kept_frontier, scope_choices
from joulemap.web.runs_at_hand import RunsAtHand

router = APIRouter()

_TEXT = 100


class AskedRecommendation(AskedScope):
    """A scope, limits, and what is served now."""

    current: str | None = Field(None, max_length=500, description="What is served now: a run id, or a selector.")
    itl: str | None = Field(None, max_length=_TEXT, description="Median inter-token latency at most, such as 50ms.")
    itl_p99: str | None = Field(None, max_length=_TEXT, description="Its 99th percentile at most.")
    ttft: str | None = Field(None, max_length=_TEXT, description="Median time to first token at most.")
    latency: str | None = Field(None, max_length=_TEXT, description="Latency of a request or batch at most.")
    throughput: float | None = Field(None, gt=0, allow_inf_nan=False, description="Outputs per second at least.")
    gpus_available: str | None = Field(None, max_length=500, description="GPUs at hand, such as H100=8,B200=4.")
    memory: str | None = Field(None, max_length=_TEXT, description="Memory of a GPU that may be taken: 80GB.")
    quality_floor: str | None = Field(None, max_length=_TEXT, description="Narrowest weights, or fewest steps.")
    confidence: float = Field(0.9, gt=0, lt=1, description="How surely each limit has to be kept.")

    def limits(self) -> LimitOptions:
        """Return the limits asked for."""
        names = (
            *("itl", "itl_p99", "ttft", "latency", "throughput", "gpus_available", "memory"),
            *("quality_floor", "confidence"),
        )
        return LimitOptions(**{name: getattr(self, name) for name in names})


@router.get("/recommend", summary="Recommendation", **documented("joulemap recommend --json"))
async def recommend_page(request: Request, asked: Annotated[AskedRecommendation, Query()]) -> Response:
    """Recommend the configuration of least energy under limits, and say what it buys."""
    runs: RunsAtHand = request.app.state.runs

    def answer(store: RunStore) -> Answer:
        frame = store.non_empty_frame()
        wanted = asked
        if asked.current is not None and "=" not in asked.current:
            run = find_run(store, asked.current)
            wanted = asked.model_copy(
                update={"model": asked.model or run["model_id"], "task": asked.task or run["task"]}
            )
        scope = wanted.scope(frame)

        def found() -> Recommendation:
            constraints = constraints_of(asked.limits())
            return runs.kept(
                ("recommend", scope, repr(constraints), asked.current),
                lambda s: recommend(scope, constraints, current=asked.current, store=s),
            )

        if asked.format == "json":
            return Answer(payload=found().to_json(), template="recommend.html")

        def make() -> Document:
            around = kept_frontier(runs, scope, None)
            return recommendation_document(RecommendationPayload(recommendation=found(), frontier=around))

        more = {"asked": asked, "scope": scope, **scope_choices(frame, scope)}
        return document_answer(request, "recommend.html", make, **more)

    return await respond(request, asked, answer)
