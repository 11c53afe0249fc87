"""Thousands of damaged inputs per format: nothing but an import error ever comes out, and the store stays whole."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from joulemap.errors import ImportFileError
from joulemap.store import dataset
from joulemap.store.dataset import CHECKSUMS, MANIFEST
from joulemap.store.importers import ImportHints, importers, read_path
from joulemap.store.run_store import open_store
from tests.store.importers import samples
from tests.store.importers.test_leaderboard import LLM_ROW, task_file
from tests.store.test_publish import every_kind_of_run, published

ROUNDS = int(os.environ.get("JOULEMAP_FUZZ_ROUNDS", "2000"))
"""Damaged inputs of each format; half of them damaged in structure, half in bytes."""
STORED_EVERY = 100
"""Every so often the runs go into the store, which is then read back."""

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e-320, 1e308, -1e308, 10**18, -(10**30), 10**400, 2**63, 2**64,
    float("nan"), float("inf"), float("-inf"), "", "inf", "NaN", "0", "-1", " ", "\x00", "\x1b[2J", "\ud800",
    "é" * 600, "../../etc/passwd", "2026-02-30", "20260216-999999", [], {}, [[]], [None], [{}], {"": None},
    [1, "2", None], [[1, 2], [3]], [float("nan")], {"unit": "ms", "avg": -1}, {"unit": "parsec", "avg": 1},
]  # fmt: skip


def write_leaderboard(folder: Path) -> Path:
    return task_file(folder, LLM_ROW, LLM_ROW | {"output_length_distribution": {"bins": [1, 2], "counts": [3]}})


def write_llm(folder: Path) -> Path:
    # A few snapshots are as good as many to break.
    written = samples.mlenergy_llm(folder)
    telemetry = json.loads((written / "prometheus.json").read_text())
    telemetry["timeline"] = telemetry["timeline"][10:14]
    samples.write_json(written / "prometheus.json", telemetry)
    results = json.loads((written / "results.json").read_text())
    results["timeline"]["power"] = {"device_instant": {"0": [[samples.START_S, 1.0], [samples.START_S + 1, 2.0]]}}
    results["timeline"]["temperature"] = {"0": [[samples.START_S + 1, 50.0]]}
    return samples.write_json(written / "results.json", results)


def write_power(folder: Path) -> Path:
    samples.vllm_bench(folder / "r.json")
    return samples.power_csv(
        folder / "watts.csv", start_s=samples.START_S - 2, end_s=samples.START_S + 70, step_s=2
    )


JSON_FORMATS: dict[str, Callable[[Path], Path]] = {
    "mlenergy-leaderboard": write_leaderboard,
    "mlenergy-llm": write_llm,
    "mlenergy-diffusion": lambda folder: samples.mlenergy_diffusion(folder) / "results.json",
    "aiperf": lambda folder: samples.aiperf(folder / "x.json"),
    "genai-perf": lambda folder: samples.genai_perf(folder / "x.json"),
    "guidellm": lambda folder: samples.guidellm(folder / "x.json"),
    "vllm-bench": lambda folder: samples.vllm_bench(folder / "x.json", output_lens=[3, 5], date="20260216-120100"),
}
BYTE_FORMATS: dict[str, Callable[[Path], Path]] = {
    **JSON_FORMATS,
    "mlenergy-parquet": lambda folder: samples.mlenergy_parquet(folder) / "llm.parquet",
    "zeus": lambda folder: samples.zeus(folder / "x.csv"),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, the whole of it excepted."""
    if not isinstance(value, dict | list):
        return []
    inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    found = [(*path, key) for key, _ in inner]
    for key, child in inner:
        found += places(child, (*path, key))
    return found


def damage(document: Any, random_: random.Random) -> Any:
    """A copy with one to three places replaced, removed, doubled or moved."""
    copy = json.loads(json.dumps(document))
    for _ in range(random_.choice((1, 1, 2, 3))):
        path = random_.choice(places(copy))
        holder = copy
        for key in path[:-1]:
            holder = holder[key]
        action = random_.random()
        if action < 0.7:
            holder[path[-1]] = deepcopy(random_.choice(HOSTILE))
        elif action < 0.85:
            del holder[path[-1]]
        elif isinstance(holder, list):
            holder.insert(0, deepcopy(random_.choice(HOSTILE)))
        else:
            holder[random_.choice(["", "x", "unit", "\ud800", "model_id"])] = holder[path[-1]]
        if not places(copy):
            break
    return copy


def damage_bytes(content: bytes, random_: random.Random) -> bytes:
    """Cut, flip, repeat or insert bytes."""
    data = bytearray(content)
    for _ in range(random_.choice((1, 1, 2, 5))):
        at = random_.randrange(len(data) or 1)
        action = random_.randrange(6)
        if action == 0:
            del data[at:]
        elif action == 1 and data:
            data[at % len(data)] = random_.randrange(256)
        elif action == 2:
            data[at:at] = random_.choice([b"\xff", b"\x00", b"}", b'"', b"[" * 3000, b"9" * 5000, b"NaN", b",,"])
        elif action == 3:
            del data[at : at + random_.randrange(1, 50)]
        elif action == 4:
            data[at:at] = data[at : at + 200]
        else:
            data = bytearray(b"\xef\xbb\xbf") + data
    return bytes(data)


