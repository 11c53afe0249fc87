"""Sending the same metrics to an OpenTelemetry collector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from joulemap import __version__
from joulemap.errors import MissingExtraError, UsageError
from joulemap.units import MS_PER_S
from joulemap.watch.metrics import METRICS, Kind, Metric
from joulemap.watch.snapshot import Snapshot

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation

Snapshots = Callable[[], Snapshot]

PERIOD_S = 15.0


@contextmanager
def sending(snapshots: Snapshots, endpoint: str, *, period_s: float = PERIOD_S) -> Iterator[None]:
    """Send every metric over OTLP (HTTP, protobuf) while the block lasts, and once more at its end.

    Headers, with keys in them, come from the environment (``OTEL_EXPORTER_OTLP_HEADERS``), as the other settings of
    OpenTelemetry do. A collector that cannot be reached loses nothing but the points of that time: all are
    cumulative.

    Args:
        snapshots: Gives the newest snapshot.
        endpoint: The collector's metrics URL, for example ``http://127.0.0.1:4318/v1/metrics``.
        period_s: Time between two exports.

    Raises:
        MissingExtraError: OpenTelemetry's SDK is not installed.
        UsageError: The endpoint is no URL, or holds credentials.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        msg = "an OTLP endpoint must be an http or https URL without credentials"
        raise UsageError(msg, fix="--otlp http://127.0.0.1:4318/v1/metrics; keys: OTEL_EXPORTER_OTLP_HEADERS")
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
    except ImportError as error:
        raise MissingExtraError(
            extra="otlp", needed_for="sending metrics over OTLP", module="opentelemetry"
        ) from error
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=endpoint), export_interval_millis=period_s * MS_PER_S
    )
    resource = Resource.create({"service.name": "joulemap", "service.version": __version__})
    provider = MeterProvider(metric_readers=[reader], resource=resource, shutdown_on_exit=False)
    meter = provider.get_meter("joulemap", __version__)
    for metric in METRICS:
        create = meter.create_observable_counter if metric.kind is Kind.COUNTER else meter.create_observable_gauge
        create(
            metric.name,
            callbacks=[_callback(metric, snapshots)],
            unit=metric.unit,
            description=metric.description,
        )
    try:
        yield
    finally:
        provider.shutdown()


def _callback(metric: Metric, snapshots: Snapshots) -> Callable[[CallbackOptions], Iterable[Observation]]:
    from opentelemetry.metrics import Observation

    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        snapshot = snapshots()
        for attributes, value in metric.samples(snapshot):
            yield Observation(value, {"server": snapshot.server, **attributes})

    return observe
