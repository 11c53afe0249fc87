"""Documents of the study's own runs, and of a run whose names are hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from joulemap.report.document import Document
from joulemap.report.report import report
from joulemap.store.run_store import RunStore, open_store
from tests.builders import llm_run

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
