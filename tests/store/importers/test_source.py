"""Files that are too large, no files at all, or not where they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from joulemap.errors import ImportFileError
from joulemap.store.importers import read_path, source
from tests.store.importers import samples


def test_a_huge_file_is_refused_with_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(source.LARGEST_FILE_BYTES + 1)  # sparse: takes no room
    samples.vllm_bench(tmp_path / "y.json")
    read = read_path(tmp_path)
    assert len(read.runs) == 1
    assert read.problems[0].reason == "has 512 MiB, over the limit of 512 MiB"
    assert read.problems[0].fix is not None


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    (tmp_path / "y.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "z").symlink_to(tmp_path)
    samples.vllm_bench(tmp_path / "a.json")
    read = read_path(tmp_path)
    assert len(read.runs) == 1
    assert {Path(problem.file).name: problem.reason for problem in read.problems} == {
        "x.json": "is not a regular file",
        "y.json": "cannot be read: No such file or directory",
    }


def test_hidden_files_and_folders_are_left_alone(tmp_path: Path) -> None:
    samples.vllm_bench(tmp_path / ".cache" / "a.json")
    samples.vllm_bench(tmp_path / ".a.json")
    with pytest.raises(ImportFileError, match="known format"):
        read_path(tmp_path)


def test_a_wide_and_a_deep_document(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text('{"a":' * 100_000)
    (tmp_path / "wide.json").write_text('{"benchmarks": [' + "{}," * 100_000 + "{}]}")
    read_problems = read_path(tmp_path).problems
    assert [problem.reason for problem in read_problems] == ["is nested too deeply"]


def test_utf16_is_named_as_what_it_is_not(tmp_path: Path) -> None:
    path = samples.vllm_bench(tmp_path / "x.json")
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(ImportFileError, match="known format"):
        read_path(path)
    (problem,) = read_path(path, format="vllm-bench").problems
    assert "is not UTF-8 text" in problem.reason
