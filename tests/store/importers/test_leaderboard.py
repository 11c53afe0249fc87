"""The leaderboard importer, on the study's own data and on planted faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from joulemap.errors import ImportFileError
from joulemap.records import Modality, OutputUnit
from joulemap.store.importers import ImportHints, import_path, read_path
from joulemap.store.run_store import open_store

LLM_ROW: dict[str, Any] = {
    "activated_params_billions": 3.0,
    "architecture": "MoE",
    "avg_batch_size": 7.9,
    "avg_output_len": 500.5,
    "avg_power_watts": 400.0,
    "data_parallel": 1,
    "energy_per_request_joules": 1001.0,
    "energy_per_token_joules": 2.0,
    "expert_parallel": 1,
    "gpu_model": "NVIDIA H100 80GB HBM3",
    "max_num_seqs": 8,
    "median_itl_ms": 25.0,
    "model_id": "acme/tiny",
    "nickname": "Tiny",
    "num_gpus": 1,
    "output_throughput_tokens_per_sec": 200.0,
    "p90_itl_ms": 30.0,
    "p95_itl_ms": 35.0,
    "p99_itl_ms": 40.0,
    "tensor_parallel": 1,
    "total_params_billions": 30.0,
    "weight_precision": "bfloat16",
}


def task_file(folder: Path, *rows: dict[str, Any], task: str = "gpqa") -> Path:
    path = folder / f"{task}.json"
    path.write_text(json.dumps({"task": task, "task_display_name": "x", "configurations": list(rows)}))
    return path


def test_the_whole_dataset(study_data: Path) -> None:
    read = read_path(study_data / "mlenergy-v3")
    assert read.problems == ()
    assert read.format == "mlenergy-leaderboard"
    assert len(read.runs) == 1858
    assert len({run.run_id for run in read.runs}) == 1858
    assert len({run.deployment.model_id for run in read.runs}) == 46
    assert all(run.deployment.nickname for run in read.runs)
    llm = [run for run in read.runs if run.workload.output_unit is OutputUnit.TOKEN]
    assert len(llm) == 838
    for run in llm:
        lengths = run.workload.output_lengths
        assert lengths is not None
        assert run.workload.mean_output_tokens is not None
        assert lengths.edges[0] <= run.workload.mean_output_tokens <= lengths.edges[-1]
        assert (run.deployment.engine, run.deployment.engine_version) == ("vllm", "0.11.1")
    assert {run.workload.task for run in llm if run.workload.input_modality is Modality.VIDEO} == {"video-chat"}


def test_tasks_and_models_folders_give_the_same_runs(study_data: Path) -> None:
    whole = {run.run_id for run in read_path(study_data / "mlenergy-v3").runs}
    assert {run.run_id for run in read_path(study_data / "mlenergy-v3" / "tasks").runs} == whole
    assert {run.run_id for run in read_path(study_data / "mlenergy-v3" / "models").runs} == whole


def test_importing_twice_adds_nothing(study_data: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    first = import_path(store, study_data / "mlenergy-v3")
    again = import_path(store, study_data / "mlenergy-v3" / "tasks" / "gpqa.json")
    assert (first.added, first.already_there) == (1858, 0)
    assert (again.added, again.already_there) == (0, 187)
    assert len(store) == 1858


def test_units_and_names(tmp_path: Path) -> None:
    (run,) = read_path(task_file(tmp_path, LLM_ROW)).runs
    assert run.measured.itl_median_s == pytest.approx(0.025)
    assert run.measured.itl_p99_s == pytest.approx(0.040)
    assert run.measured.energy_per_output_j == 2.0
    assert run.deployment.gpu_model == "H100"
    assert run.deployment.max_num_seqs == 8
    assert run.measured.batch_size == 7.9
    assert run.provenance.source_row == 0
    assert "mean_input_tokens" in run.annotations.missing


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("energy_per_token_joules", -1.0, "negative"),
        ("energy_per_token_joules", 0, "above zero"),
        ("energy_per_token_joules", 1e-300, "above zero"),
        ("median_itl_ms", 1e-300, "too small"),
        ("energy_per_token_joules", float("nan"), "finite"),
        ("avg_power_watts", float("inf"), "finite"),
        ("avg_power_watts", float("-inf"), "finite"),
        ("avg_power_watts", "400", "should be a number"),
        ("avg_power_watts", 10**400, "too large"),
        ("avg_power_watts", 1e300, "too large"),
        ("num_gpus", True, "should be a number"),
        ("num_gpus", 1.5, "whole"),
        ("num_gpus", 0, "above zero"),
        ("model_id", "\ud800", "cannot be printed"),
        ("model_id", "\x1b[2J", "cannot be printed"),
        ("model_id", "x" * 10_000, "10,000 characters"),
        ("model_id", None, "null"),
        ("gpu_model", {}, "should be text"),
        ("output_length_distribution", {"bins": [1, 2], "counts": [1, 2]}, "one edge more"),
        ("output_length_distribution", {"bins": [2, 1], "counts": [1]}, "rising"),
    ],
)
def test_a_bad_row_is_named_and_its_neighbours_stay(tmp_path: Path, field: str, value: object, reason: str) -> None:
    path = task_file(tmp_path, LLM_ROW, LLM_ROW | {field: value}, LLM_ROW | {"avg_power_watts": 401.0})
    read = read_path(path)
    assert [run.provenance.source_row for run in read.runs] == [0, 2]
    (problem,) = read.problems
    assert problem.file == str(path)
    assert problem.field is not None
    assert problem.field.startswith(f"configurations[1].{field}")
    assert reason in problem.reason


def test_a_key_that_occurs_twice(tmp_path: Path) -> None:
    path = task_file(tmp_path, LLM_ROW, LLM_ROW)
    path.write_text(path.read_text().replace('"num_gpus": 1,', '"num_gpus": 1, "num_gpus": 2,', 1))
    read = read_path(path)
    assert len(read.runs) == 1
    (problem,) = read.problems
    assert problem.field == "configurations[0].num_gpus"
    assert "twice" in problem.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello", "known format"),
        (b'{"task": "gpqa", "configurations": [{"model_id": "x"', "truncated"),
        (b'{"task": "gpqa", "configurations": "\xff"}', "UTF-8"),
        (b'{"task": "gpqa", "configurations": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"task": "gpqa", "configurations": [' + b"9" * 5_000 + b"]}", "Exceeds the limit"),
        (b'{"task": "gpqa", "configurations": {}}', "should be a list"),
        (b'{"task": 3, "configurations": []}', "should be text"),
    ],
)
def test_a_bad_file_is_one_problem(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "gpqa.json"
    path.write_bytes(content)
    try:
        (problem,) = read_path(path).problems
    except ImportFileError as error:
        problem = error
    assert problem.file == str(path)
    assert reason in problem.reason


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    path = task_file(tmp_path, LLM_ROW)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_path(path).runs) == 1


def test_a_bad_file_in_a_folder_leaves_the_others(study_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    shutil.copytree(study_data / "mlenergy-v3", folder, copy_function=shutil.copyfile)
    for path in (folder, folder / "tasks", folder / "models"):
        path.chmod(0o755)
    (folder / "tasks" / "gpqa.json").write_text('{"task": "gpqa", ')
    shutil.rmtree(folder / "models")
    read = read_path(folder)
    assert len(read.runs) == 1858 - 187
    (problem,) = read.problems
    assert problem.file.endswith("gpqa.json")


def test_hints_do_not_apply(tmp_path: Path) -> None:
    (problem,) = read_path(task_file(tmp_path, LLM_ROW), hints=ImportHints(gpu_model="B200")).problems
    assert "gpu_model" in problem.reason
