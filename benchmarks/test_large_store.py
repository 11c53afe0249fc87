"""A store of 10⁶ runs and 10⁸ samples, made up, is queried in seconds and little memory.

The store is written once into ``$JOULEMAP_BENCH_STORE``, by default a temporary folder (0.8 GB), which takes some
minutes. Each query runs in a process of its own, whose peak memory counts. ``JOULEMAP_BENCH_SAMPLES`` sets another
number of samples.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from joulemap.store.parts import Parts
from joulemap.store.run_store import open_store
from joulemap.store.schema import runs_to_frame, utc_now
from joulemap.store.timelines import PACK_ROWS
from tests.builders import llm_run

RUNS = 1_000_000
SAMPLES = int(float(os.environ.get("JOULEMAP_BENCH_SAMPLES", "1e8")))
SAMPLES_PER_RUN = 1000
LIMIT_S = 10.0 * max(1.0, SAMPLES / 1e8)
"""10 s for 10⁸ samples."""
LIMIT_BYTES = 2e9
CORES = 2


def count(runs: pl.LazyFrame) -> pl.LazyFrame:
    return runs.group_by("task", "gpu_model").agg(pl.len(), pl.col("energy_per_output_j").median())


def above(samples: pl.LazyFrame) -> pl.LazyFrame:
    return samples.filter(pl.col("power_w") > 650.0).select(pl.len(), pl.col("power_w").mean())


def by_run(samples: pl.LazyFrame) -> pl.LazyFrame:
    steady = samples.filter(pl.col("t_mono_s").is_between(20.0, 80.0))
    return steady.group_by("run_id").agg(pl.col("power_w").mean(), pl.col("energy_j").max())


def query(name: str, folder: str) -> int:
    """Run one query and return the rows that it gave."""
    store = open_store(folder)
    if name == "runs: energy by task and GPU":
        return store.query(count).height
    if name == "runs: joulemap runs task=gpqa,gpu=B200 --limit 3":
        from joulemap.cli.app import run

        return run(["runs", "task=gpqa,gpu=B200", "--limit", "3", "--json", "--store", folder])
    samples = store.timelines.scan("power")
    if name == "samples: power above a threshold":
        return above(samples).collect(engine="streaming").height
    if name == "samples: mean power of each run between two times":
        return by_run(samples).collect(engine="streaming").height
    wanted = store.columns(["run_id", "task", "gpu_model"]).filter(pl.col("gpu_model") == "B200").lazy()
    joined = samples.join(wanted, on="run_id").group_by("task").agg(pl.col("power_w").mean(), pl.len())
    return joined.collect(engine="streaming").height


QUERIES = (
    "runs: energy by task and GPU",
    "runs: joulemap runs task=gpqa,gpu=B200 --limit 3",
    "samples: power above a threshold",
    "samples: mean power of each run between two times",
    "samples joined with runs: mean power by task on one GPU model",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("JOULEMAP_BENCH_STORE")
    folder = Path(given) if given else tmp_path_factory.mktemp("large") / "store"
    done = folder / f"made-{RUNS}-{SAMPLES}"
    if not done.exists():
        ids = _make_runs(folder)
        _make_samples(folder, ids)
        done.write_text("")
    return folder


@pytest.mark.parametrize("name", QUERIES)
def test_query(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = f"from benchmarks.test_large_store import main; main({name!r}, {str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(
            f"\n{name}: {told['wall_s']:.1f} s, CPU {told['cpu_s']:.1f} s, peak {told['peak_bytes'] / 1e9:.2f} GB "
            f"(limits {LIMIT_S:g} s on {CORES} cores, {LIMIT_BYTES / 1e9:g} GB)"
        )
    # CPU time, for other jobs may run beside; on two free cores the wall time is half of it at best.
    assert told["cpu_s"] < LIMIT_S * CORES
    assert told["peak_bytes"] < LIMIT_BYTES


def main(name: str, folder: str) -> None:
    """Run one query, and print what it took."""
    import resource
    import time

    begin_s = time.monotonic()
    rows = query(name, folder)
    print()
    print(
        json.dumps(
            {
                "rows": rows,
                "wall_s": time.monotonic() - begin_s,
                "cpu_s": time.process_time(),
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


def _make_runs(folder: Path) -> list[str]:
    """Write the runs as compaction leaves them, in ten large parts, and return their ids."""
    store = open_store(folder)
    parts = Parts(store.place)
    tasks, gpus = ("gpqa", "lm-arena-chat", "sourcegraph-fim", "image-chat"), ("H100", "H200", "B200")
    pattern = runs_to_frame(
        [llm_run(task=tasks[i % 4], gpu_model=gpus[i % 3], model_id=f"org/model-{i % 50}") for i in range(1200)],
        stored_at=utc_now(),
    )
    chunk = pl.concat([pattern] * (RUNS // 10 // pattern.height + 1)).head(RUNS // 10)
    random = np.random.default_rng(1)
    ids: list[str] = []
    for part in range(10):
        own = [_id(part * chunk.height + i) for i in range(chunk.height)]
        energy_j = random.lognormal(-1.0, 0.8, chunk.height)
        batch = random.integers(1, 2048, chunk.height)
        parts.write(
            chunk.with_columns(
                run_id=pl.Series(own),
                energy_per_output_j=pl.Series(energy_j),
                energy_per_request_j=pl.Series(energy_j * 500.0),
                batch_size=pl.Series(batch).cast(pl.Float64),
                max_num_seqs=pl.Series(batch).cast(pl.Int64),
                power_w=pl.Series(random.normal(600.0, 60.0, chunk.height)),
            )
        )
        ids += own
    return ids


def _make_samples(folder: Path, ids: list[str]) -> None:
    """Write the samples of the first runs as packing leaves them."""
    timelines = open_store(folder).timelines
    random = np.random.default_rng(2)
    pack: Callable[..., None] = timelines._write_pack
    tables: dict[str, pl.DataFrame] = {}
    for run_id in sorted(ids[: SAMPLES // SAMPLES_PER_RUN]):
        power_w = random.normal(600.0, 50.0, SAMPLES_PER_RUN).round(3)
        tables[run_id] = pl.DataFrame(
            {
                "device": ["gpu0"] * SAMPLES_PER_RUN,
                "t_mono_s": np.arange(SAMPLES_PER_RUN) * 0.1,
                "energy_j": np.cumsum(power_w * 0.1).round(3),
                "power_w": power_w,
                "meter": ["nvml"] * SAMPLES_PER_RUN,
            }
        )
        if len(tables) * SAMPLES_PER_RUN >= PACK_ROWS:
            pack("power", tables)
            tables = {}
    if tables:
        pack("power", tables)


def _id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:12]
