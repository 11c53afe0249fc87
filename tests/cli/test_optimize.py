"""``joulemap frontier``, ``recommend`` and ``next`` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from joulemap.cli.app import run
from joulemap.cli.choice_options import LimitOptions, ScopeOptions, constraints_of, scope_of, size_bytes
from joulemap.errors import UsageError
from joulemap.store.run_store import RunStore

Captured = pytest.CaptureFixture[str]
GPT = ["--model", "GPT OSS 120B", "--task", "gpqa"]
QUANTITY = {"value", "unit", "low", "high", "basis"}


@pytest.fixture
def store(study_store: RunStore) -> list[str]:
    return ["--store", str(study_store.folder)]


def payload(capsys: Captured, *words: str) -> Any:
    assert run([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_frontier_json(store: list[str], capsys: Captured) -> None:
    found = payload(capsys, "frontier", *GPT, "--gpu", "H100", *store)
    assert found["time_quantity"] == "itl_median_s"
    assert found["hypervolume"] > 0
    assert sum(point["knee"] for point in found["points"]) == 1
    for point in found["points"]:
        assert point["basis"] in {"measured", "interpolated", "modelled"}
        assert point["quantities"]["energy_per_output_j"].keys() == QUANTITY
        assert bool(point["run_ids"]) == (point["basis"] != "modelled")
    times = [p["quantities"]["itl_median_s"]["value"] for p in found["points"]]
    energies = [p["quantities"]["energy_per_output_j"]["value"] for p in found["points"]]
    assert times == sorted(times)
    assert energies == sorted(energies, reverse=True)
    (pair,) = found["same_batch"]
    assert pair["verdict"].startswith("unlocks batch 2048")


@pytest.mark.parametrize(
    ("model", "task", "axis", "quantity"),
    [
        ("GPT OSS 120B", "gpqa", "latency", "latency_mean_s"),
        ("GPT OSS 120B", "gpqa", "throughput", "output_throughput_per_s"),
        ("FLUX.1-dev", "text-to-image", None, "latency_median_s"),
        ("FLUX.1-dev", "text-to-image", "throughput", "output_throughput_per_s"),
    ],
)
def test_frontier_axes(
    store: list[str], capsys: Captured, model: str, task: str, axis: str | None, quantity: str
) -> None:
    asked = [] if axis is None else ["--x", axis]
    found = payload(capsys, "frontier", "--model", model, "--task", task, "--measured-only", *asked, *store)
    assert found["time_quantity"] == quantity
    values = [p["quantities"][quantity]["value"] for p in found["points"]]
    assert values == sorted(values, reverse=axis == "throughput")


def test_frontier_table(store: list[str], capsys: Captured) -> None:
    assert run(["frontier", *GPT, "--gpu", "H100", *store]) == 0
    printed = capsys.readouterr()
    assert "2x H100, mxfp4, batch 2048" in printed.out
    assert "knee" in printed.out
    assert "at the same batch, and at their own best (measured)" in printed.out
    assert "hypervolume" in printed.err


def test_compared_frontiers(store: list[str], capsys: Captured) -> None:
    words = ["--model", "Qwen/Qwen3-30B-A3B-Thinking-2507", "--task", "gpqa", "--measured-only"]
    sides = ["--compare", "gpu=H100", "--compare", "gpu=B200", "--at", "50ms", "--at", "1us"]
    found = payload(capsys, "frontier", *words, *sides, *store)
    tight, none = found["limits"]
    assert tight["energy_ratio"] == pytest.approx(0.65, abs=0.005)
    assert none == {"limit_s": 1e-6, "a_j_per_output": None, "b_j_per_output": None, "energy_ratio": None}
    difference = found["a"]["hypervolume"] - found["b"]["hypervolume"]
    assert found["hypervolume_difference"] == pytest.approx(difference)
    assert found["a"]["reference"] == found["b"]["reference"]
    assert run(["frontier", *words, *sides, *store]) == 0
    assert "0.65x" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["svg", "png", "html"])
@pytest.mark.parametrize("compared", [False, True])
def test_charts(store: list[str], capsys: Captured, tmp_path: Path, ending: str, compared: bool) -> None:
    chart = tmp_path / f"frontier.{ending}"
    sides = ["--compare", "gpus=1", "--compare", "gpus=2"] if compared else []
    assert run(["frontier", *GPT, "--gpu", "H100", *sides, "-o", str(chart), *store]) == 0
    assert f"Wrote {chart}" in capsys.readouterr().err
    assert chart.stat().st_size > 10_000
    if ending == "svg":
        text = chart.read_text()
        assert "NaN" not in text
        assert ("dominates more than" if compared else "nothing beats") in text


def test_recommend_json(store: list[str], capsys: Captured) -> None:
    asked = ["--current", "gpu=H100,gpus=1,batch=64", "--itl", "50ms", "--gpus-available", "H100=8"]
    found = payload(capsys, "recommend", *GPT, *asked, *store)
    assert found["choice"]["gpu_model"] == "H100"
    assert found["choice"]["num_gpus"] == 2
    assert found["choice"]["quantities"]["itl_median_s"]["value"] < 0.05
    assert found["saving"]["energy_ratio"] < 0.6
    product = found["unexplained_ratio"]
    for step in found["steps"]:
        product *= step["change"]["energy_per_output_ratio"]
    assert product == pytest.approx(found["saving"]["energy_ratio"])
    assert found["confidence"] == 0.9
    assert 0 < found["least_probability"] <= 1
    assert found["next_measurement"]["command"].startswith("joulemap measure http")
    assert all(a["costs"] for a in found["advice"])


def test_recommend_table(store: list[str], capsys: Captured) -> None:
    assert run(["recommend", *GPT, "--current", "gpu=H100,gpus=1,batch=64", "--gpu", "H100", *store]) == 0
    printed = capsys.readouterr().out
    assert "2x H100, mxfp4, batch 2048  [measured]" in printed
    assert "-68 %" in printed
    assert "unexplained" in printed
    assert "$ joulemap measure" in printed
    assert "next best" in printed


def test_the_current_run_tells_model_and_task(store: list[str], study_store: RunStore, capsys: Captured) -> None:
    frame = study_store.frame
    run_id = frame.filter(frame["nickname"] == "GPT OSS 120B")["run_id"][0]
    found = payload(capsys, "recommend", "--current", run_id, *store)
    assert found["current"]["run_ids"] == [run_id]
    assert found["choice"]["model_id"] == "openai/gpt-oss-120b"


def test_next(store: list[str], capsys: Captured) -> None:
    asked = [*GPT, "--gpu", "H100", "--itl", "50ms", "--count", "3"]
    found = payload(capsys, "next", *asked, *store)
    assert len(found) == 3
    assert found[0].keys() == {
        *("candidate", "worth_fraction", "change_probability", "keeps_probability", "command")
    }
    assert run(["next", *asked, *store]) == 0
    printed = capsys.readouterr()
    assert f"1. {found[0]['command']}" in printed.out
    assert "expected saving" in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frontier", *GPT, "--compare", "gpu=H100"], "two selections"),
        (["frontier", *GPT, "--at", "50ms"], "--compare gpu=H100"),
        (["frontier", *GPT, "--compare", "batch=max", "--compare", "gpu=B200"], "needs several"),
        (["frontier", *GPT, "-o", "chart.bmp"], "does not end in"),
        (["frontier", "--model", "FLUX.1-dev", "--task", "text-to-image", "--x", "itl"], "no inter-token latency"),
        (["frontier", "--model", "GPT OSS 12", "--task", "gpqa"], "GPT OSS 120B"),
        (["recommend", *GPT, "--itl", "1ms"], "binding: itl"),
        (["recommend", *GPT, "--itl", "50"], "for example 50ms"),
        (["recommend", *GPT, "--memory", "80"], "for example --memory 80GB"),
        (["recommend", *GPT, "--gpus-available", "H100"], "--gpus-available H100=8,B200=4"),
        (["recommend", *GPT, "--gpus-available", "H1000=8"], "did you mean"),
        (["recommend", *GPT, "--throughput=-1"], "not above 0"),
        (["recommend", *GPT, "--confidence", "90"], "between 0 and 1"),
        (["recommend", *GPT, "--quality-floor", "steps=many"], "number of steps"),
        (["recommend", *GPT, "--lever", "magic"], "unknown lever"),
        (["recommend", "--model", "GPT OSS 120B"], "--task is not given"),
        (["next", *GPT, "--itl", "1us"], "likely to keep every limit"),
        (["next", *GPT, "--count", "0"], "a count of 0 lists nothing"),
    ],
)
def test_bad_use_is_one_message(store: list[str], capsys: Captured, words: list[str], message: str) -> None:
    assert run([*words, *store]) == 2
    printed = capsys.readouterr()
    assert message in printed.err + printed.out
    assert "Traceback" not in printed.err


def test_options_and_what_they_mean() -> None:
    limits = constraints_of(
        LimitOptions(
            itl="50ms", latency="2min", gpus_available="H100=8, B200=4", memory="80GiB", quality_floor="28"
        )
    )
    assert limits.itl_median_s == 0.05
    assert limits.latency_s == 120.0
    assert limits.gpus_available == {"H100": 8, "B200": 4}
    assert limits.memory_bytes == 80 * 2**30
    assert limits.steps_floor == 28
    assert constraints_of(LimitOptions(quality_floor="bf16")).precision_floor == "bf16"
    scope = scope_of("m", "t", ScopeOptions(lever=("diffusion_work", "batch")))
    assert scope.levers == ("gpu_count", "precision", "gpu_generation", "batch", "diffusion_work")


@pytest.mark.parametrize("text", ["", "80", "GB", "-1GB", "0GB", "1.2.3GB", ".GB", "80TB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        size_bytes(text, "--memory")
