"""Reports as HTML: one file, no request, no script, every text shown as it is."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from joulemap.report.document import Document
from joulemap.report.renderers import html as html_renderer
from joulemap.report.renderers.html import html_fragment, html_page
from joulemap.report.report import report
from joulemap.store.run_store import RunStore
from tests.report.conftest import MARKUP

ALLOWED_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "section", "article"),
    *("h1", "h2", "h3", "p", "ul", "li", "a", "dl", "dt", "dd", "div", "span", "strong", "small", "figure"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    *("svg", "g", "path", "rect", "line", "circle", "text", "tspan", "defs", "clippath", "desc"),
}


REPORTS = [
    *("run_report", "explanation_report", "sweep_report", "frontier_report", "recommendation_report"),
    *("simulation_report", "study_report"),
]


class Page(HTMLParser):
    """What a browser would see in a page: its tags, attributes and texts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def faults(html: str) -> list[str]:
    """Return what a page has that could run, load or clash."""
    page = Page(html)
    found = [f"tag {tag}" for tag, _ in page.tags if tag not in ALLOWED_TAGS]
    ids = [value for _, attributes in page.tags for name, value in attributes.items() if name == "id"]
    found += [f"id {name} twice" for name in {i for i in ids if ids.count(i) > 1}]
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name.startswith("on") or name in ("src", "style", "srcset", "action"):
                found.append(f"{tag} {name}={value!r}")
            if name.endswith("href") and not str(value).startswith("#"):
                found.append(f"{tag} {name}={value!r}")
    return found


@pytest.mark.parametrize("name", REPORTS)
def test_pages_run_and_load_nothing(name: str, request: pytest.FixtureRequest) -> None:
    document: Document = request.getfixturevalue(name)
    html = html_page(document)
    assert faults(html) == []
    assert len(html) < 3_000_000
    assert [d.name for d in document.drawings() if f'id="figure-{d.name}"' not in html] == []


def test_the_policy_lets_through_this_style_and_nothing_else(run_report: Document) -> None:
    html = html_page(run_report)
    (policy,) = (a["content"] for t, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_markup_in_names_is_shown_as_text(hostile_store: RunStore) -> None:
    rows = hostile_store.frame["run_id"].to_list()
    for what in ([rows[0]], [rows[0], rows[3]], rows, ["frontier", f"task=code,model={MARKUP}"]):
        document = report(*what, store=hostile_store)
        html = html_page(document)
        assert faults(html) == []
        assert MARKUP in " ".join(Page(html).texts)
        assert "49" not in document.title


def test_a_page_that_does_not_escape_is_found_out(hostile_store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    careless = html_renderer._environment().overlay(autoescape=False, cache_size=0)
    monkeypatch.setattr(html_renderer, "_environment", lambda: careless)
    found = faults(html_page(report(hostile_store.frame["run_id"][0], store=hostile_store)))
    assert {"tag script", "tag img", "img onerror='alert(2)'"} <= {f.partition(">")[0] for f in found}


def test_a_fragment_is_the_middle_of_the_page(explanation_report: Document) -> None:
    fragment = html_fragment(explanation_report)
    assert fragment in html_page(explanation_report)
    assert "<h2" in fragment
    assert "<html" not in fragment
