"""A real Prometheus scrapes a real exporter beside a server under load; rules and all queries answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.meter import DeviceReading
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.meters.replay import write_recording
from joulemap.measure.meters.sampler import Sampler
from joulemap.measure.mock_server import MockBehaviour, MockServerProcess
from joulemap.watch.metrics import METRICS
from tests.measure.hand_clock import HandClock

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "joulemap.json").read_text(encoding="utf-8"))
TOKEN = "a-token-of-the-test-0123456789"
WITHIN_S = 90.0
NAMES = re.compile(r"\b(?:joulemap|hw)_[a-z_]+\b|\b(?:server|tenant|fleet):joulemap_[a-z0-9_]+:[a-z0-9]+")

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="prometheus and promtool are not installed (Debian: apt-get install prometheus)",
)


def expressions() -> list[str]:
    """Every query of the dashboard, with Grafana's variables filled in."""
    found = [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]
    filled = {"$__rate_interval": "1m", "$__range": "5m", '"$server"': '".*"'}
    for variable, value in filled.items():
        found = [expression.replace(variable, value) for expression in found]
    return found


def recorded_names() -> set[str]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def test_rules_and_dashboard_name_only_what_is_exported() -> None:
    known = {m.prometheus_name for m in METRICS} | recorded_names()
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    queries = [rule["expr"] for group in rules for rule in group["rules"]] + expressions()
    without_labels = [re.sub(r"\{[^}]*\}|by \([^)]*\)|on \([^)]*\)", "", q) for q in queries]
    assert {name for q in without_labels for name in NAMES.findall(q)} <= known
    labels = {label for m in METRICS for label in m.labels}
    assert {"server", "tenant", "part", "bound", "source"} <= labels


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
    taken = [
        (x, y)
        for p in panels
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken)), "two panels overlap"


def test_every_alert_has_a_test_that_it_fires() -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules.test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {a["alertname"] for t in tests for a in t.get("alert_rule_test", ()) if a["exp_alerts"]}
    assert fired == alerts


