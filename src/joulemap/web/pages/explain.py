"""The page that says why one run costs more energy than another."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import polars as pl
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from joulemap.diagnose.explain import QUANTITIES, explain, label
from joulemap.errors import UsageError
from joulemap.report.document import Document
from joulemap.report.documents.explanation import explanation_document
from joulemap.report.payloads.explanation import explanation_payload
from joulemap.store.run_store import RunStore
from joulemap.web.answers import Answer, Asked, documented, respond
from joulemap.web.documents import document_answer
from joulemap.web.download import Download, download, report_documented

router = APIRouter()

EXAMPLES = 5
A = Field(None, max_length=500, description="The run to explain: an id, or a selector that names one run.")
B = Field(None, max_length=500, description="The run to compare with, likewise.")
QUANTITY = Field(None, description="What to compare; energy per response by default.")
MEASURED_ONLY = Field(False, description="Leave knobs that changed together as one factor.")


class AskedExplanation(Asked):
    """Which two runs, and what of them."""

    a: str | None = A
    b: str | None = B
    quantity: str | None = QUANTITY
    measured_only: bool = MEASURED_ONLY


class AskedReport(Download):
    """Which two runs, and in which form the report is wanted."""

    a: str = Field(max_length=500, description="The run to explain.")
    b: str = Field(max_length=500, description="The run to compare with.")
    quantity: str | None = QUANTITY
    measured_only: bool = MEASURED_ONLY


@router.get("/explain", summary="Two runs, explained", **documented("joulemap explain A B --json"))
async def explain_page(request: Request, asked: Annotated[AskedExplanation, Query()]) -> Response:
    """Explain why run A costs more (or less) energy than run B, as factors that multiply to the measured ratio."""

    def answer(store: RunStore) -> Answer:
        if asked.a is None or asked.b is None:
            if asked.format == "json":
                msg = "two runs are needed, a and b"
                raise UsageError(msg, fix="/explain?a=RUN&b=RUN")
            more = {"asked": asked, "quantities": QUANTITIES, "examples": examples_of(store.frame)}
            return Answer(payload=None, template="explain_choose.html", shown=more)
        if asked.format == "json":
            found = explain(
                asked.a, asked.b, store=store, quantity=asked.quantity, measured_only=asked.measured_only
            )
            return Answer(payload=found.to_json(), template="explain.html")
        fields = asked.model_dump(exclude_defaults=True)
        swapped = {**fields, "a": asked.b, "b": asked.a}
        more = {
            "asked": asked,
            "quantities": QUANTITIES,
            "fields": urlencode(fields),
            "swapped": urlencode(swapped),
        }
        return document_answer(request, "explain.html", lambda: _document(store, asked), **more)

    return await respond(request, asked, answer)


@router.get("/explain/report", summary="The report on two runs", **report_documented("joulemap report A B"))
async def explain_report(request: Request, asked: Annotated[AskedReport, Query()]) -> Response:
    """Give the report on two runs as a file."""
    return await download(request, asked.format, lambda store: _document(store, asked), "joulemap-explanation")


def examples_of(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return pairs worth explaining: of one model on one GPU model, the runs of most and of least energy."""
    usable = frame.filter(pl.col("valid") & (pl.col("energy_per_request_j") > 0)).sort("energy_per_request_j")
    pairs = (
        usable.group_by("model_id", "gpu_model", "task")
        .agg(pl.first("run_id").alias("b"), pl.last("run_id").alias("a"))
        .filter(pl.col("a") != pl.col("b"))
        .sort("model_id", "gpu_model", "task")
    )
    rows = {
        row["run_id"]: row for row in usable.filter(pl.col("run_id").is_in([*pairs["a"], *pairs["b"]])).to_dicts()
    }
    found = [
        {
            "a": a,
            "b": b,
            "a_label": label(rows[a]),
            "b_label": label(rows[b]),
            "ratio": rows[a]["energy_per_request_j"] / rows[b]["energy_per_request_j"],
        }
        for a, b in pairs.select("a", "b").iter_rows()
    ]
    return sorted(found, key=lambda pair: -pair["ratio"])[:EXAMPLES]


def _document(store: RunStore, asked: AskedExplanation | AskedReport) -> Document:
    payload = explanation_payload(
        asked.a or "", asked.b or "", store=store, quantity=asked.quantity, measured_only=asked.measured_only
    )
    return explanation_document(payload)
