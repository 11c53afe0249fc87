"""``joulemap plan``, ``simulate``, ``compare-gpus`` and ``budget`` as a user meets them, on the worked examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from joulemap.cli.app import run
from joulemap.store.run_store import STORE_ENVIRONMENT_VARIABLE, RunStore

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ONE_SITE = str(EXAMPLES / "one-site.toml")
PURCHASE = str(EXAMPLES / "budget-purchase.toml")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _store(study_store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_ENVIRONMENT_VARIABLE, str(study_store.folder))


def payload(capsys: Captured, *words: str) -> Any:
    assert run([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "path", [p for p in sorted(EXAMPLES.glob("*.toml")) if not p.stem.startswith("sweep-")], ids=lambda p: p.stem
)
def test_every_worked_example_runs_and_holds_its_caps(capsys: Captured, path: Path) -> None:
    found = payload(capsys, "plan", str(path))
    assert found["assignments"]
    for power in found["site_power"]:
        assert power["planned_power_w"] <= power["cap_w"] * (1 + 1e-9)
    assert found["gap_fraction"] <= 0.0101


def test_plan_on_the_console(capsys: Captured) -> None:
    assert run(["plan", ONE_SITE, "--confidence", "0.9"]) == 0
    printed = capsys.readouterr().out
    assert "pessimistic at 90% confidence" in printed
    for words in ("facility power", "one more kW of cap at north", "binding:", "facility energy: up to"):
        assert words in printed


def test_objective_of_the_command_line(capsys: Captured) -> None:
    assert run(["plan", str(EXAMPLES / "two-sites-carbon.toml"), "--objective", "energy"]) == 0
    assert capsys.readouterr().out.startswith("energy:")


def test_infeasible_says_what_to_relax(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(Path(ONE_SITE).read_text().replace("cap_kw = 40", "cap_kw = 5"))
    assert run(["plan", str(path), "--objective", "energy"]) == 2
    said = capsys.readouterr().err
    assert "no plan serves every demand in full" in said
    assert "raise cap_kw of north by" in said


def test_a_malformed_file_ends_in_a_message(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(Path(ONE_SITE).read_text().replace("cap_kw = 40", "cap_kw = -40"))
    assert run(["plan", str(path)]) == 2
    said = capsys.readouterr().err
    assert "line 11: sites[0].cap_kw is -40" in said
    assert "for example  cap_kw = 40" in said


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["plan", ONE_SITE, "--gap", "2"], "--gap 0.01"),
        (["plan", ONE_SITE, "--confidence", "1"], "--confidence 0.9"),
        (["simulate", ONE_SITE, "--variation", "-1"], "--variation 2"),
        (["budget"], "--joules 500"),
        (["budget", "--gco2e", "1"], "--carbon-intensity"),
        (["budget", "--joules", "5", "--per", "user"], "--responses 20"),
        (["budget", "--joules", "5", "--pue", "0.5"], "--pue 1.2"),
        (["compare-gpus", "--gpus", "H100"], "--gpus H100,B200"),
        (["compare-gpus", "--gpus", "H100,B20"], "B200"),
        (["simulate", ONE_SITE, "--seed", "-1"], "--seed 0"),
        (["compare-gpus", ONE_SITE, "--slo-scale", "0"], "--slo-scale 0.5"),
        (["compare-gpus", ONE_SITE, "--slo-scale", "1", "--slo-scale", "nan"], "--slo-scale 0.5"),
    ],
)
def test_wrong_words_are_told_with_what_mends_them(capsys: Captured, words: list[str], fix: str) -> None:
    assert run(words) == 2
    assert fix in capsys.readouterr().err


@pytest.fixture
def small(tmp_path: Path) -> str:
    """Return a plan file of two hours and few requests."""
    path = tmp_path / "small.toml"
    text = Path(ONE_SITE).read_text().replace("[20, 60, 120, 160]", "[1, 3]")
    path.write_text(text.replace("requests_per_s = 2", "requests_per_s = 0.2"))
    return str(path)


def test_simulate(capsys: Captured, small: str) -> None:
    found = payload(capsys, "simulate", small)
    assert found["power"][0]["over_cap_fraction"] == 0.0
    assert {d["demand"] for d in found["demands"]} == {"chat", "problems"}
    assert found["plan"]["objective"] == "value"
    assert run(["simulate", small, "--arrivals", "gamma"]) == 0
    assert "time over cap" in capsys.readouterr().out


def test_simulate_a_trace_and_a_load_curve(capsys: Captured, study_data: Path, small: str) -> None:
    trace = study_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.csv"
    assert payload(capsys, "simulate", small, "--trace", str(trace))["requests"] > 10_000
    curve = study_data / "servegen_load_curves.csv"
    assert payload(capsys, "simulate", small, "--curve", str(curve))["requests"] > 10_000


def test_compare_gpus(capsys: Captured) -> None:
    assert run(["compare-gpus", "--task", "gpqa", "--task", "lm-arena-chat"]) == 0
    printed = capsys.readouterr().out
    assert "GPT OSS 120B on H100, gpqa: 2 GPUs take 68% less energy than 1" in printed
    assert "where an older GPU takes less energy (9 of 72" in printed


def test_compare_what_to_buy(capsys: Captured) -> None:
    found = payload(capsys, "compare-gpus", PURCHASE, "--gpus", "H100,H200,B200", "--task", "text-to-image")
    assert [f["gpu_model"] for f in found["fleets"]] == ["H100", "H200", "B200"]
    for fleet in found["fleets"]:
        assert 0 < fleet["capital_usd"] <= 2_000_000
        assert fleet["ownership_usd_per_year"] > fleet["electricity_usd_per_year"]


def test_budget(capsys: Captured) -> None:
    found = payload(capsys, "budget", "--joules", "200", "--task", "lm-arena-chat")
    by_day = payload(
        capsys, "budget", "--kwh", "1", "--per", "day", "--responses", "18000", "--task", "Text Conversation"
    )
    assert found["pairings"] == by_day["pairings"]
    assert (
        run(["budget", "--gco2e", "0.05", "--carbon-intensity", "350", "--task", "gpqa", "--scope", "facility"])
        == 0
    )
    assert "gpqa: 2 of 12 models fit 514 J per response (facility)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["plan", ONE_SITE],
        ["simulate", "SMALL"],
        ["compare-gpus", "--task", "text-to-video"],
        ["budget", "--joules", "2000", "--task", "gpqa"],
    ],
    ids=lambda w: w[0],
)
def test_charts(capsys: Captured, tmp_path: Path, words: list[str], small: str) -> None:
    path = tmp_path / "chart.svg"
    named = [small if word == "SMALL" else word for word in words]
    assert run([*named, "-o", str(path)]) == 0
    assert f"Wrote {path}" in capsys.readouterr().err
    drawn = path.read_text()
    assert drawn.startswith("<svg")
    assert "undefined" not in drawn
    assert "NaN" not in drawn


def test_a_chart_in_one_file_that_opens_offline(tmp_path: Path) -> None:
    path = tmp_path / "plan.html"
    assert run(["plan", ONE_SITE, "-o", str(path)]) == 0
    text = path.read_text()
    assert "<html" in text
    assert 'src="http' not in text
