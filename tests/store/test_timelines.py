"""Timelines beside the runs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from joulemap.errors import StoreError
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
