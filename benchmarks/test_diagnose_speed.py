"""Diagnosing all runs of the study, against the limit set for one core.

Run with ``pytest benchmarks/test_diagnose_speed.py --benchmark-enable -s``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.series import Curves
from joulemap.store.importers import import_path
from joulemap.store.run_store import open_store
from tests.conftest import study_data_dir

LIMIT_S = 5.0


def test_all_runs_of_the_study(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    folder = study_data_dir()
    if folder is None:
        pytest.skip("the study's dataset is neither in JOULEMAP_STUDY_DATA nor in ../shared/data")
    store = open_store(tmp_path / "store")
    import_path(store, folder / "mlenergy-v3")
    frame = store.frame
    found = benchmark.pedantic(lambda: diagnose_frame(frame, curves=Curves(frame)), rounds=3)  # type: ignore[no-untyped-call]
    assert len(found) == frame.height
    if benchmark.stats is None:  # benchmarks are disabled: it ran once, untimed
        return
    worst_s = benchmark.stats.stats.max
    print(f"\ndiagnosis of {frame.height} runs: {worst_s:.2f} s at most, {worst_s / LIMIT_S:.0%} of {LIMIT_S:g} s")
    assert worst_s <= LIMIT_S
