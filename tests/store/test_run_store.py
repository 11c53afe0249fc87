"""The run store: content, damage, concurrency, schema versions."""

from __future__ import annotations

import json
import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joulemap.errors import EmptyStoreError, SelectorError, StoreError, UnknownNameError
from joulemap.records import (
    Annotations,
    Basis,
    Deployment,
    LengthDistribution,
    Measured,
    Modality,
    OutputUnit,
    Provenance,
    Run,
    Validity,
    Workload,
)
from joulemap.records.run import unit_of
from joulemap.store.run_store import default_store_dir, open_store
from joulemap.store.schema import COLUMNS, MEASURED_COLUMNS, frame_to_runs, runs_to_frame
from tests.builders import llm_run

NOW = datetime(2026, 1, 2, tzinfo=UTC)

amounts = st.floats(min_value=0, max_value=1e12, allow_nan=False)
texts = st.text(min_size=1, max_size=30)
maybe_amount = st.none() | amounts


@st.composite
def runs(draw: st.DrawFn) -> Run:
    counts = draw(st.none() | st.lists(st.integers(0, 1000), min_size=1, max_size=5))
    lengths = (
        None
        if counts is None
        else LengthDistribution(edges=tuple(float(i) for i in range(len(counts) + 1)), counts=tuple(counts))
    )
    names = draw(st.sets(st.sampled_from(sorted(MEASURED_COLUMNS)), max_size=4))
    return Run(
        workload=Workload(
            task=draw(st.none() | texts),
            output_unit=draw(st.sampled_from(OutputUnit)),
            input_modality=draw(st.sampled_from(Modality)),
            mean_output_tokens=draw(maybe_amount),
            output_lengths=lengths,
            num_frames=draw(st.none() | st.integers(1, 1000)),
        ),
        deployment=Deployment(
            model_id=draw(texts), nickname=draw(st.none() | texts), torch_compile=draw(st.none() | st.booleans())
        ),
        measured=Measured(power_w=draw(maybe_amount), completed_requests=draw(st.none() | st.integers(0, 10**9))),
        provenance=Provenance(
            source=draw(texts),
            measured_at=draw(st.none() | st.datetimes(timezones=st.just(UTC))),
            notes=tuple(draw(st.lists(texts, max_size=2))),
        ),
        validity=Validity(valid=draw(st.booleans()), reasons=tuple(draw(st.lists(texts, max_size=2)))),
        annotations=Annotations(
            basis=dict.fromkeys(names, draw(st.sampled_from(Basis))),
            intervals=dict.fromkeys(names, (draw(amounts), draw(amounts))),
            missing=dict.fromkeys(names, draw(texts)),
        ),
    )


@given(st.lists(runs(), max_size=5))
def test_runs_survive_the_table(many: list[Run]) -> None:
    assert frame_to_runs(runs_to_frame(many, stored_at=NOW)) == many


@given(runs())
def test_a_run_id_names_the_content_and_nothing_else(run: Run) -> None:
    elsewhere = Run(
        workload=run.workload,
        deployment=run.deployment,
        measured=run.measured,
        provenance=Provenance(source="another file"),
    )
    assert elsewhere.run_id == run.run_id
    changed = Measured(power_w=(run.measured.power_w or 0.0) + 1.0)
    other = Run(workload=run.workload, deployment=run.deployment, measured=changed, provenance=run.provenance)
    assert other.run_id != run.run_id


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(runs(), max_size=5))
def test_runs_survive_the_disk(tmp_path_factory: pytest.TempPathFactory, many: list[Run]) -> None:
    store = open_store(tmp_path_factory.mktemp("store"))
    store.add(many)
    unique = list({run.run_id: run for run in many}.values())
    assert open_store(store.folder).runs() == unique


