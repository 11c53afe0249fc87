"""A visit with a real browser: every page, wide and narrow, without a complaint of console or axe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from joulemap.store.run_store import RunStore
from joulemap.study.figures import draw, save_chart
from tests.web.conftest import CHROMIUM
from tests.web.test_pages import RUN, A, B

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe_module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="scripts/install_test_tools.sh installs Chromium"),
]

DESK_PX, TELEPHONE_PX = 1440, 390
SERIOUS = {"serious", "critical"}
PLANNING_MS = PATIENCE_MS = 120_000
PAGES = {
    "home": "/",
    "runs": "/runs?task=gpqa&gpu=B200",
    "run": f"/runs/{RUN}",
    "explain": f"/explain?a={A}&b={B}",
    "explain, empty": "/explain",
    "what if": "/what-if?model=Qwen/Qwen3-32B&gpu=H100&gpus=2&batch=64",
    "frontier": "/frontier?model=Qwen/Qwen3-32B&task=gpqa&measured_only=true",
    "recommend": "/recommend?model=Qwen/Qwen3-32B&task=gpqa&itl=50ms",
    "plan": "/plan",
    "study": "/study",
    "live": "/live",
    "standing out": "/standing-out",
    "API": "/api",
    "error": "/runs/aaaa",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, study_site: str) -> Iterator[Any]:
    """A page 1440 px wide that fails the test for any error on the console."""
    with visiting(browser, study_site, DESK_PX, {}) as page:
        yield page


class visiting:  # noqa: N801 — reads as a statement
    """Opens a page, and closes it with a look at what the console said."""

    def __init__(self, browser: Any, base: str, width_px: int, options: dict[str, Any]) -> None:
        self._context = browser.new_context(
            base_url=base, viewport={"width": width_px, "height": 900}, accept_downloads=True, **options
        )
        self.said: list[str] = []

    def __enter__(self) -> Any:
        page = self._context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        return page

    def __exit__(self, kind: object, *_rest: object) -> None:
        self._context.close()
        if kind is None:
            assert self.said == []

    def _heard(self, message: Any) -> None:
        # A page that answers with an error status is told on the console too, which is no fault of the page.
        if message.type == "error" and "the server responded with a status of 4" not in message.text:
            self.said.append(message.text)


def drawn(page: Any) -> None:
    """Wait until every chart has been drawn; the pages' policy lets no predicate of text be evaluated there."""
    for chart in page.locator("[data-chart]").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg").first.wait_for()


