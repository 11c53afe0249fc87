"""The Prometheus endpoint and OTLP: real servers, real parsers, hostile clients and names."""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, hw_attributes
from opentelemetry.semconv._incubating.metrics import hw_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from joulemap.errors import UsageError
from joulemap.watch.bill import AccountTotal
from joulemap.watch.endpoint import Endpoint, is_loopback
from joulemap.watch.metrics import METRICS, UNIT_WORDS, Kind
from joulemap.watch.otlp import sending
from joulemap.watch.requests import Account
from joulemap.watch.snapshot import Snapshot
from tests.watch.conftest import MakeRig
from tests.watch.rig import steady

PAGE = Path(__file__).resolve().parents[2] / "docs" / "watch.md"
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def snapshot(make_rig: MakeRig) -> Snapshot:
    told = make_rig(steady(120)).run(100)
    return replace(told, at=datetime.now(UTC))


def fetch(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as reply:
        return str(reply.read().decode())


def status_of(url: str, **headers: str) -> int:
    try:
        fetch(url, **headers)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def test_every_metric_has_a_series_and_the_parts_sum_to_the_work(snapshot: Snapshot) -> None:
    with Endpoint(lambda: snapshot) as endpoint:
        text = fetch(endpoint.url)
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    names = {s.name for s in samples}
    assert {m.prometheus_name for m in METRICS} <= names
    assert "process_cpu_seconds_total" in names

    def total(name: str) -> float:
        return sum(s.value for s in samples if s.name == name)

    parts = sum(
        total(f"joulemap_{part}")
        for part in (
            "attributed_energy_joules_total",
            "idle_energy_joules_total",
            "unattributed_energy_joules_total",
            "pending_energy_joules",
        )
    )
    assert parts == pytest.approx(total("joulemap_work_energy_joules_total"), rel=1e-9)
    assert total("joulemap_bound") == 1.0


def test_open_metrics_are_spoken_where_asked_for(snapshot: Snapshot) -> None:
    with Endpoint(lambda: snapshot) as endpoint:
        text = fetch(endpoint.url, Accept="application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    assert {family.name for family in open_metrics(text)} >= {"hw_energy_joules", "joulemap_info"}  # type: ignore[no-untyped-call]


def test_hostile_names_are_escaped(snapshot: Snapshot) -> None:
    hostile = 'a"} 1\njoulemap_work_energy_joules_total{server="x"} 1e99 \\'
    account = (Account(tenant=hostile), AccountTotal(decode_energy_j=5.0))
    told = replace(snapshot, totals=replace(snapshot.totals, accounts=(account,)))
    with Endpoint(lambda: told) as endpoint:
        families = {f.name: f for f in text_string_to_metric_families(fetch(endpoint.url))}
    (work,) = families["joulemap_work_energy_joules"].samples
    assert work.value < 1e9
    assert {s.labels["tenant"] for s in families["joulemap_attributed_energy_joules"].samples} == {hostile}


def test_what_is_not_known_has_no_series(snapshot: Snapshot) -> None:
    told = replace(snapshot, now=replace(snapshot.now, energy_per_output=None, bound_by=None, ledger=None))
    with Endpoint(lambda: told) as endpoint:
        text = fetch(endpoint.url)
    for name in ("joulemap_energy_per_output_token_joules", "joulemap_bound", "joulemap_ledger_power_watts"):
        assert f"\n{name}{{" not in text


def test_a_token_is_asked_for_and_never_told(snapshot: Snapshot) -> None:
    with Endpoint(lambda: snapshot, token=TOKEN) as endpoint:
        assert status_of(endpoint.url) == 401
        assert status_of(endpoint.url, Authorization="Bearer wrong") == 401
        assert status_of(endpoint.url, Authorization=f"Basic {TOKEN}") == 401
        text = fetch(endpoint.url, Authorization=f"Bearer {TOKEN}")
        assert "joulemap_info" in text
        assert TOKEN not in text
        assert status_of(endpoint.url.replace("/metrics", "/health")) == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gpu-node-1"])
def test_other_machines_need_a_token(snapshot: Snapshot, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError, match="no token"):
        Endpoint(lambda: snapshot, host=host)


@pytest.mark.parametrize("token", ["short", "tokén with characters", "with a\nnewline in the middle"])
def test_a_token_that_can_be_guessed_or_sent_by_none_is_refused(snapshot: Snapshot, token: str) -> None:
    with pytest.raises(UsageError, match="at least 16"):
        Endpoint(lambda: snapshot, token=token)


def test_a_port_that_is_taken_is_named(snapshot: Snapshot) -> None:
    with Endpoint(lambda: snapshot) as endpoint, pytest.raises(UsageError, match="cannot listen"):
        Endpoint(lambda: snapshot, port=endpoint.port)
    with pytest.raises(UsageError, match="cannot listen"):
        Endpoint(lambda: snapshot, port=70_000)


def test_an_agent_that_hangs_is_not_healthy(snapshot: Snapshot) -> None:
    old = replace(snapshot, at=datetime.now(UTC) - timedelta(minutes=5))
    with Endpoint(lambda: old) as endpoint:
        assert status_of(endpoint.url.replace("/metrics", "/health")) == 503


def test_clients_that_send_nothing_or_nonsense_keep_nobody_waiting(snapshot: Snapshot) -> None:
    with Endpoint(lambda: snapshot) as endpoint, contextlib.ExitStack() as stack:
        for text in [b""] * 20 + [b"\x16\x03\x01 no HTTP\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n"]:
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", endpoint.port)))
            idle.sendall(text)
        assert "joulemap_info" in fetch(endpoint.url)
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port)
        connection.request("GET", "/etc/passwd")
        assert connection.getresponse().status == 404
        connection.close()


def test_names_are_those_of_open_telemetrys_translation() -> None:
    assert len({m.name for m in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z][a-z0-9_.]*", metric.name)
        assert metric.unit in {*UNIT_WORDS, ""} or re.fullmatch(r"\{[a-z]+\}", metric.unit)
        assert metric.prometheus_name.endswith("_total") is (metric.kind is Kind.COUNTER)
        assert metric.description.endswith(".")
    by_name = {m.name: m for m in METRICS}
    assert by_name[hw_metrics.HW_ENERGY].unit == "J"
    assert by_name[hw_metrics.HW_POWER].unit == "W"
    attributes = {a for m in METRICS for a in m.attributes}
    conventions = {hw_attributes.HW_ID, hw_attributes.HW_NAME, hw_attributes.HW_TYPE}
    assert {*conventions, gen_ai_attributes.GEN_AI_TOKEN_TYPE} <= attributes


def test_the_reference_in_the_docs_is_that_of_the_code() -> None:
    rows = {
        f"| `{m.prometheus_name}` | `{m.name}` | {m.kind.value} | {m.unit or '–'} "
        f"| {', '.join(f'`{a}`' for a in m.attributes) or '–'} | {m.description} |"
        for m in METRICS
    }
    told = {line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| `(joulemap|hw)_", line)}
    assert told == rows, "\n".join(sorted(rows - told))


@contextmanager
def collector(status: int = 200) -> Iterator[tuple[str, list[ExportMetricsServiceRequest], list[str]]]:
    """A collector that keeps what it is sent."""
    kept: list[ExportMetricsServiceRequest] = []
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.append(ExportMetricsServiceRequest.FromString(body))
            keys.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/metrics", kept, keys
    server.shutdown()
    server.server_close()


def test_otlp_sends_the_same_metrics(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{TOKEN}")
    with collector() as (url, kept, keys):
        with sending(lambda: snapshot, url, period_s=0.2):
            deadline_s = time.monotonic() + 20
            while len(kept) < 2 and time.monotonic() < deadline_s:
                time.sleep(0.05)
        (resource,) = kept[-1].resource_metrics
    assert keys[0] == f"Bearer {TOKEN}"
    told = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert told["service.name"] == "joulemap"
    metrics = {m.name: m for scope in resource.scope_metrics for m in scope.metrics}
    assert set(metrics) == {m.name for m in METRICS}
    energy = metrics["hw.energy"]
    assert energy.unit == "J"
    assert energy.sum.is_monotonic
    (point,) = energy.sum.data_points
    attributes = {a.key: a.value.string_value for a in point.attributes}
    assert attributes["hw.type"] == "gpu"
    assert attributes["basis"] == "measured"
    assert point.as_double == pytest.approx(snapshot.devices[0].energy_j)
    assert metrics["hw.power"].unit == "W"
    assert metrics["hw.power"].gauge.data_points


def test_a_collector_that_refuses_ends_nothing(snapshot: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with collector(status=400) as (url, kept, _), sending(lambda: snapshot, url, period_s=0.1):
        deadline_s = time.monotonic() + 20
        while not kept and time.monotonic() < deadline_s:
            time.sleep(0.05)
    assert kept


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "ftp://collector/v1/metrics", "http://me:secret@collector/"])
def test_an_endpoint_that_is_none_is_refused_without_telling_a_secret(snapshot: Snapshot, url: str) -> None:
    with pytest.raises(UsageError) as refused, sending(lambda: snapshot, url):
        pass
    assert "secret" not in str(refused.value)
