"""``joulemap sweep`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from joulemap.cli.app import run
from joulemap.measure.sweep.executors import local
from joulemap.store.run_store import open_store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> list[str]:
    return ["--store", str(tmp_path / "store")]


def payload(capsys: Captured, *words: str, code: int = 0) -> Any:
    assert run([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_embedded_example_is_measured_and_then_done(capsys: Captured, store: list[str]) -> None:
    file = str(EXAMPLES / "sweep-embedded.toml")
    first = run(["sweep", file, *store])
    told = capsys.readouterr().err
    assert first == 0, told
    assert "3 of 3 measured (3 now, 0 before), 0 without a run" in told
    again = payload(capsys, "sweep", file, *store)
    assert (len(again["before"]), again["runs"], again["attempts"]) == (3, {}, [])
    runs = open_store(store[1]).runs()
    assert {run.workload.max_concurrency for run in runs} == {1, 2, 4}
    assert all(run.provenance.configuration_id for run in runs)


def test_a_dry_run_predicts_and_runs_nothing(capsys: Captured, store: list[str]) -> None:
    file = str(EXAMPLES / "sweep-vllm.toml")
    told = payload(capsys, "sweep", file, "--dry-run", *store)
    first = told["configurations"][0]
    assert first["predicted"]["energy_per_output_j"] > 0
    assert first["basis"] == "modelled"
    assert first["energy_at_most_j"] == pytest.approx(first["predicted"]["power_w"] * 300.0)
    assert not Path(store[1]).exists()
    assert run(["sweep", file, "--dry-run", *store]) == 0
    shown = capsys.readouterr()
    assert f"{len(told['configurations'])} of {len(told['configurations'])} to measure" in shown.err
    assert first["configuration_id"] in shown.out


def test_only_one_configuration(capsys: Captured, store: list[str]) -> None:
    file = str(EXAMPLES / "sweep-vllm.toml")
    ids = [c["configuration_id"] for c in payload(capsys, "sweep", file, "--dry-run", *store)["configurations"]]
    told = payload(capsys, "sweep", file, "--dry-run", "--only", ids[3], *store)
    assert [c["configuration_id"] for c in told["configurations"]] == [ids[3]]
    assert run(["sweep", file, "--only", "nonsense", *store]) == 2
    assert "unknown configuration 'nonsense'" in capsys.readouterr().err


def test_job_files_are_written_but_not_over_others(capsys: Captured, tmp_path: Path) -> None:
    words = ["sweep", str(EXAMPLES / "sweep-process.toml"), "-o", str(tmp_path / "jobs")]
    assert run([*words, "--emit", "slurm"]) == 0
    (file,) = (tmp_path / "jobs").iterdir()
    subprocess.run(["bash", "-n", str(file)], check=True)
    assert f"Wrote {file}" in capsys.readouterr().err
    assert run([*words, "--emit", "slurm"]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert run([*words, "--emit", "slurm", "--force"]) == 0
    assert run([*words, "--emit", "k8s", "--store", "s3://bucket/prefix"]) == 0
    (manifest,) = (tmp_path / "jobs").glob("*.yaml")
    assert [d["kind"] for d in yaml.safe_load_all(manifest.read_text())] == ["ConfigMap", "Job"]
    assert run([*words, "--emit", "k8s"]) == 2
    assert "--store s3://BUCKET/PREFIX" in capsys.readouterr().err


def test_what_this_machine_lacks_is_told(
    capsys: Captured, store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "visible_gpus", dict)
    told = payload(capsys, "sweep", str(EXAMPLES / "sweep-process.toml"), *store, code=2)
    reasons = {failure["reason"] for failure in told["without_run"].values()}
    assert reasons == {"this machine has 0 of the 1 H100 (no GPU)"}


def test_a_malformed_file_ends_in_a_message(capsys: Captured, tmp_path: Path, store: list[str]) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text('[sweep]\nname = "x"\nmodels = "m"\n')
    assert run(["sweep", str(file), *store]) == 2
    told = capsys.readouterr().err
    assert "sweep.toml, line 3: sweep.models is 'm'; expected: a valid list" in told
    assert 'for example  models = ["Qwen/Qwen3-32B"]' in told


def test_what_is_named_is_measured_whatever_it_is_worth(
    capsys: Captured, store: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "visible_gpus", dict)
    file = tmp_path / "sweep.toml"
    # With such a goal nothing is worth measuring, but what is named is measured.
    file.write_text((EXAMPLES / "sweep-process.toml").read_text() + "[adaptive]\nregret = 0.99\n")
    listed = payload(capsys, "sweep", str(file), "--dry-run", *store)["configurations"]
    name = listed[1]["configuration_id"]
    told = payload(capsys, "sweep", str(file), "--only", name, *store, code=2)
    assert (set(told["without_run"]), told["left_out"]) == ({name}, {})
