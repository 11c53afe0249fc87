"""``joulemap watch`` and ``export`` as users run them: real processes beside a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from joulemap.cli.app import run as run_here
from joulemap.measure.mock_server import MockBehaviour, MockServerProcess

QUICK = ("--meter", "assumed", "--interval", "500ms", "--rolling", "5s")
KEY = "sk-very-secret-0123456789"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "joulemap", *words]


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **(env or {})}
    )


def test_lines_and_a_bill_without_a_terminal(tmp_path: Path) -> None:
    with MockServerProcess(MockBehaviour()) as server:
        done = run("watch", server.url, "--store", str(tmp_path), "--duration", "6s", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "(assumed) W" in done.stdout
    assert "idle" in done.stdout
    assert "100.0%" in done.stdout


def test_json_lines_end_with_everything_settled(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    log.write_text("nonsense\n")
    with MockServerProcess(MockBehaviour()) as server:
        process = subprocess.Popen(
            command("watch", server.url, "--store", str(tmp_path), "--requests", str(log), "--json", *QUICK),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        with log.open("a") as out:
            out.write("more nonsense\n")
        lines.append(process.stdout.readline())
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    told = [json.loads(line) for line in (*lines, *rest.splitlines())]
    assert told[-1]["totals"]["pending_energy_j"] == 0
    assert told[-1]["totals"]["rejected_lines"] == {"no JSON": 1}
    assert told[-1]["basis"] == "assumed"
    assert told[-1]["totals"]["work_energy_j"] >= told[0]["totals"]["work_energy_j"]
    assert "Traceback" not in errors


def test_a_server_that_is_not_there_is_told_not_fatal(tmp_path: Path) -> None:
    done = run("watch", "http://127.0.0.1:9", "--store", str(tmp_path), "--duration", "4s", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "ENGINE DOWN" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_key_reaches_the_server_and_no_output(tmp_path: Path) -> None:
    behaviour = MockBehaviour(api_key_env="JOULEMAP_TEST_KEY")
    with MockServerProcess(behaviour, env={"JOULEMAP_TEST_KEY": KEY}) as server:
        done = run(
            *("watch", server.url, "--store", str(tmp_path), "--duration", "4s", "--json", *QUICK),
            env={"JOULEMAP_API_KEY": KEY},
        )
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("watch", "nonsense"), "address of a server"),
        (("watch", f"http://user:{KEY}@127.0.0.1:1"), "credentials"),
        (("watch", "http://127.0.0.1:1", "--interval", "5"), "is not a duration"),
        (("watch", "http://127.0.0.1:1", "--interval", "2min"), "does not fit"),
        (("watch", "http://127.0.0.1:1", "--max-accounts", "0"), "--max-accounts 0"),
        (("watch", "http://127.0.0.1:1", "--meter", "nosuch"), "unknown meter"),
        (("export", "http://127.0.0.1:1", "--host", "0.0.0.0"), "no token"),
        (("export", "http://127.0.0.1:1", "--port", "0", "--otlp", "nonsense"), "OTLP endpoint"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    meter = ("--meter", "assumed") if "--meter" not in words else ()
    assert run_here([*words, "--store", str(tmp_path), *meter]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "fix:" in told
    assert KEY not in told
