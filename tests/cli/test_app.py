"""The command as a user meets it: a real process, its exit codes, its two streams."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from joulemap.cli.app import VERBS
from joulemap.store.run_store import open_store
from tests.builders import llm_run

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def joulemap(tmp_path: Path) -> Command:
    """Run the command with its own home and store."""
    environment = {**os.environ, "HOME": str(tmp_path), "JOULEMAP_STORE": str(tmp_path / "store"), "NO_COLOR": "1"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "joulemap", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            check=False,
        )

    return run


@pytest.fixture
def filled(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store.add([llm_run(batch=8.0), llm_run(batch=16.0, energy_j=0.5), llm_run(batch=32.0, valid=False)])


def test_help_lists_every_verb(joulemap: Command) -> None:
    for words in ([], ["--help"], ["-h"]):
        done = joulemap(*words)
        assert done.returncode == 0
        assert all(f"  {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(joulemap: Command, verb: str) -> None:
    done = joulemap(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"joulemap {verb}" in done.stdout


def test_help_costs_little_cpu(joulemap: Command) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    joulemap("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used_s < 0.25


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["explian", "a", "b"], 2, "did you mean 'explain'"),
        (["explain", "abcd"], 2, "argument"),
        (["runs", "--bogus"], 2, "--bogus"),
        (["runs"], 3, "joulemap import study"),
        (["explain", "task=a", "task=b"], 3, "holds no runs"),
        (["show", "abcd"], 3, "holds no runs"),
    ],
)
def test_errors_are_one_message_with_an_exit_code(
    joulemap: Command, words: list[str], code: int, message: str
) -> None:
    done = joulemap(*words)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.usefixtures("filled")
def test_runs_json_keeps_its_contract(joulemap: Command) -> None:
    done = joulemap("runs", "--json")
    rows = json.loads(done.stdout)
    assert len(rows) == 2
    assert "1 invalid runs are left out" in done.stderr
    wanted = {"run_id", "task", "model_id", "gpu_model", "num_gpus", "max_num_seqs", "batch_size"}
    assert wanted | {"energy_per_output_j", "power_w"} <= set(rows[0])
    assert len(json.loads(joulemap("runs", "--include-invalid", "--json").stdout)) == 3


@pytest.mark.usefixtures("filled")
def test_runs_are_filtered_sorted_and_cut(joulemap: Command) -> None:
    done = joulemap(
        *("runs", "task=chat", "--sort", "energy_per_output_j", "--limit", "1"),
        *("--columns", "batch_size,energy_per_output_j", "--json"),
    )
    assert json.loads(done.stdout) == [{"batch_size": 16.0, "energy_per_output_j": 0.5}]
    assert joulemap("runs", "batch=8", "--json").stdout.count("run_id") == 1


@pytest.mark.usefixtures("filled")
def test_runs_are_exported_whole_and_not_overwritten(joulemap: Command, tmp_path: Path) -> None:
    for name in ("runs.csv", "runs.parquet", "runs.json"):
        assert f"Wrote {name}" in joulemap("runs", "-o", name).stderr
    assert pl.read_parquet(tmp_path / "runs.parquet").height == 2
    assert len(list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))) == 2
    assert len(json.loads((tmp_path / "runs.json").read_text())) == 2
    again = joulemap("runs", "-o", "runs.csv")
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert joulemap("runs", "-o", "runs.csv", "--force").returncode == 0
    assert joulemap("runs", "-o", "runs.txt").returncode == 2


@pytest.mark.usefixtures("filled")
def test_show_gives_every_quantity_its_unit_and_basis(joulemap: Command) -> None:
    done = joulemap("show", "task=chat,batch=16", "--json")
    payload = json.loads(done.stdout)
    energy = payload["measured"]["energy_per_output_j"]
    assert (energy["value"], energy["unit"], energy["basis"]) == (0.5, "J/token", "measured")
    assert "J/token" in joulemap("show", payload["run_id"][:8]).stdout


@pytest.mark.usefixtures("filled")
def test_explain_json_keeps_its_contract(joulemap: Command) -> None:
    payload = json.loads(joulemap("explain", "batch=8", "batch=16", "--json").stdout)
    assert {"a", "b", "quantity", "ratio", "factors", "unexplained_ratio"} <= set(payload)
    assert {"name", "cause", "ratio", "basis", "evidence"} <= set(payload["factors"][0])
    assert "batch" in joulemap("explain", "batch=8", "batch=16").stdout


@pytest.mark.usefixtures("filled")
def test_a_damaged_part_is_named_and_the_rest_is_listed(joulemap: Command, tmp_path: Path) -> None:
    (tmp_path / "store" / "runs" / "20000101-broken.parquet").write_bytes(b"PAR1 no")
    done = joulemap("runs", "--json")
    assert done.returncode == 0
    assert "20000101-broken.parquet is damaged" in done.stderr
    assert len(json.loads(done.stdout)) == 2


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("words", ["runs", "runs --json", "runs --help", "show task=chat,batch=16"])
def test_a_closed_pipe_is_no_error(tmp_path: Path, words: str) -> None:
    environment = {**os.environ, "JOULEMAP_STORE": str(tmp_path / "store"), "PYTHONUNBUFFERED": "1"}
    # The reader has gone before the first line is written.
    command = f"{sys.executable} -m joulemap {words} | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_full_disk_is_one_message(tmp_path: Path, form: tuple[str, ...]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    environment = {**os.environ, "JOULEMAP_STORE": str(tmp_path / "store")}
    command = [sys.executable, "-m", "joulemap", "runs", *form]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert "no space is left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_that_lacks_a_character_shows_the_rest(tmp_path: Path, encoding: str) -> None:
    environment = {**os.environ, "JOULEMAP_STORE": str(tmp_path / "store"), "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "joulemap", "explain", "batch=8", "batch=16"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding=encoding, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert "batch" in done.stdout
    done = subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, encoding=encoding, check=False
    )
    utf8 = subprocess.run(
        [*command, "--json"],
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert json.loads(done.stdout) == json.loads(utf8.stdout)


def test_an_interrupt_ends_with_130(tmp_path: Path) -> None:
    # A module on the path that waits stands in for slow work inside a verb.
    (tmp_path / "waiting.py").write_text(
        "import sys, time\n"
        "from joulemap.cli import app\n"
        "app.VERBS['wait'] = ('waiting:wait', 'Wait.')\n"
        "def wait() -> None:\n    print('ready', flush=True)\n    time.sleep(30)\n"
        "if __name__ == '__main__':\n    app.main(['wait'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "waiting.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
