"""``joulemap breakdown`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from joulemap.cli.app import run
from joulemap.cli.duration import seconds
from joulemap.errors import UsageError
from joulemap.store.run_store import RunStore, open_store
from tests.builders import image_run, llm_run

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> str:
    runs = [
        llm_run(task="chat", model_id="a", energy_j=1.0, gpu_model="B200"),
        llm_run(task="chat", model_id="a", energy_j=2.0, gpu_model="H100"),
        llm_run(task="solve", model_id="a", energy_j=3.0, gpu_model="H100", tokens=1000.0),
        llm_run(task="solve", model_id="b", energy_j=0.1, gpu_model="H100", valid=False),
        image_run(energy_j=900.0),
    ]
    open_store(tmp_path / "store").add(runs)
    return str(tmp_path / "store")


def payload(capsys: Captured, *words: str) -> Any:
    assert run(["breakdown", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_contract(store: str, capsys: Captured) -> None:
    found = payload(capsys, "--store", store, "--by", "task")
    assert found["by"] == "task"
    assert found["compared"] == "energy_per_request_j"
    assert found["interval"] == "lowest and highest of the configurations behind a row"
    assert found["left_out"] == {"invalid": 1}
    first = found["rows"][0]
    assert {"group", "task", "ratio", "same_models_ratio", "models", "runs", "run_ids"} <= first.keys()
    assert first["energy_per_output_j"] == {
        "value": 1.0,
        "unit": "J/token",
        "basis": "measured",
        "low": None,
        "high": None,
        "configurations": 1,
    }
    assert first["latency_median_s"] is None
    assert [row["group"] for row in found["rows"]] == ["chat", "text-to-image", "solve"]


def test_filters(store: str, capsys: Captured) -> None:
    def groups(*words: str) -> list[str]:
        return [row["group"] for row in payload(capsys, "--store", store, *words)["rows"]]

    assert groups("gpu=H100") == ["chat", "text-to-image", "solve"]
    assert groups("--task", "chat", "--by", "gpu") == ["B200", "H100"]
    assert groups("--task", "chat", "--task", "solve", "--gpu", "H100") == ["chat", "solve"]
    assert groups("--itl-limit", "20ms") == ["chat"]
    assert groups("--latency-limit", "30s") == ["text-to-image"]


def test_table(study_store: RunStore, capsys: Captured) -> None:
    assert run(["breakdown", "gpu=B200", "--store", str(study_store.folder)]) == 0
    printed = capsys.readouterr()
    (gpqa,) = (line.split() for line in printed.out.splitlines() if line.startswith(" gpqa"))
    assert gpqa[1] == "4,625"
    assert gpqa[-3:] == ["12", "106", "measured"]
    assert "means over each model's configuration of least energy" in printed.err


@pytest.mark.parametrize("by", ["task", "model", "gpu", "precision", "batch", "modality"])
@pytest.mark.parametrize("per", ["response", "output"])
def test_charts(store: str, tmp_path: Path, capsys: Captured, by: str, per: str) -> None:
    chart = tmp_path / "chart.svg"
    assert run(["breakdown", "--store", store, "--by", by, "--per", per, "--chart", str(chart)]) == 0
    assert f"Wrote {chart}" in capsys.readouterr().err
    text = chart.read_text()
    assert text.startswith("<svg")
    assert "NaN" not in text
    assert "log scale" in text


def test_the_charts_title_compares_like_with_like(store: str, tmp_path: Path) -> None:
    chart = tmp_path / "chart.svg"
    words = ["--task", "chat", "--per", "output", "--itl-limit", "1s", "--chart", str(chart)]
    assert run(["breakdown", "--store", store, "--by", "gpu", *words]) == 0
    text = chart.read_text()
    assert "H100 takes 2x the energy per token of B200 in chat, on the model that" in text
    assert "median inter-token latency ≤ 1000 ms" in text


def test_left_out_runs_are_noted(store: str, capsys: Captured) -> None:
    assert run(["breakdown", "--store", store]) == 0
    assert "1 run left out: invalid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "colour"], "colour"),
        (["--itl-limit", "50"], "for example 50ms"),
        (["--latency-limit=-3s"], "is not a duration"),
        (["--itl-limit", "1us"], "--itl-limit 0.016s or more"),
        (["gpu=B20"], "did you mean 'B200'"),
        (["gpu=B200,task=solve"], "no run matches"),
        (["task=chat", "--task", "solve"], "gives task twice"),
        (["--at", "noon"], "noon"),
        (["--chart", "chart.bmp"], "does not end in"),
    ],
)
def test_bad_use(store: str, capsys: Captured, words: list[str], message: str) -> None:
    assert run(["breakdown", "--store", store, *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err + printed.out


def test_an_empty_store_says_what_to_do(tmp_path: Path, capsys: Captured) -> None:
    assert run(["breakdown", "--store", str(tmp_path)]) == 3
    assert "joulemap import study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value_s"), [("50ms", 0.05), ("30s", 30.0), ("1.5 min", 90.0), ("2e3us", 0.002), ("7µs", 7e-6)]
)
def test_durations(text: str, value_s: float) -> None:
    assert seconds(text, "--limit") == pytest.approx(value_s)


@pytest.mark.parametrize("text", ["", "50", "ms", "0s", "-1s", "1..2s", ".s", "1h", "nans", "1e999s", "5 m s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        seconds(text, "--limit")
