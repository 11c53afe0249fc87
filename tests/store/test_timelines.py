"""Timelines beside the runs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from joulemap.errors import StoreError, UnknownNameError
from joulemap.store.run_store import open_store

GOOD = pl.DataFrame({"t_mono_s": [1.0]})


def test_timelines_are_all_or_none(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    folder = Path(store.timelines.add("run", {"power": GOOD, "empty": GOOD.clear()}))
    assert [f.name for f in folder.iterdir()] == ["power.parquet"]
    assert store.timelines.of_run("run")["power"].equals(GOOD)
    assert store.timelines.of_run("other") == {}
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "timelines").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        open_store(tmp_path / "blocked").timelines.add("run", {"power": GOOD})
    assert [f.name for f in (tmp_path / "blocked").iterdir()] == ["timelines"]


def test_timelines_of_a_run_are_kept(tmp_path: Path) -> None:
    timelines = open_store(tmp_path).timelines
    timelines.add("run", {"power": GOOD})
    timelines.add("run", {"power": GOOD * 2})
    assert timelines.of_run("run")["power"].equals(GOOD)


def test_a_damaged_timeline_is_named(tmp_path: Path) -> None:
    timelines = open_store(tmp_path).timelines
    file = Path(timelines.add("run", {"power": GOOD})) / "power.parquet"
    file.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(StoreError, match=r"power\.parquet"):
        timelines.of_run("run")


def test_packing_changes_no_sample(tmp_path: Path) -> None:
    timelines = open_store(tmp_path).timelines
    frames = {
        f"{i:012x}": {
            "power": pl.DataFrame(
                {"t_mono_s": [0.1 * k for k in range(50)], "power_w": [float(i + k) for k in range(50)]}
            ),
            "requests": pl.DataFrame({"tokens": [i]} if i % 2 else {"tokens": [i], "late": [True]}),
        }
        for i in range(20)
    }
    for run_id, tables in frames.items():
        timelines.add(run_id, tables)
    before = {kind: timelines.scan(kind).sort(pl.all()).collect() for kind in ("power", "requests")}
    assert timelines.compact() == (40, 2)
    assert not list((tmp_path / "timelines").glob("0*"))
    fresh = open_store(tmp_path).timelines
    assert fresh.kinds() == ["power", "requests"]
    for kind, table in before.items():
        assert fresh.scan(kind).sort(pl.all()).select(table.columns).collect().equals(table)
    for run_id, tables in frames.items():
        assert fresh.of_run(run_id)["power"].equals(tables["power"])
    assert fresh.compact() == (0, 0)


def test_samples_that_lie_loose_and_packed_count_once(tmp_path: Path) -> None:
    timelines = open_store(tmp_path).timelines
    power = pl.DataFrame({"power_w": [1.0, 2.0]})
    timelines.add("aaaaaaaaaaaa", {"power": power})
    timelines.compact()
    # As if packing had been killed before it removed what it packed, and as if two had packed at once.
    timelines.add("aaaaaaaaaaaa", {"power": power})
    assert timelines.scan("power").collect().height == 2
    timelines.add("bbbbbbbbbbbb", {"power": power})
    other = tmp_path / "other"
    theirs = open_store(other).timelines
    theirs.add("aaaaaaaaaaaa", {"power": power})
    theirs.add("cccccccccccc", {"power": power})
    theirs.compact()
    (pack,) = (other / "timelines" / "packed" / "power").iterdir()
    pack.rename(tmp_path / "timelines" / "packed" / "power" / pack.name)
    merged = open_store(tmp_path).timelines
    assert merged.scan("power").collect()["run_id"].value_counts()["count"].to_list() == [2, 2, 2]
    merged.compact()
    assert merged.scan("power").collect().height == 6
    assert merged.of_run("aaaaaaaaaaaa")["power"].equals(power)


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    timelines = open_store(tmp_path).timelines
    timelines.add("aaaaaaaaaaaa", {"power": GOOD})
    with pytest.raises(UnknownNameError, match="did you mean 'power'"):
        timelines.scan("powr")
