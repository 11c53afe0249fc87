"""Stores with parts too large to load: what is scanned equals what is loaded, and compaction loses nothing."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from joulemap.cli.app import run
from joulemap.errors import StoreError
from joulemap.records import Run
from joulemap.store import parts
from joulemap.store.run_store import RunStore, open_store
from joulemap.store.schema import runs_to_frame
from joulemap.store.selector import find_run
from tests.builders import llm_run
from tests.store.objects import memory_url, s3_address, s3_environment, s3_url

__all__ = ["memory_url", "s3_address", "s3_environment", "s3_url"]


@pytest.fixture(params=["folder", "s3", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "folder" else str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part counts as large."""
    monkeypatch.setattr(parts, "LARGE_PART_BYTES", 0)


def runs(begin: int, end: int) -> list[Run]:
    return [llm_run(batch=float(i), task="gpqa" if i % 2 else "chat") for i in range(begin, end)]


@pytest.mark.usefixtures("scanned")
def test_what_is_scanned_is_what_is_loaded(location: str) -> None:
    store = open_store(location)
    store.add(runs(1, 20))
    store.add(runs(15, 40))
    loaded = open_store(location).frame
    fresh = open_store(location)
    assert fresh.columns(["run_id", "batch_size"]).equals(loaded.select("run_id", "batch_size"))
    assert fresh.query(lambda all_runs: all_runs).equals(loaded)
    assert fresh.rows(loaded["run_id"].reverse()).equals(loaded.reverse())
    assert find_run(fresh, "task=gpqa,batch=max")["batch_size"] == 39.0
    assert fresh.get(loaded["run_id"][3]) == llm_run(batch=4.0)
    assert "frame" not in vars(fresh)
    assert fresh.add(runs(30, 41)).added == 1
    assert len(fresh) == 40
    assert fresh.frame.height == 40


@pytest.mark.usefixtures("scanned")
def test_runs_that_two_writers_added_are_scanned_once(tmp_path: Path) -> None:
    a, b = open_store(tmp_path / "a"), open_store(tmp_path / "b")
    a.add(runs(1, 10))
    part = Path(b.add(runs(5, 15)).part or "")
    part.rename(tmp_path / "a" / "runs" / part.name)
    a.refresh()
    assert len(a) == 14
    assert a.columns(["batch_size"])["batch_size"].to_list() == [float(i) for i in range(1, 15)]


@pytest.mark.usefixtures("scanned")
@pytest.mark.parametrize("damage", ["truncated", "in the middle"])
def test_a_damaged_large_part_is_set_aside(tmp_path: Path, damage: str) -> None:
    store = open_store(tmp_path)
    store.add(runs(1, 10))
    bad = Path(store.add(runs(10, 500)).part or "")
    content = bad.read_bytes()
    # The pages of some column after that of the ids.
    middle = content.index(b"org/model-8b")
    spoilt = (
        content[: middle - 60] + bytes(255 - b for b in content[middle - 60 : middle + 60]) + content[middle + 60 :]
    )
    bad.write_bytes(content[: len(content) // 2] if damage == "truncated" else spoilt)
    again = open_store(tmp_path)
    assert again.query(lambda all_runs: all_runs).height == 9
    assert [part.name for part in again.damaged] == [bad.name]
    assert (tmp_path / "damaged" / bad.name).exists()


@pytest.mark.usefixtures("scanned")
def test_a_newer_large_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    table = runs_to_frame([llm_run()], stored_at=datetime(2026, 1, 1, tzinfo=UTC))
    table.write_parquet(tmp_path / "runs" / "20260101-00c0ffee.parquet", metadata={"joulemap_run_schema": "99"})
    with pytest.raises(StoreError, match="schema 99"):
        len(open_store(tmp_path))


def test_compaction_keeps_runs_and_their_order(location: str) -> None:
    store = open_store(location)
    for i in range(1, 13):
        store.add(runs(i, i + 2))
    before = open_store(location).frame
    other = open_store(location)
    assert len(other) == 13
    assert store.compact() == (12, 1)
    assert open_store(location).frame.equals(before)
    assert store.frame.equals(before)
    assert other.frame.equals(before)  # that had listed the parts that are gone
    assert store.compact() == (1, 1)
    assert not open_store(location).damaged


def test_readers_and_writers_see_every_run_while_parts_are_joined(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for i in range(1, 31):
        store.add(runs(i, i + 1))
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(open_store(tmp_path).frame.height)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(31, 51):
        open_store(tmp_path).add(runs(i, i + 1))
        open_store(tmp_path).compact()
    stop.set()
    reader.join(30)
    assert len(open_store(tmp_path)) == 50
    assert min(seen) >= 30
    assert seen == sorted(seen)


def test_nothing_is_removed_if_the_joined_part_cannot_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    store.add(runs(1, 5))
    store.add(runs(5, 10))
    whole = store.place.write
    monkeypatch.setattr(store.place, "write", lambda name, content: whole(name, content[:-9]))
    with pytest.raises(StoreError, match="nothing was removed"):
        store.compact()
    assert len(open_store(tmp_path)) == 9


def test_compact_is_a_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path)
    store.add(runs(1, 3))
    store.add(runs(3, 5))
    store.timelines.add("aaaaaaaaaaaa", {"power": pl.DataFrame({"power_w": [1.0]})})
    assert run(["compact", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "runs: 2 files became one file\ntimelines: one file packed into one file\n"
    assert run(["compact", "--store", str(tmp_path / "none")]) == 3


def test_a_store_is_open_to_queries(tmp_path: Path) -> None:
    store: RunStore = open_store(tmp_path)
    store.add(runs(1, 11))
    told = store.query(lambda all_runs: all_runs.group_by("task").agg(pl.len()).sort("task"))
    assert told.rows() == [("chat", 5), ("gpqa", 5)]
