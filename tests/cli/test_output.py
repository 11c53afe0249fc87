"""Tables as terminals of any width show them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from joulemap.cli import output
from joulemap.cli.app import run
from joulemap.cli.output import print_table
from joulemap.records import Annotations, Basis
from joulemap.store.run_store import open_store
from tests.builders import llm_run

Captured = pytest.CaptureFixture[str]

COLUMNS = ["run", "model", "request_throughput_per_s", "W"]
ROWS = [["297538591541", "Qwen 3 235B A22B Thinking", "26,360 – 1,160,152", "1,234"]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Stand in for a terminal; ``COLUMNS`` in the environment says how wide it is."""
    plain = partial(Console, highlight=False, markup=False, force_terminal=True, color_system=None)
    monkeypatch.setattr(output, "console", plain)
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


def lines(captured: Captured) -> list[str]:
    return [line.rstrip() for line in captured.readouterr().out.splitlines()]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 150])
def test_names_and_numbers_stay_whole(width: int, terminal: pytest.MonkeyPatch, capsys: Captured) -> None:
    terminal.setenv("COLUMNS", str(width))
    print_table("", COLUMNS, ROWS, left=2)
    shown = "\n".join(lines(capsys))
    for whole in ("297538591541", "Thinking", "26,360 – 1,160,152", "1,234", "throughput_"):
        assert whole in shown


def test_a_narrow_terminal_does_without_spare_columns_and_says_so(
    terminal: pytest.MonkeyPatch, capsys: Captured
) -> None:
    terminal.setenv("COLUMNS", "50")
    print_table("", COLUMNS, ROWS, left=2, spare=["request_throughput_per_s", "W"])
    captured = capsys.readouterr()
    assert max(map(len, captured.out.splitlines())) <= 50
    assert "1,160,152" not in captured.out
    assert "1,234" in captured.out, "no more is left out than must be"
    assert captured.err == "left out, for 50 columns are too narrow: request_throughput_per_s\n"


def test_a_pipe_gets_every_column(capsys: Captured) -> None:
    names = [f"column_{i}" for i in range(40)]
    print_table("", names, [["1,234,567"] * 40], spare=names[1:])
    captured = capsys.readouterr()
    assert captured.out.count("1,234,567") == 40
    assert not captured.err


@pytest.mark.parametrize("by", ["task", "model", "gpu", "precision", "batch", "modality"])
@pytest.mark.parametrize("per", ["response", "output"])
def test_what_breakdown_compares_is_never_left_out(
    by: str, per: str, tmp_path: Path, terminal: pytest.MonkeyPatch, capsys: Captured
) -> None:
    open_store(tmp_path).add([llm_run(energy_j=1.0), llm_run(energy_j=2.0, gpu_model="B200")])
    terminal.setenv("COLUMNS", "60")
    assert run(["breakdown", "--by", by, "--per", per, "--store", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for heading in (by, f"J/{per}", "ratio", "basis"):
        assert heading in shown


def test_runs_says_whether_energy_was_measured(tmp_path: Path, capsys: Captured) -> None:
    guessed = Annotations(basis={"energy_per_output_j": Basis.ASSUMED})
    open_store(tmp_path).add([llm_run(energy_j=1.0), replace(llm_run(energy_j=2.0), annotations=guessed)])
    assert run(["runs", "--store", str(tmp_path), "--sort", "energy_per_output_j"]) == 0
    rows = [line.split()[-1] for line in lines(capsys) if "J/" not in line and len(line.split()) > 3]
    assert rows == ["measured", "assumed"]
