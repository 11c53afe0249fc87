"""Who may ask: host names, other sites, tokens, sizes; and what every answer carries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from joulemap.store.run_store import open_store
from joulemap.web.app import make_app
from joulemap.web.guard import MOST_BODY_BYTES, MOST_QUERY_BYTES
from joulemap.web.settings import Settings
from tests.builders import llm_run

TOKEN = "a-token-that-nobody-guesses"
LOCAL = "http://127.0.0.1:8180"


@pytest.fixture
def store(tmp_path: Path) -> str:
    folder = tmp_path / "store"
    open_store(folder).add([llm_run(batch=8.0), llm_run(batch=16.0, energy_j=0.5)])
    return str(folder)


@pytest.fixture
def local(store: str) -> Iterator[TestClient]:
    with TestClient(make_app(Settings(store=store)), base_url=LOCAL) as client:
        yield client


@pytest.fixture
def public(store: str) -> Iterator[TestClient]:
    settings = Settings(store=store, host="0.0.0.0", token=TOKEN, allowed_hosts=frozenset({"joules.example"}))
    with TestClient(make_app(settings), base_url="http://joules.example") as client:
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1:8180", "localhost:8180", "[::1]:8180", "127.0.0.1"])
def test_loopback_names_are_ours(local: TestClient, host: str) -> None:
    assert local.get("/live", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8180", "192.168.1.5", "", "[", "localhost.evil.example"]
)
def test_a_rebound_name_is_refused(local: TestClient, host: str) -> None:
    answer = local.get("/live", headers={"host": host})
    assert answer.status_code == 400
    assert "joulemap serve" not in answer.text


def test_every_answer_carries_the_security_headers(local: TestClient) -> None:
    for path in ("/", "/runs", "/no-such-page", "/runs/zz", "/assets/x/style.css"):
        headers = local.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_another_sites_script_may_not_ask(local: TestClient) -> None:
    script = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert local.get("/runs?format=json", headers=script).status_code == 403
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert local.get("/runs", headers=followed).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}]
)
def test_another_sites_form_may_not_sign_in(public: TestClient, headers: dict[str, str]) -> None:
    answer = public.post("/sign-in", data={"token": TOKEN}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_long_queries_and_bodies_are_refused(local: TestClient) -> None:
    assert local.get("/runs", params={"selector": "x" * MOST_QUERY_BYTES}).status_code == 414
    assert local.post("/sign-in", data={"token": "x" * MOST_BODY_BYTES}).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../settings.py",
        "/assets/x/..%2f..%2fsettings.py",
        "/runs/..%2f..%2fetc%2fpasswd",
        "/runs/....//",
        "/live/..%2fsecret",
        "/live/..%2f..%2f/events",
    ],
)
def test_no_path_leads_out(local: TestClient, path: str) -> None:
    answer = local.get(path)
    assert answer.status_code in {404, 422}
    assert "root:" not in answer.text


def test_a_config_file_cannot_be_read_through_the_model_field(local: TestClient, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"model_type": "llama", "secret": "hidden"}')
    answer = local.get("/what-if", params={"model": str(file), "format": "json"})
    assert answer.status_code == 422
    assert "unknown" in answer.json()["error"]["message"]


def test_markup_in_names_is_shown_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    evil = "<script>alert(1)</script>"
    runs = [llm_run(batch=b, model_id=evil, task='"><img src=x onerror=alert(1)>') for b in (8.0, 16.0)]
    open_store(folder).add(runs)
    with TestClient(make_app(Settings(store=str(folder))), base_url=LOCAL) as client:
        for path in ("/", "/runs", "/standing-out", f"/runs/{runs[0].run_id}", f"/explain?a={evil}&b={evil}"):
            page = client.get(path).text
            assert "<script>alert" not in page, path
            assert "<img src=x" not in page, path


def test_without_the_token_nothing_is_told(public: TestClient) -> None:
    json = public.get("/runs?format=json", headers={"accept": "application/json"})
    assert json.status_code == 401
    assert json.headers["www-authenticate"] == "Bearer"
    page = public.get("/runs?task=gpqa", headers={"accept": "text/html"}, follow_redirects=False)
    assert page.status_code == 303
    assert page.headers["location"] == "/sign-in?next=%2Fruns%3Ftask%3Dgpqa"
    for shown in ("wrong", "", TOKEN[:-1], TOKEN + "x", "é"):
        headers = {b"authorization": f"Bearer {shown}".encode(), b"accept": b"application/json"}
        assert public.get("/runs", headers=headers).status_code == 401


def test_the_token_opens_by_header_and_by_form(public: TestClient) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert public.get("/runs?format=json", headers=bearer).status_code == 200
    wrong = public.post("/sign-in", data={"token": "wrong"})
    assert wrong.status_code == 403
    assert "not the token" in wrong.text
    signed = public.post("/sign-in", data={"token": TOKEN, "next": "/live"}, follow_redirects=False)
    assert (signed.status_code, signed.headers["location"]) == (303, "/live")
    cookie = signed.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert public.get("/runs").status_code == 200


@pytest.mark.parametrize("next", ["//evil.example", "https://evil.example", "/\\evil.example", "runs", "/a\nb"])
def test_signing_in_leads_nowhere_else(public: TestClient, next: str) -> None:
    signed = public.post("/sign-in", data={"token": TOKEN, "next": next}, follow_redirects=False)
    assert signed.headers["location"] == "/"


def test_the_token_is_in_no_log_and_no_text(
    public: TestClient, caplog: pytest.LogCaptureFixture, store: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        public.get("/runs", headers={"authorization": f"Bearer {TOKEN}"})
        public.post("/sign-in", data={"token": TOKEN})
        public.get("/runs?selector=nonsense", headers={"authorization": f"Bearer {TOKEN}"})
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(Settings(store=store, token=TOKEN))
