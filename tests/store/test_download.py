"""Downloading the study from a server that does everything that servers do wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from joulemap.clock import SystemClock
from joulemap.errors import OfflineError
from joulemap.store import download
from joulemap.store.download import Downloaded, download_study, known_checksums, study_url
from joulemap.store.fetch import Fetcher, FetchLimits
from joulemap.store.importers import read_path
from tests.store import study_server as server_faults
from tests.store.importers.test_leaderboard import LLM_ROW
from tests.store.study_server import Fault, StudyServer, redirect, status, study_server

TASK = "tasks/gpqa.json"
MODEL = "models/acme__tiny__gpqa.json"


class ImpatientClock(SystemClock):
    """Real time, but no waiting between tries."""

    def __init__(self) -> None:
        self.pauses_s: list[float] = []

    def sleep(self, seconds_s: float) -> None:
        self.pauses_s.append(seconds_s)


@pytest.fixture
def server() -> Iterator[StudyServer]:
    with study_server() as running:
        running.files = release()
        yield running


def release(**index: Any) -> dict[str, bytes]:
    """A small, newer release: one task, one model."""
    task = {"task": "gpqa", "task_display_name": "x", "configurations": [LLM_ROW]}
    own = {"gpu_model", "num_gpus", "max_num_seqs"}
    row = {name: value for name, value in LLM_ROW.items() if name in own or ("_" in name and "param" not in name)}
    row["output_length_distribution"] = {"bins": [400, 600], "counts": [7]}
    detail = {**LLM_ROW, "task": "gpqa", "configurations": [row]}
    return {
        "index.json": json.dumps(
            {
                "last_updated": "2027-01-01",
                "tasks": ["gpqa"],
                "models": {"acme/tiny": {"nickname": "Tiny"}},
                **index,
            }
        ).encode(),
        TASK: json.dumps(task).encode(),
        MODEL: json.dumps(detail).encode(),
    }


def fetch(server: StudyServer, tmp_path: Path, **limits: Any) -> Downloaded:
    settings = {"stall_s": 0.3, "total_s": 2.0, "tries": 3, **limits}
    fetcher = Fetcher(limits=FetchLimits(**settings), clock=ImpatientClock())
    return download_study(server.url, tmp_path / "cache", fetcher=fetcher)


def test_a_good_server(server: StudyServer, tmp_path: Path) -> None:
    got = fetch(server, tmp_path)
    assert {p.relative_to(got.folder).as_posix() for p in got.folder.rglob("*.*")} == {"index.json", TASK, MODEL}
    assert got.release == "2027-01-01"
    assert not got.verified
    assert "not that of 2026-02-16" in got.notes[0]
    read = read_path(got.folder)
    assert read.problems == ()
    (run,) = read.runs
    assert run.workload.output_lengths is not None


def test_a_second_download_fetches_the_index_only(server: StudyServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert server.requests == {"index.json": 2, TASK: 1, MODEL: 1}


def test_a_newer_release_is_another_folder(server: StudyServer, tmp_path: Path) -> None:
    first = fetch(server, tmp_path)
    server.files = release(last_updated="2027-02-02")
    assert fetch(server, tmp_path).folder != first.folder


@pytest.mark.parametrize(
    "fault",
    [
        server_faults.truncate,
        server_faults.understate,
        server_faults.stall,
        server_faults.hang_up,
        server_faults.talk_nonsense,
        server_faults.portal,
        status(500),
        status(503, Retry_After="7"),
        status(429),
    ],
)
@pytest.mark.parametrize("name", ["index.json", TASK, MODEL])
def test_a_passing_fault_is_survived(server: StudyServer, tmp_path: Path, fault: Fault, name: str) -> None:
    server.faults[name] = [fault]
    got = fetch(server, tmp_path)
    assert (got.folder / name).read_bytes() == server.files[name]
    assert not list(tmp_path.rglob("*.partial*"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (server_faults.truncate, "broke off|without"),
        (server_faults.understate, "sent no JSON"),
        (server_faults.stall, "timed out"),
        (server_faults.drip, "too slowly"),
        (server_faults.hang_up, "could not be fetched"),
        (server_faults.talk_nonsense, "could not be fetched"),
        (server_faults.portal, "sent no JSON: it begins with b'<html>"),
        (server_faults.announce_terabytes, "larger than 64 MiB"),
        (server_faults.send_without_end, "larger than 1 MiB"),
        (status(500), "answered 500"),
        (status(404), "answered 404"),
        (status(403), "answered 403"),
        (status(204), "sent nothing"),
        (redirect("file:///etc/passwd"), "redirects to where nothing"),
        (redirect("ftp://127.0.0.1/x"), "redirects to where nothing"),
    ],
)
def test_a_lasting_fault_is_one_clear_error(server: StudyServer, tmp_path: Path, fault: Fault, words: str) -> None:
    server.faults[TASK] = fault
    limits: dict[str, Any] = {"total_s": 0.4}
    if fault is server_faults.send_without_end:
        limits = {"largest_bytes": 2**20, "total_s": 30.0}
    with pytest.raises(OfflineError, match=words) as caught:
        fetch(server, tmp_path, tries=2, **limits)
    assert f"{server.url}/{TASK}" in caught.value.message
    assert "joulemap import FOLDER" in (caught.value.fix or "")
    assert caught.value.exit_code == 3
    assert not list((tmp_path / "cache").glob("*/tasks/*.json"))


def test_a_truncated_file_is_continued_where_it_broke_off(server: StudyServer, tmp_path: Path) -> None:
    server.faults[TASK] = [server_faults.truncate]
    fetch(server, tmp_path)
    assert server.ranges == [(TASK, f"bytes={len(server.files[TASK]) // 2}-")]


def test_an_interrupted_download_goes_on_the_next_time(server: StudyServer, tmp_path: Path) -> None:
    server.faults[TASK] = [server_faults.truncate]
    with pytest.raises(OfflineError, match="broke off"):
        fetch(server, tmp_path, tries=1)
    fetch(server, tmp_path)
    assert server.ranges == [(TASK, f"bytes={len(server.files[TASK]) // 2}-")]


def test_a_file_that_changed_meanwhile_is_begun_anew(server: StudyServer, tmp_path: Path) -> None:
    server.faults[TASK] = [server_faults.truncate]
    with pytest.raises(OfflineError):
        fetch(server, tmp_path, tries=1)
    server.files[TASK] = server.files[TASK].replace(b"401", b"402").replace(b"400.0", b"444.0")
    got = fetch(server, tmp_path)
    assert (got.folder / TASK).read_bytes() == server.files[TASK]


def test_another_part_than_was_asked_for(server: StudyServer, tmp_path: Path) -> None:
    server.faults[TASK] = [server_faults.wrong_part, server_faults.wrong_part]
    got = fetch(server, tmp_path)
    assert (got.folder / TASK).read_bytes() == server.files[TASK]


def test_redirects_are_followed_but_not_for_ever(server: StudyServer, tmp_path: Path) -> None:
    server.files["elsewhere.json"] = server.files[TASK]
    server.faults[TASK] = [redirect("/data/elsewhere.json")]
    assert (fetch(server, tmp_path).folder / TASK).read_bytes() == server.files[TASK]
    server.faults["index.json"] = redirect("/data/index.json")
    with pytest.raises(OfflineError, match="redirects without end"):
        fetch(server, tmp_path)


def test_pauses_grow_and_heed_the_server(server: StudyServer, tmp_path: Path) -> None:
    server.faults["index.json"] = [status(500), status(503, Retry_After="7"), status(500)]
    clock = ImpatientClock()
    download_study(server.url, tmp_path, fetcher=Fetcher(clock=clock))
    assert clock.pauses_s == [0.5, 7.0, 2.0]


def test_a_model_without_details_in_a_newer_release(server: StudyServer, tmp_path: Path) -> None:
    del server.files[MODEL]
    got = fetch(server, tmp_path)
    assert any(MODEL in note for note in got.notes)
    assert len(read_path(got.folder).runs) == 1


@pytest.mark.parametrize(
    "name", ["../../evil", "..", "a/b", "/etc/passwd", "a\\b", "a\x00b", "", "a" * 500, 7, None, "CON:", "x\n"]
)
def test_names_that_would_lead_elsewhere_are_refused(server: StudyServer, tmp_path: Path, name: Any) -> None:
    server.files = release(tasks=["gpqa", name])
    with pytest.raises(OfflineError, match="cannot be a file's name"):
        fetch(server, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}


def test_model_names_that_would_lead_elsewhere_are_refused(server: StudyServer, tmp_path: Path) -> None:
    task = {"task": "gpqa", "configurations": [LLM_ROW | {"model_id": "../../../evil"}]}
    server.files[TASK] = json.dumps(task).encode()
    with pytest.raises(OfflineError, match="cannot be a file's name"):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    "index", [b"[]", b'{"tasks": {}}', b'{"tasks": []}', b"{}", b"[" * 100_000, b'{"tasks": 1, "tasks": 2}']
)
def test_an_index_that_is_none(server: StudyServer, tmp_path: Path, index: bytes) -> None:
    server.files["index.json"] = index
    with pytest.raises(OfflineError, match=r"index\.json"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("url", ["file:///etc", "ftp://x/y", "data", "http://", "https://[::1", "http://a b/"])
def test_only_http_addresses(url: str, tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="no address to download from"):
        download_study(url, tmp_path)


def test_nobody_there(tmp_path: Path) -> None:
    with study_server() as server:
        url = server.url
    with pytest.raises(OfflineError, match="refused") as caught:
        download_study(url, tmp_path, fetcher=Fetcher(clock=ImpatientClock()))
    assert "joulemap import FOLDER" in str(caught.value)


def test_a_cache_that_cannot_be_written(server: StudyServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OfflineError, match="cannot be written"):
        fetch(server, tmp_path)


def test_the_address_is_configurable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOULEMAP_STUDY_URL", raising=False)
    assert study_url() == download.DEFAULT_STUDY_URL
    monkeypatch.setenv("JOULEMAP_STUDY_URL", "http://mirror/data/")
    assert study_url() == "http://mirror/data"
    assert study_url("http://other/d/index.json") == "http://other/d"


def test_progress_counts_every_file(server: StudyServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    download_study(server.url, tmp_path, progress=lambda *numbers: seen.append(numbers))
    assert seen[-1] == (sum(map(len, server.files.values())), 3, 3)


class TestKnownRelease:
    @pytest.fixture
    def dataset(self, server: StudyServer, study_data: Path) -> StudyServer:
        root = study_data / "mlenergy-v3"
        server.files = {name: (root / name).read_bytes() for name in known_checksums()}
        return server

    def test_every_file_is_verified(self, dataset: StudyServer, tmp_path: Path) -> None:
        got = fetch(dataset, tmp_path, stall_s=5.0, total_s=30.0)
        assert got.verified
        assert got.notes == ()
        assert len(known_checksums()) == 70
        assert len(read_path(got.folder).runs) == 1858

    def test_a_swapped_file_is_fetched_again(self, dataset: StudyServer, tmp_path: Path) -> None:
        dataset.faults[TASK] = [server_faults.swapped]
        assert fetch(dataset, tmp_path, stall_s=5.0, total_s=30.0).verified

    def test_a_file_that_stays_different_is_refused(self, dataset: StudyServer, tmp_path: Path) -> None:
        dataset.files[TASK] = dataset.files[TASK].replace(b"B200", b"H100", 1)
        with pytest.raises(OfflineError, match=r"gpqa\.json is not the file of the release of 2026-02-16"):
            fetch(dataset, tmp_path, stall_s=5.0, total_s=30.0)

    def test_a_cached_file_that_rotted_is_fetched_again(self, dataset: StudyServer, tmp_path: Path) -> None:
        got = fetch(dataset, tmp_path, stall_s=5.0, total_s=30.0)
        (got.folder / TASK).write_text("{}")
        assert fetch(dataset, tmp_path, stall_s=5.0, total_s=30.0).folder == got.folder
        assert (got.folder / TASK).read_bytes() == dataset.files[TASK]
        assert dataset.requests[TASK] == 2
