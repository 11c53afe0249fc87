"""``joulemap diagnose`` as a user meets it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from joulemap.cli.app import run
from joulemap.store.run_store import RunStore, open_store
from tests.builders import llm_run

SYSTEM = ("diagnose", "--model", "Qwen/Qwen3-32B", "--gpu", "H100", "--gpus", "2")
Captured = pytest.CaptureFixture[str]
DENSE_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
RUN = "task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max"


def test_json_contract(study_store: RunStore, capsys: Captured) -> None:
    assert run(["diagnose", RUN, "--json", "--store", str(study_store.folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) >= {"run_id", "latents", "ledger", "total_j_per_output", "ideal_j_per_output", "bound_by"}
    assert all({"part", "joules_per_output", "low", "high", "basis"} == set(row) for row in found["ledger"])
    keys = {"cause", "evidence", "lever", "change", "confidence"}
    assert all(keys <= set(finding) for finding in found["findings"])
    total = math.fsum(row["joules_per_output"] for row in found["ledger"])
    assert math.isclose(total, found["total_j_per_output"], rel_tol=1e-9)
    assert found["bound_by"] == "memory-capacity"


def test_console(study_store: RunStore, capsys: Captured) -> None:
    assert run(["diagnose", RUN, "--store", str(study_store.folder)]) == 0
    text = capsys.readouterr().out
    assert "bound by memory-capacity" in text
    assert "weight_traffic" in text
    assert "GB/GPU" in text


def test_a_run_of_a_model_that_the_catalog_lacks(tmp_path: Path, capsys: Captured) -> None:
    store = open_store(tmp_path / "store")
    own = llm_run(model_id="ours/dense-8b", batch=64.0, energy_j=0.15, power_w=450.0, tokens=300.0)
    store.add([own])
    words = ["diagnose", own.run_id, "--json", "--store", str(store.folder)]
    assert run(words) == 0
    blind = json.loads(capsys.readouterr().out)
    assert any("config.json" in note for note in blind["notes"])
    config = tmp_path / "config.json"
    config.write_text(json.dumps(DENSE_8B))
    assert run([*words, "--architecture", str(config)]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert {row["part"] for row in seen["ledger"]} >= {"weight_traffic", "kv_traffic"}
    assert seen["bound_by"] is not None


def test_a_configuration_that_nobody_ran(capsys: Captured) -> None:
    words = [*SYSTEM, "--task", "gpqa", "--batch", "64", "--json"]
    assert run(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run_id"] is None
    assert {row["basis"] for row in found["ledger"]} == {"modelled"}
    assert found["total_basis"] == "modelled"
    assert {q["basis"] for q in found["latents"].values() if q["value"] is not None} == {"modelled"}


def test_low_demand_is_told(capsys: Captured) -> None:
    words = [*SYSTEM, "--output-tokens", "300", "--rate", "1", "--json"]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["bound_by"] == "under-filled"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "neither a run nor"),
        (("abc", "--model", "x", "--gpu", "H100"), "both the run"),
        (("--task", "gpqa"), "neither"),
    ],
)
def test_a_run_or_a_configuration(words: tuple[str, ...], said: str, capsys: Captured) -> None:
    assert run(["diagnose", *words]) != 0
    assert said in capsys.readouterr().err


def test_two_ways_to_set_the_batch_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "--model", "Qwen 3 8B", "--gpu", "H100", "--task", "gpqa", "--batch", "8", "--rate", "2"]
    assert run(words) == 2
    assert "--batch and --rate each set how many requests run together" in capsys.readouterr().err
