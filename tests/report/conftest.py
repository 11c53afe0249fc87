"""Documents of the study's own runs, and of a run whose names are hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from joulemap.optimize.constraints import Constraints
from joulemap.report.document import Document
from joulemap.report.documents.plan import plan_document
from joulemap.report.payloads.plan import PlanPayload
from joulemap.report.report import report
from joulemap.store.run_store import RunStore, open_store
from tests.builders import llm_run
from tests.report import values

MARKUP = "org/<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}](x)|*b*"
"""A model name that would run, load, or format something wherever it is not escaped."""
PROBLEM = "task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max"
CHAT = "task=lm-arena-chat,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max"


@pytest.fixture(scope="session")
def hostile_store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A store with a batch curve of a model whose name is markup, in two tasks."""
    store = open_store(tmp_path_factory.mktemp("hostile") / "store")
    store.add(
        [
            llm_run(task=task, model_id=MARKUP, nickname=MARKUP, batch=batch, energy_j=energy / batch**0.5)
            for task, energy in (("<b>chat</b>", 1.0), ("code", 2.0))
            for batch in (8.0, 16.0, 32.0)
        ]
    )
    return store


@pytest.fixture(scope="session")
def run_report(study_store: RunStore) -> Document:
    """The report on one of the study's runs."""
    return report(PROBLEM, store=study_store)


@pytest.fixture(scope="session")
def explanation_report(study_store: RunStore) -> Document:
    """The report on two of the study's runs."""
    return report(PROBLEM, CHAT, store=study_store)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where reports are written."""
    return tmp_path / "reports"


@pytest.fixture(scope="session")
def sweep_report(study_store: RunStore) -> Document:
    """The report on a model at a task on every GPU of the study."""
    return report("task=gpqa,model=Qwen/Qwen3-32B", store=study_store)


@pytest.fixture(scope="session")
def frontier_report(study_store: RunStore) -> Document:
    """The report on a frontier."""
    return report("frontier", "task=gpqa,model=Qwen/Qwen3-32B", store=study_store)


@pytest.fixture(scope="session")
def recommendation_report(study_store: RunStore) -> Document:
    """The report on a recommendation, with what is served now."""
    return report(
        *("recommendation", "task=lm-arena-chat,model=Qwen/Qwen3-32B,gpus=1"),
        store=study_store,
        constraints=Constraints(itl_median_s=0.05),
        current="gpu=H100,gpus=2,batch=64",
    )


@pytest.fixture(scope="session")
def simulation_report() -> Document:
    """The report on a plan and its simulation, both made by hand."""
    return plan_document(PlanPayload(name="plan.toml", plan=values.plan(), simulation=values.simulation()))


@pytest.fixture(scope="session")
def study_report(study_store: RunStore) -> Document:
    """The report on the study."""
    return report("study", store=study_store)
