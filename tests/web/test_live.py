"""A real measurement in a process of its own, watched from the web process while it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from joulemap.measure.session.journal import Journal
from joulemap.measure.session.published import read_state
from joulemap.measure.session.windows import Window
from joulemap.store.run_store import open_store
from tests.web.conftest import serving

pytestmark = pytest.mark.slow
PATIENCE_S = 120.0


def window(number: int) -> Window:
    begin_s = 10.0 * number
    return Window(
        begin_s=begin_s,
        end_s=begin_s + 10.0,
        begin_unix_s=1.8e9 + begin_s,
        energy_j=1000.0 + number,
        outputs=500.0,
        completed_requests=5.0,
        in_flight=4.0,
    )


def test_a_measurement_is_watched_second_by_second(tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "-m", "joulemap", "measure", "--store", str(store), "--concurrency", "2"]
    with serving("--store", str(store)) as address, httpx2.Client(base_url=address, timeout=30.0) as client:
        assert client.get("/live?format=json").json() == []
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as measuring:
            try:
                seen = _state_of(client)
                assert seen["in_progress"]
                assert seen["state"]["output_unit"] == "token"
                assert seen["state"]["basis"] in {"measured", "assumed"}
                assert os.getpid() != measuring.pid
                page = client.get(f"/live/{seen['session']}", headers={"accept": "text/html"}).text
                assert f"/live/{seen['session']}/events" in page
                parts = _parts(client, seen["session"])
                assert "requests in flight" in parts[0]
            finally:
                measuring.send_signal(signal.SIGINT)
        ended = client.get(f"/live/{seen['session']}?format=json").json()
        assert ended["state"] is None
        assert not list((store / "sessions").glob("*.state.json"))


def test_the_stream_follows_the_journal_to_its_end(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    journal = Journal(store.sessions_folder, "0123456789")
    journal.begin({})
    journal.level("concurrency 4", {"workload": {"output_unit": "token"}, "deployment": {}, "basis": "measured"})
    for number in range(3):
        journal.window("concurrency 4", window(number))
    with (
        serving("--store", store.address) as address,
        httpx2.Client(base_url=address, timeout=60.0) as client,
        client.stream("GET", "/live/0123456789/events") as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        first = next(json.loads(line[6:]) for line in lines if line.startswith("data: "))
        assert "concurrency 4" in first
        assert ">3<" in first
        assert "2" in first  # 3,003 J for 1,500 tokens
        journal.end()
        journal.close()
        rest = list(lines)
        assert "event: end" in rest
    assert read_state(store.sessions_folder, "0123456789") is None


def test_streams_are_bounded_and_let_go(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    journal = Journal(store.sessions_folder, "0123456789")
    journal.begin({})
    journal.close()
    with serving("--store", store.address) as address:
        limit = 16
        clients = [httpx2.Client(base_url=address, timeout=60.0) for _ in range(limit)]
        streams = [c.stream("GET", "/live/0123456789/events") for c in clients]
        for stream in streams:
            assert stream.__enter__().status_code == 200
        with httpx2.Client(base_url=address, timeout=60.0) as one_more:
            assert one_more.get("/live/0123456789/events").status_code == 503
            assert one_more.get("/live").status_code == 200  # pages are none the worse for it
            for stream, client in zip(streams, clients, strict=True):
                stream.__exit__(None, None, None)
                client.close()
            deadline_s = time.monotonic() + PATIENCE_S
            while True:
                with one_more.stream("GET", "/live/0123456789/events") as again:
                    if again.status_code == 200 or time.monotonic() > deadline_s:
                        assert again.status_code == 200
                        break
                time.sleep(0.2)


def _state_of(client: httpx2.Client) -> dict:  # type: ignore[type-arg]
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        found = client.get("/live?format=json").json()
        if found and found[0]["state"] is not None:
            return dict(found[0])
        time.sleep(0.3)
    pytest.fail("no state was published")


def _parts(client: httpx2.Client, session: str) -> list[str]:
    with client.stream("GET", f"/live/{session}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                return [json.loads(line[6:])]
    return []
