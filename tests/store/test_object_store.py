"""Stores in object storage: the same promises as on disk, as far as object storage allows them."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import polars as pl
import pytest

from joulemap.cli.app import run
from joulemap.errors import MissingExtraError, StoreError
from joulemap.store.run_store import open_store
from tests.builders import llm_run
from tests.store.objects import KEY, SECRET, memory_url, s3_address, s3_environment, s3_url

__all__ = ["memory_url", "s3_address", "s3_environment", "s3_url"]


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


def test_runs_survive_object_storage(url: str) -> None:
    store = open_store(url)
    assert len(store) == 0
    first = store.add([llm_run(), llm_run(batch=16.0), llm_run()])
    second = store.add([llm_run(batch=16.0), llm_run(batch=32.0)])
    assert (first.added, second.added, second.already_there) == (2, 1, 1)
    assert str(first.part).startswith(f"{url}/runs/")
    again = open_store(url)
    assert again.runs() == [llm_run(), llm_run(batch=16.0), llm_run(batch=32.0)]
    assert again.address == url
    assert again.sessions_folder.is_absolute()  # a journal is appended to, which objects cannot be


def test_what_another_process_adds_is_seen(url: str) -> None:
    here, there = open_store(url), open_store(url)
    assert (len(here), len(there)) == (0, 0)
    there.add([llm_run()])
    here.refresh()
    assert here.runs() == [llm_run()]
    assert here.add([llm_run()]).added == 0


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "flipped"])
def test_a_damaged_object_is_set_aside_and_named(url: str, damage: str) -> None:
    store = open_store(url)
    store.add([llm_run(batch=1.0)])
    bad = store.add([llm_run(batch=2.0)]).part
    store.add([llm_run(batch=3.0)])
    assert bad is not None
    name = bad.removeprefix(f"{url}/")
    (content,) = store.place.read([name])
    assert isinstance(content, bytes)
    middle = len(content) // 2
    flipped = content[:middle] + bytes([255 - content[middle]]) + content[middle + 1 :]
    store.place.write(
        name, {"truncated": content[:middle], "garbage": b"no parquet", "empty": b"", "flipped": flipped}[damage]
    )
    again = open_store(url)
    assert again.frame["batch_size"].to_list() == [1.0, 3.0]
    (told,) = again.damaged
    assert told.name in bad
    assert told.moved_to == f"{url}/damaged/{told.name}"
    assert list(again.place.sizes_bytes("damaged")) == [f"damaged/{told.name}"]
    assert name not in again.place.sizes_bytes("runs")
    assert not open_store(url).damaged


def _write_many(url: str, start: int) -> None:
    store = open_store(url)
    for i in range(start, start + 5):
        store.add([llm_run(batch=float(i)), llm_run(batch=1000.0)])


def test_two_writers_at_once_lose_nothing(s3_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(s3_url, start)) for start in (1, 101)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    store = open_store(s3_url)
    assert not store.damaged
    assert sorted(store.frame["batch_size"].to_list()) == [*range(1, 6), *range(101, 106), 1000.0]


def test_timelines_lie_beside_the_runs(url: str) -> None:
    store = open_store(url)
    power = pl.DataFrame({"t_mono_s": [1.0, 2.0], "power_w": [400.0, 500.0]})
    assert store.timelines.add("0123456789ab", {"power": power}) == f"{url}/timelines/0123456789ab"
    assert open_store(url).timelines.of_run("0123456789ab")["power"].equals(power)
    assert store.timelines.of_run("other") == {}


def test_verbs_take_a_url(s3_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(s3_url).add([llm_run(batch=7.0)])
    assert run(["runs", "--json", "--store", s3_url]) == 0
    assert [r["batch_size"] for r in json.loads(capsys.readouterr().out)] == [7.0]
    monkeypatch.setenv("JOULEMAP_STORE", s3_url)
    assert run(["show", "batch=max"]) == 0
    assert run(["runs", "--store", f"{s3_url}/empty"]) == 3
    assert f"the run store {s3_url}/empty holds no runs" in capsys.readouterr().err


def test_a_slash_too_few_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("memory:/bucket/x").address == "memory://bucket/x"
    assert open_store("folder:x").folder == Path("folder:x")


def test_a_bucket_that_is_not_there_is_no_empty_store(s3_environment: str) -> None:
    store = open_store("s3://no-such-bucket/store")
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/store cannot be read.*\n.*bucket's name"):
        len(store)
    with pytest.raises(StoreError, match="s3://no-such-bucket/store cannot be"):
        store.add([llm_run()])


@pytest.mark.parametrize(
    "url",
    [
        f"s3://{KEY}:{SECRET}@bucket/prefix",
        "s3://",
        "s3:///",
        "s3://bucket/../other",
        "s3://bucket/a?versionId=1",
        "s3://bucket/*",
        "ftp://bucket/prefix",
        "https://bucket/prefix",
    ],
)
def test_urls_that_are_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "--store", url]) == 2
    told = capsys.readouterr().err
    assert "s3://bucket/prefix" in told or "environment" in told
    assert SECRET not in told
    assert KEY not in told


def test_no_credential_is_shown_or_kept(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(s3_url)
    store.add([llm_run()])

    def refuse(*_: object, **__: object) -> None:
        msg = f"bad signature for {KEY} with {SECRET}"
        raise RuntimeError(msg)

    assert all(
        isinstance(content, bytes) and SECRET.encode() not in content
        for content in store.place.read(list(store.place.sizes_bytes("")))
    )
    monkeypatch.setattr(store.place._fs, "pipe_file", refuse)  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="bad signature for") as caught:
        store.add([llm_run(batch=2.0)])
    assert SECRET not in str(caught.value)
    assert KEY not in str(caught.value)
    assert "***" in str(caught.value)
    assert SECRET not in repr(store)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*_: object, **__: object) -> None:
        raise ImportError

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(MissingExtraError, match=r"s3fs(.|\n)*joulemap\[objects\]"):
        open_store("s3://bucket/store")


def test_a_store_elsewhere_has_no_folder(memory_url: str) -> None:
    with pytest.raises(StoreError, match="has no folder"):
        _ = open_store(memory_url).folder