def test_adding_twice_adds_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = store.add([llm_run(), llm_run(batch=16.0), llm_run()])
    second = store.add([llm_run(batch=16.0)])
    assert (first.added, first.already_there) == (2, 1)
    assert (second.added, second.already_there, second.part) == (0, 1, None)
    assert len(store) == 2


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "flipped"])
def test_a_damaged_part_is_set_aside_and_the_rest_loads(tmp_path: Path, damage: str) -> None:
    store = open_store(tmp_path)
    store.add([llm_run(batch=1.0)])
    bad = Path(store.add([llm_run(batch=2.0)]).part or "")
    store.add([llm_run(batch=3.0)])
    content = bad.read_bytes()
    middle = len(content) - 200
    bad.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "garbage": b"not parquet at all",
            "empty": b"",
            "flipped": content[:middle] + bytes(255 - b for b in content[middle:-8]) + content[-8:],
        }[damage]
    )
    again = open_store(tmp_path)
    assert sorted(again.frame["batch_size"].to_list()) == [1.0, 3.0]
    assert [part.name for part in again.damaged] == [bad.name]
    moved = again.damaged[0].moved_to
    assert moved is not None
    assert Path(moved).exists()
    assert not bad.exists()
    assert not open_store(tmp_path).damaged  # set aside once, not named for ever


def _write_many(folder: str, start: int) -> None:
    store = open_store(folder)
    for i in range(start, start + 20):
        store.add([llm_run(batch=float(i)), llm_run(batch=1000.0)])


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(str(tmp_path), start)) for start in (1, 101)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    store = open_store(tmp_path)
    assert not store.damaged
    assert sorted(store.frame["batch_size"].to_list()) == [*range(1, 21), *range(101, 121), 1000.0]


def renamed(part: str | None) -> Path:
    """Give a part a name as stores had them before names told the content, so that it may be changed."""
    assert part is not None
    return Path(part).rename(Path(part).with_name("20260102T000000000000-00c0ffee.parquet"))


def test_a_newer_schema_is_refused_with_the_fix(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    part = renamed(store.add([llm_run()]).part)
    pl.read_parquet(part).write_parquet(part, metadata={"joulemap_run_schema": "99"})
    with pytest.raises(StoreError, match=r"schema 99.*\n.*upgrade"):
        _ = open_store(tmp_path).frame
    assert part.exists()


def test_an_older_file_without_a_young_column_loads(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    part = renamed(store.add([llm_run()]).part)
    pl.read_parquet(part).drop("sm_occupancy", "ring_degree").write_parquet(
        part, metadata={"joulemap_run_schema": "1"}
    )
    assert open_store(tmp_path).runs() == [llm_run()]


def test_the_frozen_file_of_schema_1_loads() -> None:
    frozen = Path(__file__).parent / "frozen" / "schema-1"
    runs = open_store(frozen).runs()
    assert [run.run_id for run in runs] == json.loads((frozen / "expected.json").read_text())


def test_an_empty_store_says_what_brings_runs(tmp_path: Path) -> None:
    with pytest.raises(EmptyStoreError, match="joulemap import study") as caught:
        open_store(tmp_path / "none").non_empty_frame()
    assert caught.value.exit_code == 3


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="not a folder"):
        open_store(tmp_path / "file")


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add([llm_run(batch=float(i)) for i in range(1, 400)])
    run = llm_run(batch=7.0)
    assert store.get(run.run_id[:10].upper()) == run
    with pytest.raises(UnknownNameError, match="joulemap runs"):
        store.get("zzzz")
    prefixes = store.frame["run_id"].str.slice(0, 1).value_counts().filter(pl.col("count") > 1)
    with pytest.raises((SelectorError, UnknownNameError)):
        store.get(prefixes["run_id"][0])


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JOULEMAP_STORE", str(tmp_path / "here"))
    assert open_store().folder == tmp_path / "here"
    assert open_store(tmp_path / "there").folder == tmp_path / "there"
    monkeypatch.delenv("JOULEMAP_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert open_store().folder == default_store_dir() == tmp_path / "data" / "joulemap" / "store"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        open_store(tmp_path / "store").add([llm_run()])


def test_nothing_half_written_remains_when_the_disk_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = open_store(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("joulemap.store.places.os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.add([llm_run()])
    assert list((tmp_path / "runs").iterdir()) == []


def test_every_measured_column_has_a_unit() -> None:
    assert all(unit_of(name, "token") for name in MEASURED_COLUMNS)
    assert set(MEASURED_COLUMNS) <= set(COLUMNS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("power_w", -1.0), ("power_w", float("nan")), ("itl_median_s", float("inf")), ("sm_occupancy", 1.2)],
)
def test_impossible_measurements_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Measured(**{field: value})  # type: ignore[arg-type]
