"""The planner: which fleet under which power cap, from a form or from a plan file."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from joulemap.catalog import load_catalog
from joulemap.errors import JoulemapError, UsageError
from joulemap.plan.fleet import FleetPlan, plan_fleet
from joulemap.plan.plan_file import EXAMPLE, parse_plan
from joulemap.plan.spec import Objective
from joulemap.report.document import Document
from joulemap.report.documents.plan import bare_plan_document
from joulemap.store.run_store import RunStore, open_store
from joulemap.web.answers import Answer, Asked, documented, respond
from joulemap.web.documents import document_answer
from joulemap.web.download import Download, download, report_documented
from joulemap.web.plan_form import MOST_ROWS, ROWS_SHOWN, PlanFields, demands, pools

router = APIRouter()

PROGRAM_LIMIT_S = 10.0
"""Longest that one of a plan's programs may take; the whole plan is bounded by the application's limit."""


class AskedPlan(Asked, PlanFields):
    """A plan, and in which form it is wanted."""


class AskedPlanReport(Download, PlanFields):
    """A plan, and in which form its report is wanted."""


@router.get("/plan", summary="Plan", **documented("joulemap plan --json"))
async def plan_page(request: Request, asked: Annotated[AskedPlan, Query()]) -> Response:
    """Plan a fleet under a power cap: which replicas run where, what they serve, what holds them back."""
    if not asked.is_asked:
        if asked.format == "json":
            raise _nothing_asked()
        return await respond(request, asked, lambda store: _form(store, asked))
    made, problem = None, None
    try:
        made = await planned(request, asked)
    except JoulemapError as error:
        if asked.format == "json":
            raise
        problem = error

    def make() -> Document:
        if made is None:
            raise problem or _nothing_asked()
        return bare_plan_document(made)

    def answer(store: RunStore) -> Answer:
        if made is not None and asked.format == "json":
            return Answer(payload=made.to_json(), template="plan.html")
        fields = urlencode(asked.model_dump(exclude_defaults=True), doseq=True)
        return document_answer(request, "plan.html", make, **_offered(store, asked), fields=fields)

    return await respond(request, asked, answer)


@router.get("/plan/report", summary="The report on a plan", **report_documented("joulemap report PLAN"))
async def plan_report(request: Request, asked: Annotated[AskedPlanReport, Query()]) -> Response:
    """Give the report on a plan as a file."""
    if not asked.is_asked:
        raise _nothing_asked()
    made = await planned(request, asked)
    return await download(request, asked.format, lambda _store: bare_plan_document(made), "joulemap-plan")


def _nothing_asked() -> UsageError:
    msg = "no plan is asked for"
    return UsageError(msg, fix="give toml, the text of a plan file, or cap_kw, gpu, count, task and requests_per_s")


async def planned(request: Request, asked: PlanFields) -> FleetPlan:
    """Return the plan; made in a process of its own, which is ended if it takes too long.

    Raises:
        UsageError: The form is half filled in.
        InputError: Something in the plan is wrong; says where.
        BusyError: It took too long.
    """
    state: Any = request.app.state
    text = asked.text()
    key = ("plan", text, asked.objective, asked.confidence)
    made: FleetPlan | None = state.runs.peek(key)
    if made is None:
        parse_plan(text)  # what is wrong in it is told at once
        made = await state.work.run_apart(make_plan, state.settings.store, text, asked.objective, asked.confidence)
        state.runs.kept(key, lambda _store: made)
    return made


def make_plan(location: str | None, text: str, objective: Objective | None, confidence: float | None) -> FleetPlan:
    """Return the plan that a plan file asks for, over the runs of a store."""
    spec = parse_plan(text)
    wanted = replace(spec, objective=objective or spec.objective, confidence=confidence or spec.confidence)
    store = _opened(location)
    store.refresh()
    return plan_fleet(wanted, store.non_empty_frame(), time_limit_s=PROGRAM_LIMIT_S)


@lru_cache(maxsize=1)
def _opened(location: str | None) -> RunStore:
    return open_store(location)


def _form(store: RunStore, asked: PlanFields) -> Answer:
    return Answer(payload=None, template="plan_form.html", shown=_offered(store, asked))


def _offered(store: RunStore, asked: PlanFields) -> dict[str, Any]:
    frame = store.non_empty_frame().filter("valid")
    facts = load_catalog()
    own_pools = pools(asked) or [("H100", "64"), ("B200", "32")]
    own_demands = demands(asked) or [("lm-arena-chat", "40", "", "50"), ("gpqa", "2", "", "")]
    empty = max(0, min(ROWS_SHOWN, MOST_ROWS - max(len(own_pools), len(own_demands))))
    return {
        "asked": asked,
        "toml": _file_text(asked),
        "pools": [*own_pools, *[("", "")] * min(empty, 1)],
        "demands": [*own_demands, *[("", "", "", "")] * empty],
        "gpu_models": list(facts.gpus),
        "tasks": frame["task"].drop_nulls().unique().sort().to_list(),
        "models": frame["model_id"].drop_nulls().unique().sort().to_list(),
    }


def _file_text(asked: PlanFields) -> str:
    """Return the plan file that means what the form says, or an example."""
    try:
        return asked.text() if asked.is_asked else EXAMPLE
    except UsageError:
        return EXAMPLE
