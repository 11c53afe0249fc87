"""The main values show themselves in notebooks."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module

import pytest

import joulemap as jm
from joulemap.notebook import ShownInNotebooks
from joulemap.report.renderers import notebook
from joulemap.store.run_store import RunStore
from joulemap.store.schema import runs_to_frame
from tests.builders import llm_run
from tests.report import values
from tests.report.conftest import MARKUP
from tests.report.test_html import Page, faults

RUNS = runs_to_frame(
    [
        llm_run(model_id=model, batch=batch, gpu_model=gpu, energy_j=energy)
        for model, share in ((MARKUP, 1.0), ("org/model-8b", 0.5))
        for batch, gpu, energy in ((8.0, "H100", share), (16.0, "B200", 0.6 * share))
    ],
    stored_at=datetime.now(UTC),
)
SHOWN: dict[str, ShownInNotebooks] = {
    "run": llm_run(model_id=MARKUP),
    "diagnosis": values.diagnosis(),
    "explanation": values.explanation(),
    "plan": values.plan(),
    "simulation": values.simulation(),
    "budget": jm.energy_budget(RUNS, jm.EnergyBudget(energy_j=60.0)),
    "breakdown": jm.breakdown(RUNS, by="model"),
    "GPU comparison": jm.compare_gpus(RUNS, ["H100", "B200"]),
}


@pytest.mark.parametrize("name", SHOWN)
def test_values_show_themselves(name: str) -> None:
    html = SHOWN[name]._repr_html_()
    assert html is not None
    assert faults(html) == []
    assert "<h2" in html
    assert ":root" not in html  # its rules hold within the output only


def test_predictions_and_choices_show_themselves(study_store: RunStore) -> None:
    scope = jm.Scope(model="Qwen/Qwen3-32B", task="gpqa", gpu_counts=(1,))
    estimate = jm.predict(
        jm.Workload(task="gpqa", mean_output_tokens=500.0),
        jm.Deployment(model_id="Qwen/Qwen3-32B", gpu_model="H200", num_gpus=1),
        batch_size=32.0,
    )
    for value in (estimate, jm.frontier(scope, store=study_store), jm.recommend(scope, store=study_store)):
        html = value._repr_html_()
        assert html is not None
        assert faults(html) == []


def test_two_outputs_on_a_page_do_not_clash() -> None:
    pages = [values.diagnosis()._repr_html_() or "" for _ in range(2)]
    assert faults("".join(pages)) == []


def test_markup_in_names_is_shown_as_text() -> None:
    for name in ("run", "budget", "breakdown", "GPU comparison"):
        html = SHOWN[name]._repr_html_()
        assert html is not None
        assert MARKUP[MARKUP.index("<img") :] in " ".join(Page(html).texts)


def test_without_the_extra_values_show_their_repr() -> None:
    program = (
        "import sys; sys.modules['altair'] = None\n"
        "from tests.builders import llm_run\n"
        "assert llm_run()._repr_html_() is None"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("target", notebook.DOCUMENTS)
def test_every_kind_of_value_is_found(target: str) -> None:
    module, _, name = target.rpartition(".")
    assert issubclass(getattr(import_module(module), name), ShownInNotebooks)
    assert callable(pkgutil.resolve_name(notebook.DOCUMENTS[target]))
