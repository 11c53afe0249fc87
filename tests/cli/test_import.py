"""The ``import`` verb, through the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from joulemap.cli.app import run
from joulemap.cli.output import Common
from joulemap.cli.progress import LateProgress, waiting
from joulemap.store.run_store import open_store
from tests.store.importers import samples
from tests.store.study_server import StudyServer, status, study_server
from tests.store.test_download import TASK, release

Import = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Import:
    """Run ``joulemap import``; returns exit code, output (parsed where it is JSON) and notes."""
    monkeypatch.setenv("JOULEMAP_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments: str | Path) -> tuple[int, Any, str]:
        code = run(["import", *map(str, arguments)])
        captured = capsys.readouterr()
        output = json.loads(captured.out) if "--json" in arguments and captured.out else captured.out
        return code, output, captured.err

    return call


@pytest.fixture
def server() -> Iterator[StudyServer]:
    with study_server() as running:
        running.files = release()
        yield running


def test_the_whole_dataset(imported: Import, study_data: Path, tmp_path: Path) -> None:
    code, output, notes = imported(study_data / "mlenergy-v3")
    assert code == 0
    assert "1,858 of mlenergy-leaderboard; 1,858 added, 0 already there" in output
    assert notes == ""
    assert len(open_store(tmp_path / "store")) == 1858
    code, output, _ = imported(study_data / "mlenergy-v3")
    assert "0 added, 1,858 already there" in output


def test_json(imported: Import, tmp_path: Path) -> None:
    samples.vllm_bench(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{}")
    code, output, _ = imported(tmp_path / "a.json", "--json", "--gpu", "H100", "--gpus", "2")
    assert code == 0
    assert output["imported"] == [
        {
            "path": str(tmp_path / "a.json"),
            "formats": {"vllm-bench": 1},
            "read": 1,
            "invalid": 0,
            "added": 1,
            "already_there": 0,
            "ignored": [],
        }
    ]
    assert output["problems"] == []
    row = open_store(tmp_path / "store").frame.row(0, named=True)
    assert (row["gpu_model"], row["num_gpus"]) == ("H100", 2)


def test_bad_files_among_good_ones(imported: Import, tmp_path: Path) -> None:
    samples.vllm_bench(tmp_path / "in" / "a.json")
    (tmp_path / "in" / "b.json").write_text('{"model_id": "x", ')
    (tmp_path / "in" / "c.csv").write_text("x,y\n1,2\n")
    code, output, notes = imported(tmp_path / "in", tmp_path / "absent")
    assert code == 2
    assert "1 of vllm-bench; 1 added" in output
    assert "b.json: is truncated" in notes
    assert "absent: does not exist" in notes
    assert "left out one file of no known format" in notes
    assert "without energy per output" in notes
    assert len(open_store(tmp_path / "store")) == 1


def test_a_bad_power_log_is_named_once(imported: Import, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        samples.vllm_bench(tmp_path / "in" / f"{name}.json", max_concurrency=ord(name))
    code, output, _ = imported(tmp_path / "in", "--power", tmp_path / "none.csv", "--json")
    assert code == 2
    assert [problem["file"] for problem in output["problems"]] == [str(tmp_path / "none.csv")]
    assert output["imported"][0]["added"] == 3


def test_power_and_timezone(imported: Import, tmp_path: Path) -> None:
    samples.vllm_bench(tmp_path / "a.json")
    log = samples.power_csv(tmp_path / "watts.csv")
    code, _, notes = imported(tmp_path / "a.json", "--power", log, "--timezone", "UTC")
    assert (code, notes) == (0, "")
    assert open_store(tmp_path / "store").frame["energy_per_output_j"].to_list() == [pytest.approx(1.0)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to import"),
        (("x.json", "--format", "aiprf"), "did you mean 'aiperf'"),
        (("x.json", "--gpus", "0"), "cannot be of 0 GPUs"),
        (("x.json", "--model", ""), "model_id cannot be ''"),
        (("x.json", "--url", "http://x"), "joulemap import study --url http://x"),
        (("x.json", "--timezone", "Mars", "--power", "watts.csv"), "unknown timezone 'Mars'"),
    ],
)
def test_wrong_usage(
    imported: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    samples.vllm_bench(tmp_path / "x.json")
    samples.power_csv(tmp_path / "watts.csv")
    code, _, notes = imported(*arguments)
    assert code == 2
    assert words in notes
    assert "Traceback" not in notes


def test_a_format_that_is_not_recognised_can_be_named(imported: Import, tmp_path: Path) -> None:
    path = samples.write_json(tmp_path / "x.json", {"duration": 60.0})
    code, _, notes = imported(path)
    assert code == 2
    assert "holds no results of a known format" in notes
    assert "vllm-bench" in notes
    code, _, notes = imported(path, "--format", "vllm-bench")
    assert code == 2
    assert "completed: is missing" in notes


def test_the_study_from_a_server(imported: Import, server: StudyServer, tmp_path: Path) -> None:
    code, output, _ = imported("study", "--url", server.url, "--json")
    assert code == 0
    assert output["imported"][0]["added"] == 1
    assert output["study"]["release"] == "2027-01-01"
    assert not output["study"]["verified"]
    code, output, notes = imported("study", "--url", server.url)
    assert "0 added, 1 already there" in output
    assert "could not be verified" in notes


def test_offline(imported: Import, server: StudyServer, tmp_path: Path) -> None:
    server.faults[TASK] = status(404)
    samples.vllm_bench(tmp_path / "a.json")
    code, output, notes = imported("study", tmp_path / "a.json", "--url", server.url)
    assert code == 3
    assert "answered 404" in notes
    assert "joulemap import FOLDER" in notes
    assert "1 added" in output


def test_the_address_from_the_environment(
    imported: Import, server: StudyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOULEMAP_STUDY_URL", server.url)
    assert imported("study")[0] == 0
    assert server.requests["index.json"] == 1


def test_a_folder_named_study(
    imported: Import, server: StudyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    samples.vllm_bench(tmp_path / "study" / "a.json")
    assert "./study" in imported("study", "--url", server.url)[2]
    assert "1 of vllm-bench" in imported("./study")[1]


def test_progress_appears_late_and_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with LateProgress() as progress:
        progress.update("soon", 1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("joulemap.cli.progress.SHOWN_AFTER_S", 0.0)
    with LateProgress() as progress:
        progress.update("reading", 1, 4)
    assert "reading" in capsys.readouterr().err


def test_waiting_shows_that_it_goes_on_once_it_takes_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with waiting("reading the run store s3://bucket/x"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("joulemap.cli.progress.SHOWN_AFTER_S", 0.0)
    with waiting("reading the run store s3://bucket/x"):
        shown = ""
        for _ in range(200):
            shown += capsys.readouterr().err
            if "reading the run store" in shown:
                break
            time.sleep(0.05)
    assert "reading the run store" in shown


def test_opening_a_store_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []

    @contextmanager
    def listening(text: str) -> Iterator[None]:
        told.append(text)
        yield

    monkeypatch.setattr("joulemap.cli.output.waiting", listening)
    Common(store=str(tmp_path)).open()
    assert told == [f"reading the run store {tmp_path}"]
