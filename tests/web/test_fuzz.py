"""Every address that OpenAPI tells, asked all kinds of values: no error of ours, always what is documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from joulemap.store.run_store import open_store
from joulemap.web.app import make_app
from joulemap.web.settings import Settings
from tests.builders import image_run, llm_run
from tests.web.conftest import serving

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
pytestmark = pytest.mark.slow

EXAMPLES = 15
PATHS = sorted(make_app(Settings()).openapi()["paths"])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("fuzz") / "store"
    runs = [llm_run(batch=b, energy_j=8.0 / b, model_id="Qwen/Qwen3-8B", task="gpqa") for b in (8.0, 16.0, 32.0)]
    open_store(folder).add([*runs, image_run(), llm_run(valid=False, batch=4.0)])
    with serving("--store", str(folder)) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("path", PATHS)
def test_no_address_fails(api: Any, path: str, mode: str) -> None:
    wanted = schemathesis.GenerationMode(mode)
    checks = schemathesis.checks
    expected = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
    @given(case=api[path]["GET"].as_strategy(generation_mode=wanted))
    def ask(case: Any) -> None:
        answer = case.call()
        case.validate_response(answer, checks=expected)

    ask()
