from __future__ import annotations

import json
from pathlib import Path

import pytest

from joulemap.cli.app import run
from joulemap.store.run_store import RunStore

QWEN = ["predict", "--model", "Qwen/Qwen3-8B", "--gpu", "H100"]


def payload(capsys: pytest.CaptureFixture[str], *arguments: str) -> object:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_has_quantities_latents_and_parts(capsys: pytest.CaptureFixture[str]) -> None:
    made = payload(capsys, *QWEN, "--task", "gpqa", "--batch", "16")
    assert isinstance(made, dict)
    assert made["quantities"]["energy_per_output_j"]["basis"] == "modelled"
    assert made["task"] == "gpqa"
    assert sum(made["energy_parts_j"].values()) == pytest.approx(made["quantities"]["energy_per_output_j"]["value"])


def test_a_sweep_gives_a_curve(capsys: pytest.CaptureFixture[str]) -> None:
    made = payload(capsys, *QWEN, "--output-tokens", "500", "--sweep", "batch=8..64")
    assert isinstance(made, list)
    assert [e["latents"]["batch_size"]["value"] for e in made] == [8.0, 16.0, 32.0, 64.0]


def test_a_version_alone_means_vllm(capsys: pytest.CaptureFixture[str]) -> None:
    told = payload(capsys, *QWEN, "--task", "lm-arena-chat", "--batch", "256", "--engine-version", "0.25.1")
    assert isinstance(told, dict)
    assert told["assumptions"]["sampler"] == "plain"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "vlm"), "did you mean 'vllm'"),
        (("--engine-version", "newest"), "does not begin with a number"),
    ],
)
def test_an_unknown_engine_or_version_is_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, str], message: str
) -> None:
    assert run([*QWEN, "--batch", "8", *words]) == 2
    assert message in capsys.readouterr().err


def test_tables_are_printed_and_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QWEN, "--batch", "9000"]) == 0
    printed = capsys.readouterr()
    assert "energy_per_output_j" in printed.out
    assert "beyond the ceiling" in printed.err


def test_lengths_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lengths = tmp_path / "lengths.txt"
    lengths.write_text("100\n200\n300\n")
    made = payload(capsys, *QWEN, "--batch", "8", "--output-tokens", str(lengths))
    assert isinstance(made, dict)
    requests, tokens = (made["quantities"][f"energy_per_{n}_j"]["value"] for n in ("request", "output"))
    assert requests / tokens == pytest.approx(200.0, rel=0.01)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--batch", "-1"], "must be positive"),
        (["--output-tokens", "many"], "neither a number nor a file"),
        (["--sweep", "colour=1,2"], "KEY=VALUES"),
        (["--sweep", "batch=0..8"], "positive values"),
        (["--task", "gpqb"], "gpqa"),
        (["--precision", "fp9"], "fp8"),
        (["--gpus", "0"], "positive"),
    ],
)
def test_bad_input_is_one_message(capsys: pytest.CaptureFixture[str], extra: list[str], message: str) -> None:
    assert run([*QWEN, *extra]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_given_runs_make_it_an_interpolation(capsys: pytest.CaptureFixture[str], study_store: RunStore) -> None:
    arguments = ["--gpus", "1", "--task", "lm-arena-chat", "--batch", "100", "--store", str(study_store.folder)]
    made = payload(capsys, *QWEN, *arguments, "--given", "model=Qwen/Qwen3-8B,gpu=H100,task=lm-arena-chat")
    assert isinstance(made, dict)
    assert made["quantities"]["power_w"]["basis"] == "interpolated"


def test_calibrate_writes_a_file_once(
    capsys: pytest.CaptureFixture[str], study_store: RunStore, tmp_path: Path
) -> None:
    target = tmp_path / "own.json"
    arguments = [
        "calibrate",
        "task=sourcegraph-fim,gpu=H100",
        "-o",
        str(target),
        "--store",
        str(study_store.folder),
    ]
    code = run(arguments)
    printed = capsys.readouterr()
    assert code == 2
    assert "no runs to calibrate on" in printed.err
    arguments[1] = "task=lm-arena-chat,gpu=H100,precision=bfloat16"
    assert run(arguments) == 0
    assert target.exists()
    assert run(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert run([*QWEN, "--batch", "8", "--calibration", str(target)]) == 0
