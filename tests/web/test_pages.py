"""Pages over the study's runs: what they show, and that their JSON is the command line's."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from joulemap.cli.app import run
from joulemap.store.run_store import RunStore, open_store
from joulemap.web.app import make_app
from joulemap.web.settings import Settings
from tests.builders import llm_run

A = "task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max"
B = "task=lm-arena-chat,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max"
RUN = "297538591541"
HTML = {"accept": "text/html"}
LOCAL = "http://127.0.0.1:8180"

SAME = {
    "runs task=gpqa,gpu=B200 --sort batch_size --descending --limit 5": (
        "/runs",
        {"task": "gpqa", "gpu": "B200", "sort": "batch_size", "descending": "true", "limit": "5"},
    ),
    f"diagnose {RUN}": (f"/runs/{RUN}", {}),
    f"show {RUN}": (f"/runs/{RUN}", {"record": "true"}),
    f"explain {A} {B}": ("/explain", {"a": A, "b": B}),
    f"explain {A} {B} --quantity power_w --measured-only": (
        "/explain",
        {"a": A, "b": B, "quantity": "power_w", "measured_only": "true"},
    ),
    "predict --model Qwen/Qwen3-32B --gpu H100 --gpus 2 --batch 64 --task gpqa": (
        "/what-if",
        {"model": "Qwen/Qwen3-32B", "gpu": "H100", "gpus": "2", "batch": "64", "task": "gpqa"},
    ),
    "study": ("/study", {}),
    "frontier --model Qwen/Qwen3-32B --task gpqa --measured-only": (
        "/frontier",
        {"model": "Qwen/Qwen3-32B", "task": "gpqa", "measured_only": "true"},
    ),
    "recommend --model Qwen/Qwen3-32B --task gpqa --itl 50ms": (
        "/recommend",
        {"model": "Qwen/Qwen3-32B", "task": "gpqa", "itl": "50ms"},
    ),
}
"""Commands, and the addresses that have to answer the same."""


@pytest.fixture(scope="module")
def site(study_store: RunStore) -> Iterator[TestClient]:
    with TestClient(make_app(Settings(store=str(study_store.folder))), base_url=LOCAL) as client:
        yield client


@pytest.mark.parametrize("command", SAME)
def test_json_is_that_of_the_command_line(
    site: TestClient, study_store: RunStore, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, query = SAME[command]
    answer = site.get(path, params={**query, "format": "json"})
    assert answer.status_code == 200, answer.text
    assert run([*shlex.split(command), "--json", "--store", str(study_store.folder)]) == 0
    assert answer.json() == json.loads(capsys.readouterr().out)


def test_a_plan_is_that_of_the_command_line_by_file_and_by_form(
    site: TestClient, study_store: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = [
        ("cap_kw", "20"),
        ("gpu", "H100"),
        ("count", "16"),
        ("task", "lm-arena-chat"),
        ("requests_per_s", "30"),
    ]
    fields += [("model", "Qwen/Qwen3-32B"), ("itl_ms", "50")]
    page = site.get(f"/plan?{urlencode(fields)}", headers=HTML)
    assert page.status_code == 200, page.text
    text = page.text.split('maxlength="16000">')[1].split("</textarea>")[0]
    file = tmp_path / "plan.toml"
    file.write_text(text.replace("&#34;", '"'))
    assert run(["plan", str(file), "--json", "--store", str(study_store.folder)]) == 0
    printed = json.loads(capsys.readouterr().out)
    by_form = site.get(f"/plan?{urlencode([*fields, ('format', 'json')])}")
    by_file = site.get("/plan", params={"toml": file.read_text(), "format": "json"})
    assert by_form.json() == by_file.json() == printed


def test_the_table_shows_every_run_and_sorts(site: TestClient) -> None:
    page = site.get("/runs", params={"sort": "energy_per_output_j"}, headers=HTML).text
    assert page.count('name="run"') == 1858
    assert 'aria-sort="ascending"' in page
    assert "22c6b05327a4" in page.split("<tbody>")[1][:400]  # GPT OSS 20B, of least energy


def test_home_says_what_is_there_and_what_stands_out(site: TestClient) -> None:
    site.get("/standing-out")
    page = site.get("/", headers=HTML).text
    assert "1,858 measured runs of 46 models on B200, H100" in page
    assert "More GPUs only add communication" in page


def test_a_run_page_leads_from_ledger_to_lever(site: TestClient) -> None:
    page = site.get(f"/runs/{RUN}", headers=HTML).text
    for piece in ("Qwen 3 32B · gpqa", "Where the joules went", "memory capacity", "What to change", "data-chart"):
        assert piece in page
    report = site.get(f"/runs/{RUN}/report")
    assert report.headers["content-disposition"] == f'attachment; filename="joulemap-{RUN}.html"'
    assert report.text.startswith("<!DOCTYPE html>")
    assert site.get(f"/runs/{RUN}/report?format=markdown").text.startswith("# ")
    assert site.get(f"/runs/{RUN}/report?format=json").json()["kind"] == "run"


def test_only_the_changing_part_is_sent_to_the_script(site: TestClient) -> None:
    query = {"model": "Qwen/Qwen3-32B", "gpu": "H100", "batch": "32"}
    part = site.get("/what-if", params=query, headers={**HTML, "x-joulemap-part": "answer"}).text
    assert "<html" not in part
    assert "J/token" in part


def test_the_engines_version_is_asked_and_passed_on(site: TestClient) -> None:
    asked = {"model": "Qwen/Qwen3-8B", "gpu": "H100", "task": "lm-arena-chat", "batch": "256", "format": "json"}
    usual, newer = (site.get("/what-if", params=asked | more).json() for more in ({}, {"engine_version": "0.25.1"}))
    energies = [told["quantities"]["energy_per_output_j"]["value"] for told in (newer, usual)]
    assert energies[0] < 0.9 * energies[1]
    page = site.get("/what-if", params={"model": "Qwen/Qwen3-8B", "engine_version": "0.25.1"}, headers=HTML).text
    assert 'name="engine_version" maxlength="50" value="0.25.1"' in page
    assert "--engine-version 0.25.1" in page
    assert "engine_version" not in site.get("/what-if?model=FLUX.1+Dev", headers=HTML).text


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/runs/aaaa", 404, "unknown run"),
        ("/runs/zz", 422, "run_id"),
        ("/runs?selector=nonsense", 422, "not of the form key=value"),
        ("/runs?sort=nonsense", 422, "unknown column"),
        ("/runs?limit=0", 422, "limit"),
        ("/runs?colour=blue", 422, "colour"),
        ("/explain?a=task%3Dgpqa&b=aaaa", 422, "matches"),
        ("/explain?format=json", 422, "two runs are needed"),
        ("/what-if?model=meta-llama/Llama-3.1-405B-Instruct&gpu=H100", 422, "does not fit"),
        ("/what-if?model=nonsense", 422, "unknown"),
        ("/what-if?before=%26batch%3Dx", 422, "is no configuration"),
        ("/frontier?model=nonsense", 422, "unknown model"),
        ("/recommend?itl=fast", 422, "is not a duration"),
        ("/plan?toml=x", 422, "no valid TOML"),
        ("/plan?cap_kw=60", 422, "no pool of GPUs"),
        ("/plan?cap_kw=60&gpu=H100&count=x&task=gpqa&requests_per_s=1", 422, "not a positive number"),
        ("/live/0123456789", 404, "unknown session"),
        ("/live/0123456789/events", 404, "unknown session"),
        ("/nowhere", 404, "Not Found"),
    ],
)
def test_an_error_says_what_happened_in_both_forms(site: TestClient, path: str, status: int, message: str) -> None:
    page = site.get(path, headers=HTML)
    assert page.status_code == status
    assert message in page.text
    if "format=json" not in path:
        assert "<h1>" in page.text
        twin = site.get(path + ("&" if "?" in path else "?") + "format=json")
        assert twin.status_code == status
        assert message in twin.json()["error"]["message"]


def test_an_empty_store_teaches_how_to_fill_it(tmp_path: Path) -> None:
    with TestClient(make_app(Settings(store=str(tmp_path / "none"))), base_url=LOCAL) as client:
        home = client.get("/", headers=HTML)
        assert home.status_code == 200
        assert "joulemap import study" in home.text
        for path in ("/runs", "/explain?a=abcd&b=abce", "/frontier", "/plan", "/study", "/standing-out"):
            answer = client.get(path, headers=HTML)
            assert answer.status_code == 409, path
            assert "joulemap import study" in answer.text
        assert client.get("/what-if").status_code == 200


def test_new_runs_are_seen_without_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store.add([llm_run(batch=8.0)])
    app = make_app(Settings(store=str(store.folder)))
    with TestClient(app, base_url=LOCAL) as client:
        assert len(client.get("/runs?format=json").json()) == 1
        store.add([llm_run(batch=16.0)])
        app.state.runs._looked_s = -1e9  # as if a second had passed
        assert len(client.get("/runs?format=json").json()) == 2


def test_every_address_is_documented(site: TestClient) -> None:
    description = site.get("/openapi.json").json()
    pages = ["/", "/runs", "/runs/{run_id}", "/explain", "/what-if", "/frontier", "/recommend", "/plan", "/study"]
    for path in [*pages, "/live", "/live/{session_id}"]:
        answer = description["paths"][path]["get"]["responses"]["200"]
        assert {"text/html", "application/json"} <= set(answer["content"]), path
    reference = site.get("/api", headers=HTML).text
    assert all(path in reference for path in description["paths"])