@needs_prometheus
@pytest.mark.parametrize(
    "words",
    [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules.test.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_promtool_accepts(words: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *words], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_a_fault_in_the_rules_is_found(tmp_path: Path) -> None:
    shutil.copytree(RULES.parent, tmp_path / "p")
    rules = tmp_path / "p" / "rules.yml"
    rules.write_text(rules.read_text().replace("unless on (server)", "and on (server)"))
    done = subprocess.run(
        ["promtool", "test", "rules", "rules.test.yml"],
        cwd=rules.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0


def recording(file: Path, seconds_s: int = 600) -> None:
    """Ten minutes of an H100 that draws 300 to 500 W, with its energy counter."""
    clock = HandClock()
    nvml = FakeNvml(1, power=lambda _i, t: 400.0 + 100.0 * ((t // 7) % 3 - 1), clock=clock)
    meter = NvidiaMeter(nvml, environment={}, clock=clock)
    sampler = Sampler(meter, DeviceReading, clock=clock)
    for _ in range(seconds_s * 2):
        sampler.read_once()
        clock.sleep(0.5)
    write_recording(sampler.frame(), meter.describe(), file)
    meter.close()


@contextmanager
def load(url: str, log: Path) -> Iterator[None]:
    """Four clients that ask without end and log what they got, two for each of two tenants."""
    stop = threading.Event()
    lock = threading.Lock()

    def client(number: int) -> None:
        while not stop.is_set():
            asked = {
                "model": "mock",
                "messages": [{"role": "user", "content": "word " * 80}],
                "max_tokens": 100,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            begin, first, usage = time.time(), None, None
            request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(asked).encode())
            with urllib.request.urlopen(request, timeout=60) as reply:
                for text in reply:
                    first = first or (time.time() if b"content" in text else None)
                    usage = json.loads(text[6:])["usage"] if b'"usage"' in text else usage
            told = {
                "start": begin,
                "first_token": first,
                "end": time.time(),
                "usage": usage,
                "tenant": ("red", 'blue "\\ \n team')[number % 2],
                "route": "/v1/chat",
            }
            with lock, log.open("a") as out:
                out.write(json.dumps(told) + "\n")

    threads = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def exporter(url: str, folder: Path) -> Iterator[str]:
    """``joulemap export`` in a process of its own; gives the address of its metrics."""
    words = [sys.executable, "-m", "joulemap", "export", url, "--port", "0", "--store", str(folder / "store")]
    words += ["--meter", f"replay:{folder / 'h100.parquet'}", "--requests", str(folder / "requests.jsonl")]
    words += ["--interval", "1s", "--rolling", "10s", "--settle", "3s"]
    words += ["--model", "Qwen/Qwen3-8B", "--input-tokens", "80", "--output-tokens", "100"]
    environment = {**os.environ, "JOULEMAP_EXPORT_TOKEN": TOKEN}
    with (folder / "export.log").open("w") as out:
        process = subprocess.Popen(words, stderr=out, env=environment)
    try:
        yield wait_for(lambda: re.search(r"http://\S+/metrics", (folder / "export.log").read_text()))[0]
        process.terminate()
        assert process.wait(30) == 0, (folder / "export.log").read_text()
        assert TOKEN not in (folder / "export.log").read_text()
    finally:
        process.kill()
        process.wait()


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """A Prometheus that scrapes each second; gives a function that asks it."""
    shutil.copy(RULES, folder / "rules.yml")
    rules = (folder / "rules.yml").read_text().replace("interval: 30s", "interval: 1s")
    (folder / "rules.yml").write_text(rules)
    (folder / "token").write_text(TOKEN)
    scrape = {
        "job_name": "joulemap",
        "authorization": {"credentials_file": str(folder / "token")},
        "static_configs": [{"targets": [target]}],
    }
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yml")],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = free_port()
    words = ["prometheus", f"--config.file={folder / 'prometheus.yml'}"]
    words += [f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)

    def ask(query: str) -> list[dict[str, Any]]:
        address = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"
        with urllib.request.urlopen(address, timeout=20) as reply:
            return list(json.load(reply)["data"]["result"])

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(30)


def wait_for(found: Callable[[], Any]) -> Any:
    """Return the first value that is not empty."""
    deadline_s = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline_s:
        try:
            value = found()
        except OSError:
            value = None
        if value:
            return value
        time.sleep(0.3)
    pytest.fail(f"nothing came within {WITHIN_S:g} s")


@needs_prometheus
@pytest.mark.slow
def test_a_real_prometheus_gets_everything(tmp_path: Path) -> None:
    recording(tmp_path / "h100.parquet")
    log = tmp_path / "requests.jsonl"
    log.touch()
    with (
        MockServerProcess(MockBehaviour(ttft_s=0.05, itl_s=0.01)) as server,
        load(server.url, log),
        exporter(server.url, tmp_path) as url,
        prometheus(url.removeprefix("http://").removesuffix("/metrics"), tmp_path) as ask,
    ):
        # The bill of the first tenant comes last: it waits for its requests, and a rate for a second sample.
        wait_for(lambda: ask("tenant:joulemap_energy_per_output_token_joules:rate1h > 0"))
        wait_for(lambda: ask("joulemap_bound == 1"))
        empty = [query for query in expressions() if not wait_or_none(partial(ask, query))]
        assert empty == []
        lacking = [name for name in sorted(recorded_names()) if not wait_or_none(partial(ask, name))]
        assert lacking == []
        (power,) = ask("hw_power_watts")
        assert 300.0 <= float(power["value"][1]) <= 500.0
        assert power["metric"]["basis"] == "measured"
        # A rate over five minutes of which a few seconds are there is small; two neighbouring samples tell.
        (power,) = wait_for(lambda: ask("irate(joulemap_work_energy_joules_total[30s]) > 0"))
        assert 200.0 <= float(power["value"][1]) <= 900.0
        assert ask('ALERTS{alertname="JoulemapMeterDown"}') == []
        tenants = {r["metric"]["tenant"] for r in ask("joulemap_attributed_energy_joules_total")}
        assert tenants == {"red", 'blue "\\ ? team'}
        (balance,) = ask(
            "sum(joulemap_attributed_energy_joules_total) + sum(joulemap_idle_energy_joules_total)"
            " + sum(joulemap_unattributed_energy_joules_total) + sum(joulemap_pending_energy_joules)"
            " - sum(joulemap_work_energy_joules_total)"
        )
        (work,) = ask("sum(joulemap_work_energy_joules_total)")
        assert abs(float(balance["value"][1])) < 1e-6 * float(work["value"][1])


def wait_or_none(found: Callable[[], Any], within_s: float = 20.0) -> Any:
    """Return the first value that is not empty within a time, else ``None``."""
    deadline_s = time.monotonic() + within_s
    while not (value := found()) and time.monotonic() < deadline_s:
        time.sleep(0.5)
    return value
