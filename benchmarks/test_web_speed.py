"""Pages of the web application over all 1,858 runs: on the server, and in a browser until everything is drawn.

Run with ``pytest benchmarks/test_web_speed.py --benchmark-enable -s``. On the server CPU time counts, which other
jobs of the machine change little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from starlette.testclient import TestClient

from benchmarks.test_study_speed import data, report, store  # noqa: F401 — fixtures
from joulemap.store.run_store import RunStore
from joulemap.web.app import make_app
from joulemap.web.settings import Settings
from tests.web.conftest import CHROMIUM, serving

SERVER_LIMIT_S, BROWSER_LIMIT_S, WHAT_IF_LIMIT_S = 0.3, 1.5, 0.1
RUN = "297538591541"
PAGES = ["/", "/runs", "/runs?sort=energy_per_output_j&gpu=B200", f"/runs/{RUN}", "/explain", "/plan", "/live"]
BATCHES = iter(range(1, 100_000))


@pytest.fixture(scope="module")
def site(store: RunStore) -> Iterator[TestClient]:  # noqa: F811
    with TestClient(make_app(Settings(store=store.address)), base_url="http://127.0.0.1") as client:
        client.get("/standing-out")
        yield client


def cpu_timer() -> float:
    return time.process_time()


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.benchmark(timer=cpu_timer)
def test_page_on_the_server(benchmark: BenchmarkFixture, site: TestClient, path: str) -> None:
    def ask() -> None:
        assert site.get(path, headers={"accept": "text/html"}).status_code == 200

    benchmark.pedantic(ask, rounds=5, warmup_rounds=2)  # type: ignore[no-untyped-call]
    report(f"{path}, CPU", benchmark, SERVER_LIMIT_S)


@pytest.mark.benchmark(timer=cpu_timer)
def test_what_if_on_the_server(benchmark: BenchmarkFixture, site: TestClient) -> None:
    def ask() -> None:
        # Another batch each time: what was computed before is kept.
        query = f"/what-if?model=Qwen/Qwen3-32B&gpu=H100&gpus=2&batch={next(BATCHES)}"
        answer = site.get(query, headers={"accept": "text/html", "x-joulemap-part": "answer"})
        assert answer.status_code == 200

    benchmark.pedantic(ask, rounds=20, warmup_rounds=3)  # type: ignore[no-untyped-call]
    report("a slider's answer, CPU", benchmark, WHAT_IF_LIMIT_S)


@pytest.mark.skipif(not CHROMIUM.exists(), reason="scripts/install_test_tools.sh installs Chromium")
@pytest.mark.parametrize("path", ["/", "/runs", f"/runs/{RUN}"])
def test_page_in_the_browser(benchmark: BenchmarkFixture, store: RunStore, path: str) -> None:  # noqa: F811
    from playwright.sync_api import sync_playwright

    with serving("--store", store.address) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{address}/standing-out")

        def visit() -> None:
            page.goto(f"{address}{path}", wait_until="load")
            for chart in page.locator("[data-chart]").all()[:1]:
                chart.locator("svg").first.wait_for()
            page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

        benchmark.pedantic(visit, rounds=5, warmup_rounds=1)  # type: ignore[no-untyped-call]
        browser.close()
    report(f"{path} in Chromium, wall", benchmark, BROWSER_LIMIT_S)
