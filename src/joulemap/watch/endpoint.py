"""The Prometheus endpoint: loopback by default, a token otherwise; it renders the newest snapshot."""

from __future__ import annotations

import hmac
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from joulemap.errors import UsageError
from joulemap.watch.metrics import METRICS, Kind
from joulemap.watch.snapshot import Snapshot

LEAST_TOKEN = 16
"""Characters below which a token can be guessed."""
AT_ONCE = 16
"""Requests that are answered together; more are refused."""
HEALTHY_WITHIN_S = 120.0
"""An agent that has not ticked for longer hangs."""
ANSWER_WITHIN_S = 10.0
"""A client that has not sent its request by then is let go."""

Snapshots = Callable[[], Snapshot]


class SnapshotCollector(Collector):
    """Gives the newest snapshot as metric families."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; one without a value has no series."""
        snapshot = self._snapshots()
        for metric in METRICS:
            # The family's constructor adds "_total" to a counter's samples.
            name = metric.prometheus_name.removesuffix("_total")
            kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            family = kind(name, metric.description, labels=metric.labels)
            for attributes, value in metric.samples(snapshot):
                family.add_metric([snapshot.server, *(attributes[a] for a in metric.attributes)], value)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the registry must not ask for a snapshot at registration."""
        return iter(())


def registry_of(snapshots: Snapshots) -> CollectorRegistry:
    """Return a registry with the snapshot's metrics and this process's own."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(snapshots))
    ProcessCollector(registry=registry)
    return registry


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Endpoint:
    """Serves ``/metrics`` and ``/health`` while the ``with`` block lasts.

    Args:
        snapshots: Gives the newest snapshot.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        token: What a client must send as a bearer token; needed unless the address is a loopback one.

    Raises:
        UsageError: The address needs a token, the token is short, or the address cannot be listened on.
    """

    def __init__(self, snapshots: Snapshots, *, host: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        if not token and not is_loopback(host):
            msg = f"{host} can be reached from other machines, and no token is set"
            raise UsageError(msg, fix="export JOULEMAP_EXPORT_TOKEN=…, or listen on 127.0.0.1")
        if token and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
            msg = f"a token must have at least {LEAST_TOKEN} printable ASCII characters"
            raise UsageError(msg, fix="export JOULEMAP_EXPORT_TOKEN=$(openssl rand -hex 32)")
        handler = _handler(snapshots, token, threading.BoundedSemaphore(AT_ONCE))
        try:
            self._server = _server_class(host)((host, port), handler)
        except (OSError, OverflowError) as error:
            msg = f"cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}"
            raise UsageError(msg, fix="give another --port, or the --host of this machine") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="joulemap-endpoint", daemon=True)
        self.port: int = self._server.server_address[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/metrics"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _server_class(host: str) -> type[ThreadingHTTPServer]:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: a client that goes away is no event."""

    return Server


def _handler(snapshots: Snapshots, token: str, room: threading.BoundedSemaphore) -> type[BaseHTTPRequestHandler]:
    registry = registry_of(snapshots)
    expected = f"Bearer {token}".encode()

    class Handler(BaseHTTPRequestHandler):
        timeout = ANSWER_WITHIN_S
        server_version = "joulemap"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/health":
                age_s = (datetime.now(UTC) - snapshots().at).total_seconds()
                well = age_s <= HEALTHY_WITHIN_S
                status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
                told = f"the newest snapshot is {age_s:.0f} s old\n"
                self._answer(status, told.encode(), "text/plain; charset=utf-8")
            elif path != "/metrics":
                self._answer(HTTPStatus.NOT_FOUND, b"metrics are at /metrics\n", "text/plain; charset=utf-8")
            elif token and not hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected):
                self._answer(HTTPStatus.UNAUTHORIZED, b"a bearer token is needed\n", "text/plain; charset=utf-8")
            elif not room.acquire(blocking=False):
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many at once\n", "text/plain; charset=utf-8")
            else:
                try:
                    encode, kind = choose_encoder(self.headers.get("Accept", ""))
                    body = encode(registry)
                finally:
                    room.release()
                self._answer(HTTPStatus.OK, body, kind)

        def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status is HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: scrapes are no events."""

    return Handler
