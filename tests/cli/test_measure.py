"""``joulemap measure`` and ``joulemap record`` as users run them: real processes, a real engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from joulemap.catalog import load_catalog
from joulemap.cli.measure_options import (
    LoadOptions,
    MeasureRequest,
    MeterOptionsGroup,
    PaceOptions,
    numbers_of,
    pace_of,
    share,
    whole_numbers,
)
from joulemap.cli.measure_server import arrivals, asked
from joulemap.errors import UsageError
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.pictures import Pictures
from joulemap.measure.load.plan import ClosedLoop, OpenLoop
from joulemap.measure.load.prompts import ImagePrompts, SyntheticPrompts
from joulemap.measure.load.target import Endpoint
from joulemap.measure.mock_server import MockBehaviour, MockServerProcess
from joulemap.measure.session.journal import read_journal
from joulemap.measure.session.server import is_this_machine
from joulemap.records import Modality
from joulemap.store.run_store import open_store

SHORT = ("--window", "0.4", "--windows", "3", "--warm-up", "1", "--duration", "12", "--meter", "assumed")
QUICK = MockBehaviour(ttft_s=0.02, itl_s=0.005)
KEY = "sk-very-secret-0123456789"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "joulemap", *words]


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "NO_COLOR": "1", **(env or {})},
    )


def short(url: str, store: Path, *more: str) -> Sequence[str]:
    return ("measure", url, "--store", str(store), "--output-tokens", "16", *SHORT, *more)


def session_of(stderr: str) -> str:
    found = re.search(r"^session (\w+)$", stderr, re.MULTILINE)
    assert found is not None, stderr
    return found[1]


def test_the_embedded_engine_is_measured_and_diagnosed_in_less_than_a_minute(tmp_path: Path) -> None:
    begin_s = time.monotonic()
    done = run("measure", "--store", str(tmp_path), "--concurrency", "1,4", "--windows", "3", "--warm-up", "2")
    took_s = time.monotonic() - begin_s
    assert done.returncode == 0, done.stderr
    assert took_s < 60.0
    store = open_store(tmp_path)
    runs = store.runs()
    assert [r.workload.max_concurrency for r in runs] == [1, 4]
    for measured in runs:
        assert measured.deployment.engine == "llama.cpp"
        assert measured.annotations.basis["energy_per_output_j"] == "assumed"
        assert measured.measured.output_throughput_per_s
        assert measured.measured.idle_power_w is not None
        assert measured.measured.loaded_idle_power_w is not None
        assert measured.measured.gpu_energy_j is None
        assert measured.run_id in done.stdout
        assert f"joulemap show {measured.run_id}" in done.stderr
        assert store.timelines.of_run(measured.run_id)["power"].height
    assert "where the joules went" in done.stdout
    assert "assumed" in done.stdout


def test_a_server_is_measured_as_json(tmp_path: Path) -> None:
    with MockServerProcess(QUICK) as server:
        done = run(*short(server.url, tmp_path, "--concurrency", "2,4", "--json"))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [r["workload"]["max_concurrency"] for r in told["runs"]] == [2, 4]
    first = told["runs"][0]["measured"]["energy_per_output_j"]
    assert first["basis"] == "assumed"
    assert first["low"] <= first["value"] <= first["high"]
    assert read_journal(tmp_path / "sessions", told["session"]).finished


def test_ctrl_c_keeps_what_is_complete_and_resume_goes_on(tmp_path: Path) -> None:
    with MockServerProcess(QUICK) as server:
        words = short(server.url, tmp_path, "--concurrency", "2,4")
        process = subprocess.Popen(command(*words), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        wait_for(lambda: open_store(tmp_path).frame.height >= 1)
        process.send_signal(signal.SIGINT)
        _out, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        session = session_of(stderr)
        assert f"joulemap measure --resume {session}" in stderr
        assert "Traceback" not in stderr
        done = run("measure", "--resume", session, "--store", str(tmp_path))
    assert done.returncode == 0, done.stderr
    levels = {r.workload.max_concurrency for r in open_store(tmp_path).runs()}
    assert levels == {2, 4}


def test_a_killed_session_loses_no_complete_window(tmp_path: Path) -> None:
    with MockServerProcess(QUICK) as server:
        words = [*short(server.url, tmp_path, "--concurrency", "2"), "--confidence-width", "0.01%"]
        words[words.index("--windows") + 1] = "200"
        words[words.index("--duration") + 1] = "100"
        process = subprocess.Popen(command(*words), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        wait_for(lambda: len(windows_in(tmp_path)) >= 4)
        process.kill()
        _out, stderr = process.communicate(timeout=60)
        kept = windows_in(tmp_path)
        assert open_store(tmp_path).frame.is_empty()
        session = session_of(stderr)
        done = run("measure", "--resume", session, "--store", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "recovered run" in done.stderr
    (recovered,) = open_store(tmp_path).runs()
    assert f"{len(kept)} windows of a killed session" in " ".join(recovered.validity.reasons)
    energy_j, outputs = sum(w["energy_j"] for w in kept), sum(w["outputs"] for w in kept)
    assert recovered.measured.energy_per_output_j == pytest.approx(energy_j / outputs)


def test_no_key_appears_anywhere(tmp_path: Path) -> None:
    with MockServerProcess(
        MockBehaviour(ttft_s=0.02, itl_s=0.005, api_key_env="MOCK_KEY"), env={"MOCK_KEY": KEY}
    ) as server:
        words = short(server.url, tmp_path, "--concurrency", "2", "--api-key-env", "MY_KEY")
        good = run(*words, env={"MY_KEY": KEY})
        bad = run(*words, env={"MY_KEY": KEY + "-wrong"})
        none = run(*words, env={"MY_KEY": ""})
    assert good.returncode == 0, good.stderr
    assert bad.returncode == 2
    assert none.returncode == 2
    assert "MY_KEY" in none.stderr
    written = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    told = "".join((p.stdout + p.stderr) for p in (good, bad, none)).encode()
    assert KEY.encode() not in written + told


def test_a_server_that_is_not_there_is_one_plain_error(tmp_path: Path) -> None:
    done = run(*short("http://127.0.0.1:9", tmp_path))
    assert done.returncode == 2
    assert "error: the server at http://127.0.0.1:9 does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recording_is_what_the_replay_meter_plays(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    with MockServerProcess(QUICK) as server:
        done = run(
            "record",
            *("-o", str(folder), "--duration", "1.5", "--meter", "assumed"),
            *("--metrics-url", f"{server.url}/metrics"),
        )
    assert done.returncode == 0, done.stderr
    assert {f.name for f in folder.iterdir()} == {"power-assumed.parquet", "telemetry.parquet"}
    assert "telemetry vllm" in done.stderr
    again = run("record", "-o", str(folder), "--duration", "1", "--meter", "assumed")
    assert again.returncode == 2
    assert "--force" in again.stderr
    replayed = run(
        "record",
        *("-o", str(tmp_path / "again"), "--duration", "1"),
        *("--meter", f"replay:{folder / 'power-assumed.parquet'}"),
        *("--metrics-url", "http://127.0.0.1:9/metrics"),
    )
    assert replayed.returncode == 0, replayed.stderr
    assert "telemetry: nothing yet, " in replayed.stderr


def test_a_recording_that_is_terminated_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    words = command("record", "-o", str(folder), "--meter", "assumed")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "Ctrl-C ends it" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1.0)
    process.terminate()
    _out, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert [f.name for f in folder.iterdir()] == ["power-assumed.parquet"]


@pytest.mark.skipif(os.name != "posix", reason="limits of a file's size are POSIX's")
def test_a_recording_that_finds_no_room_is_one_plain_error_and_leaves_no_half_file(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    words = command("record", "-o", str(folder), "--meter", "assumed", "--duration", "1")
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 1; exec {shlex.join(words)}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert f"the recording in {folder} cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(folder.iterdir()) == []


def wait_for(condition: Any, within_s: float = 60.0) -> None:
    begin_s = time.monotonic()
    while not condition():
        assert time.monotonic() - begin_s < within_s
        time.sleep(0.05)


def windows_in(store: Path) -> list[dict[str, float]]:
    lines = [line for f in (store / "sessions").glob("*.jsonl") for line in f.read_bytes().split(b"\n")[:-1]]
    entries = [json.loads(line) for line in lines]
    return [entry["window"] for entry in entries if entry["kind"] == "window"]


def test_a_request_survives_its_journal() -> None:
    request = MeasureRequest(
        url="http://127.0.0.1:8000",
        load=LoadOptions(task="gpqa", concurrency="8,16"),
        pace=PaceOptions(window=2.5),
        meters=MeterOptionsGroup(meter=("assumed",), gpus="0,1"),
    )
    assert MeasureRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


@pytest.mark.parametrize(("text", "expected"), [("2%", 0.02), ("0.05", 0.05)])
def test_shares(text: str, expected: float) -> None:
    assert share(text, "--confidence-width") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["0", "150%", "two", "-1%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--confidence-width"):
        share(text, "--confidence-width")


def test_lists_of_numbers() -> None:
    assert whole_numbers("8,16,8", "--batch") == (8, 16)
    assert numbers_of("0.5, 2", "--rate") == (0.5, 2.0)
    for bad in ("", "0", "a", "1.5"):
        with pytest.raises(UsageError, match="--batch"):
            whole_numbers(bad, "--batch")


def test_a_pace_that_holds_no_window_is_refused() -> None:
    assert pace_of(PaceOptions()).window_s == 5.0
    assert pace_of(PaceOptions(), quick=True).max_duration_s < 15.0
    with pytest.raises(UsageError, match="cannot hold windows"):
        pace_of(PaceOptions(duration=4.0, window=5.0))
    with pytest.raises(UsageError, match="measures nothing"):
        pace_of(PaceOptions(windows=0))


def test_a_task_brings_its_lengths_and_modality() -> None:
    workload, prompts = asked(LoadOptions(task="lm-arena-chat"), Endpoint.CHAT, None)
    task = load_catalog().task("lm-arena-chat")
    assert task.output_lengths is not None
    assert workload.mean_output_tokens == task.output_lengths.mean_tokens
    assert isinstance(prompts, SyntheticPrompts)
    stated, fixed = asked(LoadOptions(task="lm-arena-chat", output_tokens=7), Endpoint.CHAT, None)
    assert isinstance(fixed, SyntheticPrompts)
    assert fixed.output_tokens == FixedLength(7)
    assert stated.task == "lm-arena-chat"
    own, _ = asked(LoadOptions(task="my own task"), Endpoint.CHAT, None)
    assert own.mean_output_tokens is None


def test_loads_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="two different loads"):
        arrivals(LoadOptions(concurrency="8", rate="1"), None, "8")
    assert arrivals(LoadOptions(rate="0.5,2"), None, "8") == (OpenLoop(rate_per_s=0.5), OpenLoop(rate_per_s=2.0))
    assert arrivals(LoadOptions(), None, "8,16") == (ClosedLoop(concurrency=8), ClosedLoop(concurrency=16))


def test_a_server_elsewhere_is_not_this_machine() -> None:
    assert is_this_machine("127.0.0.1")
    assert is_this_machine("localhost")
    assert not is_this_machine("192.0.2.1")  # set aside for documentation (RFC 5737): nobody has it
    assert not is_this_machine("no-such-host.invalid")


def test_pictures_and_bursts_are_asked_for_by_option() -> None:
    bursty = arrivals(LoadOptions(rate="2", rate_variation=3.0), None, "8")
    assert bursty == (OpenLoop(rate_per_s=2.0, variation=3.0),)
    workload, prompts = asked(LoadOptions(images=2, video_frames=4), Endpoint.CHAT, None, size_px=(64, 32))
    assert isinstance(prompts, SyntheticPrompts)
    assert prompts.pictures == Pictures(width_px=64, height_px=32, images=2, video_frames=4)
    assert workload.input_modality is Modality.VIDEO
    drawn, images = asked(LoadOptions(images=3), Endpoint.IMAGES, None, size_px=(512, None))
    assert images == ImagePrompts(width_px=512, images_per_request=3)
    assert drawn.width_px == 512
    with pytest.raises(UsageError, match="--endpoint images takes no"):
        asked(LoadOptions(video_frames=4), Endpoint.IMAGES, None)
