"""Importing the study's data, its claims and a breakdown, against the limits set for 2 cores.

Run with ``pytest benchmarks/test_study_speed.py --benchmark-enable -s``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from joulemap.diagnose.breakdown import breakdown
from joulemap.store.importers import import_path
from joulemap.store.run_store import RunStore, open_store
from joulemap.study import reproduce
from tests.conftest import study_data_dir

IMPORT_LIMIT_S, STUDY_LIMIT_S, BREAKDOWN_LIMIT_S = 1.5, 2.0, 0.5


@pytest.fixture(scope="module")
def data() -> Path:
    folder = study_data_dir()
    if folder is None:
        pytest.skip("the study's dataset is neither in JOULEMAP_STUDY_DATA nor in ../shared/data")
    return folder / "mlenergy-v3"


@pytest.fixture(scope="module")
def store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    found = open_store(tmp_path_factory.mktemp("store"))
    import_path(found, data)
    return found


def report(name: str, benchmark: BenchmarkFixture, limit_s: float) -> None:
    if benchmark.stats is None:  # benchmarks are disabled: it ran once, untimed
        return
    worst_s = benchmark.stats.stats.max
    print(f"\n{name}: {worst_s:.3f} s at most, {worst_s / limit_s:.0%} of the limit of {limit_s:g} s")
    assert worst_s <= limit_s


def test_import(benchmark: BenchmarkFixture, data: Path, tmp_path: Path) -> None:
    folders = (tmp_path / str(n) for n in range(100))
    benchmark.pedantic(lambda: import_path(open_store(next(folders)), data), rounds=5)  # type: ignore[no-untyped-call]
    report("import of the whole dataset", benchmark, IMPORT_LIMIT_S)


def test_claims(benchmark: BenchmarkFixture, store: RunStore) -> None:
    def read_and_reproduce() -> None:
        store.refresh()
        assert len(reproduce(store.frame)) == 24

    benchmark.pedantic(read_and_reproduce, rounds=10, warmup_rounds=1)  # type: ignore[no-untyped-call]
    report("study without figures", benchmark, STUDY_LIMIT_S)


def test_breakdown(benchmark: BenchmarkFixture, store: RunStore) -> None:
    benchmark.pedantic(lambda: breakdown(store.frame, by="model"), rounds=10, warmup_rounds=1)  # type: ignore[no-untyped-call]
    report("breakdown by model", benchmark, BREAKDOWN_LIMIT_S)
