"""The page of what-if: move a slider, see energy, speed and memory follow."""

from __future__ import annotations

import shlex
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field, ValidationError
from starlette.responses import Response

from joulemap.catalog import DiffusionArchitecture, load_catalog
from joulemap.errors import JoulemapError, UsageError
from joulemap.predict.asked import for_task
from joulemap.predict.prepare import DEFAULT_OUTPUT_TOKENS
from joulemap.predict.single import predict
from joulemap.records import Deployment, Workload
from joulemap.records.estimate import Estimate
from joulemap.report.document import Document
from joulemap.report.documents.estimate import estimate_document
from joulemap.web.answers import Answer, Asked, documented, respond
from joulemap.web.documents import document_answer

router = APIRouter()

BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
GPUS = (1, 2, 4, 8, 16)
TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
STEPS = (1, 2, 4, 8, 10, 15, 20, 25, 28, 30, 40, 50, 75, 100)
PRECISIONS = ("bf16", "fp8", "mxfp4", "nvfp4", "int8", "int4")
"""Values that the sliders step through; the fields beside them take any."""
MOST = 10_000_000
_NOT_SETTINGS = {"format", "before"}


class AskedPrediction(Asked):
    """A configuration, and another to compare it with."""

    model_config = ConfigDict(frozen=True)

    model: str = Field("Qwen/Qwen3-32B", max_length=200, description="Catalog id or nickname of the model.")
    gpu: str = Field("H100", max_length=100, description="GPU model.")
    gpus: int = Field(1, ge=1, le=100_000, description="Number of GPUs.")
    precision: str | None = Field(None, max_length=50, description="Of the weights; the model's own by default.")
    task: str | None = Field(None, max_length=100, description="A task of the study: it sets lengths and modality.")
    batch: float | None = Field(
        None, ge=0.01, le=MOST, allow_inf_nan=False, description="Requests that run together."
    )
    input_tokens: float | None = Field(None, ge=1, le=MOST, allow_inf_nan=False, description="Mean prompt length.")
    output_tokens: float | None = Field(None, ge=1, le=MOST, allow_inf_nan=False, description="Mean reply length.")
    steps: int | None = Field(None, ge=1, le=10_000, description="Denoising steps.")
    engine_version: str | None = Field(
        None, max_length=50, description="Version of vLLM, for example 0.25.1; the study's by default."
    )
    before: str | None = Field(
        None, max_length=2000, description="The query of another configuration, to compare this one with."
    )

    def settings(self) -> dict[str, Any]:
        """Return what was set, by field."""
        return self.model_dump(exclude_none=True, exclude=_NOT_SETTINGS)

    def command(self) -> str:
        """Return the command that predicts the same."""
        words = ["joulemap predict"]
        for name, value in self.settings().items():
            text = f"{value:g}" if isinstance(value, float) else str(value)
            words.append(f"--{name.replace('_', '-')} {shlex.quote(text)}")
        return " ".join(words)


@router.get("/what-if", summary="What if", **documented("joulemap predict --json"))
async def what_if_page(request: Request, asked: Annotated[AskedPrediction, Query()]) -> Response:
    """Predict energy, power, latency and throughput of a configuration that nobody has measured."""
    return await respond(request, asked, lambda _store: answer_of(request, asked))


def answer_of(request: Request, asked: AskedPrediction) -> Answer:
    """Return the prediction; computed once for each configuration.

    Raises:
        InfeasibleError: The weights do not fit on the GPUs.
        UsageError: A name is unknown, or ``before`` is no query of this page.
    """
    settings = _settings_of(asked)
    compared = None if asked.before is None else _before(asked.before)
    if asked.format == "json":
        return Answer(payload=estimate_of(settings).to_json(), template="what_if.html")
    try:
        estimate = estimate_of(settings)
    except JoulemapError:
        estimate = None  # told where the document is made

    def make() -> Document:
        before = None if compared is None else estimate_of(compared)
        return estimate_document(estimate_of(settings), before)

    more = {"asked": asked, "here": urlencode(asked.settings()), "command": asked.command()}
    return document_answer(request, "what_if.html", make, **more, **form(asked, estimate))


@lru_cache(maxsize=256)
def estimate_of(asked: AskedPrediction) -> Estimate:
    """Return the prediction of a configuration; errors as ``predict``."""
    workload = Workload(
        mean_input_tokens=asked.input_tokens, mean_output_tokens=asked.output_tokens, inference_steps=asked.steps
    )
    if asked.task is not None:
        workload = for_task(workload, asked.task)
    deployment = Deployment(
        model_id=load_catalog().model(asked.model).id,
        gpu_model=asked.gpu,
        num_gpus=asked.gpus,
        weight_precision=asked.precision,
        engine=None if asked.engine_version is None else "vllm",
        engine_version=asked.engine_version,
    )
    return predict(workload, deployment, batch_size=asked.batch)


def form(asked: AskedPrediction, estimate: Estimate | None) -> dict[str, Any]:
    """Return what the form offers; a field that is not set shows what follows from the others."""
    facts = load_catalog()
    kinds = {name: isinstance(m, DiffusionArchitecture) for name, m in facts.models.items()}
    effective = {} if estimate is None else {name: q.value for name, q in estimate.latents.items()}
    chosen = asked.model if estimate is None else estimate.deployment.model_id
    sliders = [_slider(asked, "batch", "Batch: requests that run together", BATCHES, effective.get("batch_size"))]
    sliders.append(_slider(asked, "gpus", "GPUs", GPUS, 1))
    if kinds.get(chosen, False):
        sliders.append(_slider(asked, "steps", "Denoising steps", STEPS, None))
    else:
        stated = None if estimate is None else estimate.workload.mean_output_tokens
        lengths = stated or DEFAULT_OUTPUT_TOKENS
        sliders.append(
            _slider(asked, "input_tokens", "Prompt length (tokens)", TOKENS, effective.get("mean_input_tokens"))
        )
        sliders.append(_slider(asked, "output_tokens", "Reply length (tokens)", TOKENS, lengths))
    names = sorted(kinds, key=str.casefold)
    return {
        "groups": {
            "Language and multimodal": [name for name in names if not kinds[name]],
            "Images and video": [name for name in names if kinds[name]],
        },
        "model_id": chosen,
        "study_version": None if kinds.get(chosen, False) else facts.engine("vllm").version,
        "gpu_models": list(facts.gpus),
        "tasks": list(facts.tasks),
        "precisions": PRECISIONS,
        "sliders": sliders,
    }


def _slider(
    asked: AskedPrediction, name: str, label: str, values: tuple[int, ...], effective: float | None
) -> tuple[str, str, str, float | None, str]:
    shown = "" if effective is None else f"{effective:.4g}"
    return name, label, " ".join(map(str, values)), getattr(asked, name), shown


def _before(query: str) -> AskedPrediction:
    try:
        found = AskedPrediction.model_validate(dict(parse_qsl(query)))
    except ValidationError as error:
        msg = f"before={query!r} is no configuration: {error.errors()[0]['msg']}"
        fix = "before takes the query of this page, for example model=Qwen/Qwen3-32B&gpus=2"
        raise UsageError(msg, fix=fix) from error
    return _settings_of(found)


def _settings_of(asked: AskedPrediction) -> AskedPrediction:
    """Return a configuration without how it is to be shown, so that equal ones are computed once."""
    return asked.model_copy(update={"format": "html", "before": None})
