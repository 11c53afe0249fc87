"""Ctrl-C at any moment: the command ends within seconds, by a code of its own, and shows no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import joulemap
from joulemap.cli import watch_options
from joulemap.cli.app import run as run_here
from joulemap.measure.session.opening import instruments

PACKAGE = str(Path(joulemap.__file__).parent)
NOWHERE = "http://127.0.0.1:9"
COMMANDS = {
    "watch": ("watch", NOWHERE, "--meter", "assumed", "--store", "store"),
    "export": ("export", NOWHERE, "--port", "0", "--meter", "assumed", "--store", "store"),
    "record": ("record", "--meter", "assumed", "--output", "recording"),
    "measure": ("measure", NOWHERE, "--task", "gpqa", "--meter", "assumed", "--store", "store"),
    "predict": ("predict", "--model", "Qwen/Qwen3-8B", "--gpu", "H100", "--task", "gpqa", "--store", "store"),
}
DELAYS_S = {"watch": (0.0, 0.05, 0.1, 0.2, 0.6, 1.5, 4.0)}
OTHER_DELAYS_S = (0.1, 0.3, 0.6, 1.2)


@pytest.mark.parametrize(
    ("verb", "delay_s"), [(verb, delay_s) for verb in COMMANDS for delay_s in DELAYS_S.get(verb, OTHER_DELAYS_S)]
)
def test_one_signal_ends_the_command_quietly(tmp_path: Path, verb: str, delay_s: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "joulemap", *COMMANDS[verb]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    if PACKAGE not in errors and "interrupted" not in errors and process.returncode in (1, -signal.SIGINT):
        return  # Python had not come to our code yet
    assert "Traceback" not in errors
    # A server that is not there ends measuring by itself.
    assert process.returncode in (0, 130, *((2,) if verb == "measure" else ())), errors


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import signal, sys, time\nfrom joulemap.cli import ctrl_c\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_interrupt_lost_in_a_finalizer_comes_again() -> None:
    done = in_a_process(
        """
class AsksOnRelease:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

ctrl_c.leave_at_once()
ctrl_c.end_in_order()
asks = AsksOnRelease()
try:
    del asks
    time.sleep(50)
except KeyboardInterrupt:
    print("came")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "came\n", "")


def test_what_else_is_lost_is_still_shown() -> None:
    done = in_a_process(
        """
class Breaks:
    def __del__(self):
        raise ValueError("broken")

ctrl_c.leave_at_once()
ctrl_c.end_in_order()
Breaks()
"""
    )
    assert "broken" in done.stderr


def test_before_a_verb_works_the_process_ends_at_once() -> None:
    done = in_a_process(
        """
ctrl_c.leave_at_once()
try:
    signal.raise_signal(signal.SIGINT)
finally:
    print("in order")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_after_the_work_its_code_stays_and_its_output_too() -> None:
    done = in_a_process(
        """
import atexit

ctrl_c.leave_at_once()
atexit.register(signal.raise_signal, signal.SIGINT)
ctrl_c.end_in_order()
sys.stdout.write("told")
sys.stdout.flush()
ctrl_c.leave_with(2)
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "told", "")


def test_ctrl_c_that_was_switched_off_stays_off() -> None:
    done = in_a_process(
        """
signal.signal(signal.SIGINT, signal.SIG_IGN)
ctrl_c.leave_at_once()
ctrl_c.end_in_order()
ctrl_c.leave_with(2)
signal.raise_signal(signal.SIGINT)
print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.parametrize("verb", ["watch", "export"])
def test_a_signal_while_meters_open_ends_before_anything_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    @contextmanager
    def interrupted(*words: Any, **named: Any) -> Iterator[Any]:
        signal.raise_signal(signal.SIGINT)
        with instruments(*words, **named) as opened:
            yield opened

    monkeypatch.setattr(watch_options, "instruments", interrupted)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_here(list(COMMANDS[verb]))
    assert capsys.readouterr().out == ""