def attempt(path: Path, name: str | None) -> list[Any]:
    """Read a damaged file by its format; return the runs, and check what the problems say."""
    try:
        read = read_path(path, format=name, hints=hints_of(name))
        problems = list(read.problems)
        runs = list(read.runs)
    except ImportFileError as error:
        problems, runs = [error], []
    assert runs or problems or name
    for problem in problems:
        assert problem.file
        assert problem.reason
        assert str(problem).isprintable() or "\n" in str(problem)
        str(problem).encode()
    return runs


def hints_of(name: str | None) -> ImportHints:
    takes_none = {"mlenergy-leaderboard", "mlenergy-parquet", "joulemap"}
    return ImportHints() if name in takes_none else ImportHints(model_id="a/b", power_timezone="UTC")


@pytest.fixture
def intact(tmp_path: Path) -> Callable[[list[Any]], None]:
    """Put runs into a store and check that it reads back whole, with nothing that cannot be."""
    store = open_store(tmp_path / "store")

    def check(runs: list[Any]) -> None:
        before = len(store)
        outcome = store.add(runs)
        fresh = open_store(store.folder)
        assert len(fresh) == before + outcome.added
        assert fresh.damaged == []
        for run in fresh.runs():
            energy_j = run.measured.energy_per_output_j
            assert energy_j is None or (math.isfinite(energy_j) and energy_j > 0)

    return check


@pytest.mark.parametrize("name", sorted(JSON_FORMATS))
def test_damaged_structure(name: str, tmp_path: Path, intact: Callable[[list[Any]], None]) -> None:
    random_ = random.Random(name)
    path = JSON_FORMATS[name](tmp_path / "in" if name.startswith("mlenergy") and "board" not in name else tmp_path)
    document = json.loads(path.read_text())
    telemetry = path.with_name("prometheus.json")
    beside = json.loads(telemetry.read_text()) if telemetry.is_file() else None
    runs: list[Any] = []
    for round_ in range(ROUNDS // 2):
        if beside is not None and round_ % 4 == 0:
            telemetry.write_text(json.dumps(damage(beside, random_)))
        path.write_text(json.dumps(damage(document, random_)))
        runs += attempt(path, name)
        if round_ % STORED_EVERY == 0:
            intact(runs)
            runs = []
    intact(runs)


@pytest.mark.parametrize("name", sorted(BYTE_FORMATS))
def test_damaged_bytes(name: str, tmp_path: Path, intact: Callable[[list[Any]], None]) -> None:
    random_ = random.Random(name)
    path = BYTE_FORMATS[name](tmp_path / "in" if name.startswith("mlenergy") and "board" not in name else tmp_path)
    content = path.read_bytes()
    runs: list[Any] = []
    for round_ in range(ROUNDS // 2):
        path.write_bytes(damage_bytes(content, random_))
        runs += attempt(path, name)
        if round_ % STORED_EVERY == 0:
            intact(runs)
            runs = []
    intact(runs)


def test_damaged_power_logs(tmp_path: Path) -> None:
    random_ = random.Random("power")
    path = write_power(tmp_path)
    content = path.read_bytes()
    for _ in range(ROUNDS // 2):
        path.write_bytes(damage_bytes(content, random_))
        read = read_path(tmp_path / "r.json", hints=ImportHints(power_csv=path, power_timezone="UTC"))
        (run,) = read.runs
        energy_j = run.measured.gpu_energy_j
        assert (energy_j is None) == bool(read.problems)
        assert energy_j is None or (math.isfinite(energy_j) and energy_j >= 0)


def test_damaged_datasets(tmp_path: Path, intact: Callable[[list[Any]], None]) -> None:
    random_ = random.Random("joulemap")
    folder = published(tmp_path, every_kind_of_run()).folder
    files = [folder / MANIFEST, folder / CHECKSUMS, folder / "data" / "runs.parquet"]
    contents = {file: file.read_bytes() for file in files}
    runs: list[Any] = []
    for round_ in range(ROUNDS // 4):
        hit = files[round_ % 3]
        hit.write_bytes(damage_bytes(contents[hit], random_))
        if round_ % 2 and hit.suffix == ".parquet":  # whoever damages a file may mend its checksum
            dataset._seal(folder)
        runs += attempt(folder, "joulemap")
        for file, content in contents.items():
            file.write_bytes(content)
    intact(runs)


def test_every_format_is_fuzzed() -> None:
    assert {*BYTE_FORMATS, "joulemap"} == set(importers())


def test_anything_at_all_is_recognised_or_refused(tmp_path: Path) -> None:
    random_ = random.Random("any")
    for _ in range(ROUNDS // 4):
        path = tmp_path / random_.choice(["x.json", "x.jsonl", "x.csv", "x.parquet", "x"])
        path.write_bytes(random_.randbytes(random_.randrange(200)))
        assert attempt(path, None) == []
        path.unlink()
