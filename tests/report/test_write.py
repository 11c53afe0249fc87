"""Reports written to files, and the verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from joulemap.cli.app import run
from joulemap.errors import InputError, UsageError
from joulemap.report.document import Document
from joulemap.report.renderers.markdown import markdown_of
from joulemap.report.renderers.write import write_report
from joulemap.report.report import report
from joulemap.store.run_store import RunStore
from tests.report.conftest import CHAT, PROBLEM

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("ending", "begins"),
    [("html", b"<!DOCTYPE html>"), ("md", b"# Qwen 3 32B"), ("json", b"{"), ("svg", b"<svg"), ("png", b"\x89PNG")],
)
def test_every_form(run_report: Document, folder: Path, ending: str, begins: bytes) -> None:
    written = write_report(run_report, folder / f"report.{ending}")
    assert written
    for path in written:
        assert path.read_bytes().startswith(begins)
    if ending in ("svg", "png"):
        assert {p.name for p in written} == {f"report-{d.name}.{ending}" for d in run_report.drawings()}
    with pytest.raises(UsageError, match="exists"):
        write_report(run_report, folder / f"report.{ending}")
    assert write_report(run_report, folder / f"report.{ending}", force=True) == written
    assert [p for p in folder.iterdir() if p.suffix == ".partial"] == []


def test_unknown_endings_and_unwritable_folders_are_refused(run_report: Document, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.html, \.md, \.json"):
        write_report(run_report, tmp_path / "report.docx")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(run_report, tmp_path / "file" / "report.md")


def test_the_payload_holds_what_the_other_verbs_tell(
    run_report: Document, study_store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diagnose", PROBLEM, "--store", str(study_store.folder), "--json"]) == 0
    assert json.loads(json.dumps(run_report.payload))["diagnosis"] == json.loads(capsys.readouterr().out)


def test_markdown_shows_markup_as_text(hostile_store: RunStore) -> None:
    text = markdown_of(report(hostile_store.frame["run_id"][0], store=hostile_store))
    assert "<script" not in text.replace("\\<script", "")
    assert "\\|\\*b\\*" in text


def test_the_verb_prints_and_writes(
    study_store: RunStore, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(study_store.folder)]
    assert run(["report", PROBLEM, CHAT, *store]) == 0
    assert "Why A takes 23x" in capsys.readouterr().out
    assert run(["report", PROBLEM, *store, "-o", str(folder / "a.html")]) == 0
    assert f"Wrote {folder / 'a.html'}" in capsys.readouterr().err
    assert run(["report", PROBLEM, *store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "run"


def test_what_means_nothing_is_refused(study_store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["nonsense"]):
        assert run(["report", *words, "--store", str(study_store.folder)]) == 2
        assert "fix:" in capsys.readouterr().err


def test_a_plan_file_is_planned(study_store: RunStore, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = EXAMPLES / "one-site.toml"
    assert run(["report", str(plan), "--store", str(study_store.folder), "-o", str(folder / "plan.md")]) == 0
    text = (folder / "plan.md").read_text()
    assert "96.6%" in text
    assert "one more kW of cap" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["frontier"], "needs one thing after it"),
        (["frontier", "task=gpqa"], "does not name a model and a task"),
        (["missing.toml"], "missing.toml"),
        ([PROBLEM, "--itl", "50ms"], "belong to a recommendation"),
        (["task=gpqa"], "too many for one report"),
        ([str(EXAMPLES / "sweep-embedded.toml")], "those of a sweep lie there too"),
        ([str(EXAMPLES)], "those of a sweep lie there too"),
    ],
)
def test_what_cannot_be_reported_on_is_said(
    words: list[str], says: str, study_store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", *words, "--store", str(study_store.folder)]) == 2
    assert says in capsys.readouterr().err