@pytest.mark.parametrize("name", PAGES)
def test_each_page_fits_and_is_accessible_at_a_desk_and_on_a_telephone(
    browser: Any, study_site: str, name: str
) -> None:
    with visiting(browser, study_site, DESK_PX, {}) as page:
        page.goto(PAGES[name])
        page.locator("[data-later] > .muted").wait_for(state="detached", timeout=PATIENCE_MS)
        for width_px, scheme in ((DESK_PX, "light"), (TELEPHONE_PX, "dark")):
            page.set_viewport_size({"width": width_px, "height": 900})
            page.emulate_media(color_scheme=scheme)
            drawn(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width_px
            found = axe_module.Axe().run(page).response["violations"]
            assert [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in SERIOUS] == []


@pytest.mark.parametrize("format", ["svg", "html"])
def test_a_figure_in_a_file_fits_a_telephone(
    browser: Any, study_store: RunStore, tmp_path: Path, format: str
) -> None:
    path = save_chart(draw(study_store.frame, "unlocked-batch"), tmp_path / f"figure.{format}")
    with visiting(browser, "http://127.0.0.1", TELEPHONE_PX, {}) as page:
        page.goto(path.as_uri())
        page.locator("svg").first.wait_for(timeout=PATIENCE_MS)
        assert page.evaluate("document.documentElement.scrollWidth") <= TELEPHONE_PX
        box = page.locator("svg").first.bounding_box()
        assert TELEPHONE_PX / 2 < box["width"] <= TELEPHONE_PX
        assert box["height"] < box["width"] * 1.5


def test_two_runs_are_ticked_and_explained(visit: Any) -> None:
    visit.goto("/runs?task=gpqa&model=Qwen%2FQwen3-32B")
    button = visit.get_by_role("button", name="Explain the two that are ticked")
    assert button.is_disabled()
    boxes = visit.locator("input[name=run]")
    boxes.nth(0).check()
    boxes.nth(3).check()
    boxes.nth(5).check()  # the first is let go
    assert not boxes.nth(0).is_checked()
    button.click()
    visit.wait_for_url("**/explain?a=*")
    visit.get_by_role("heading", name=re.compile("Why A takes")).wait_for()
    drawn(visit)
    assert visit.locator("[data-chart] svg").count() >= 1


def test_a_slider_moves_the_prediction_and_the_address(visit: Any) -> None:
    visit.goto("/what-if?model=Qwen/Qwen3-32B&gpu=H100&gpus=2&batch=8")
    before = visit.locator("#answer .summary").inner_text()
    slider = visit.get_by_label("Batch: requests that run together, slider")
    slider.focus()
    with visit.expect_response(lambda r: "batch=" in r.url):
        for _ in range(3):
            slider.press("ArrowRight")
    visit.wait_for_function("old => document.querySelector('#answer .summary').innerText !== old", arg=before)
    visit.wait_for_url("**batch=64**")
    assert "at a batch of 64" in visit.locator("#answer .summary").inner_text()
    visit.get_by_role("link", name="Compare changes with this").click()
    visit.get_by_label("GPUs", exact=True).fill("4")
    visit.get_by_text("energy per output against").wait_for()


def test_a_fleet_is_planned_and_its_report_downloaded(visit: Any, tmp_path: Path) -> None:
    visit.goto(
        "/plan?cap_kw=10&gpu=H100&count=8&task=lm-arena-chat&requests_per_s=10&model=Qwen%2FQwen3-32B&itl_ms=50"
    )
    visit.get_by_label("Facility power cap (kW)").fill("5")
    visit.get_by_role("button", name="Plan").first.click()
    visit.wait_for_url("**cap_kw=5&**", timeout=PLANNING_MS)
    drawn(visit)
    with visit.expect_download(timeout=PLANNING_MS) as waiting:
        visit.get_by_role("link", name="Download the report").click()
    waiting.value.save_as(tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    assert waiting.value.suggested_filename == "joulemap-plan.html"
    assert "<svg" in report
    assert len(report) < 3_000_000


def test_a_plan_file_is_planned(visit: Any) -> None:
    visit.goto("/plan")
    visit.get_by_text("By plan file (TOML)").click()
    visit.get_by_label("Plan file").fill("[[sites]]\nname = 1")
    visit.get_by_role("button", name="Plan").click()
    visit.get_by_role("alert").wait_for()
    assert "sites" in visit.get_by_role("alert").inner_text()


def test_a_run_is_downloaded_as_a_report(visit: Any, tmp_path: Path) -> None:
    visit.goto(f"/runs/{RUN}")
    with visit.expect_download() as waiting:
        visit.get_by_role("link", name="Download the report").click()
    waiting.value.save_as(tmp_path / "run.html")
    assert "Qwen 3 32B" in (tmp_path / "run.html").read_text()


def test_the_pages_work_without_scripts(browser: Any, study_site: str) -> None:
    with visiting(browser, study_site, DESK_PX, {"java_script_enabled": False}) as page:
        page.goto("/what-if?model=Qwen/Qwen3-32B&gpu=H100&gpus=2")
        page.get_by_label("Batch: requests that run together", exact=True).fill("16")
        page.get_by_role("button", name="Predict").click()
        page.get_by_text("at a batch of 16").wait_for()
