"""The server that is watched: where its metrics are, and what is known of its deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joulemap.clock import Clock
from joulemap.errors import JoulemapError
from joulemap.measure.load.probe import served_models
from joulemap.measure.load.target import Endpoint, Target
from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.server import auth, is_this_machine, server_facts
from joulemap.measure.telemetry.fetch import server_name
from joulemap.measure.telemetry.recorder import TelemetrySource
from joulemap.measure.telemetry.sample import TelemetrySample
from joulemap.records import Deployment

UNKNOWN_MODEL = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedServer:
    """A server, as far as it cannot be asked."""

    url: str
    metrics_url: str | None = None
    """By default ``/metrics`` of the server."""
    api_key_env: str = "JOULEMAP_API_KEY"
    deployment: Mapping[str, Any] = field(default_factory=dict)
    """What the user states, by field name of the deployment; ``None`` for what is not stated."""
    mean_input_tokens: float | None = None
    mean_output_tokens: float | None = None
    """Lengths, for engines that do not count requests."""

    @property
    def name(self) -> str:
        """The server as ``host:port``."""
        return server_name(self.url)

    @property
    def target(self) -> Target:
        """How it is asked."""
        model = self.deployment.get("model_id") or ""
        return Target(url=self.url, model=model, endpoint=Endpoint.CHAT, api_key_env=self.api_key_env)

    def telemetry(self, clock: Clock | None = None) -> TelemetrySource:
        """Return the source of its metrics."""
        url = self.metrics_url or f"{self.url.rstrip('/').removesuffix('/v1')}/metrics"
        return TelemetrySource(url, headers=auth(self.target), clock=clock)

    def is_elsewhere(self) -> bool:
        """Whether the server is on another machine, whose power the meters here do not see."""
        return not is_this_machine(self.target.host)


def asked_facts(server: WatchedServer) -> dict[str, Any]:
    """Return what the server says of itself now; one that does not answer says nothing."""
    target = server.target
    try:
        model = target.model or next(iter(served_models(target)), "")
        return {"model_id": model, **server_facts(Target(url=target.url, model=model, endpoint=target.endpoint))}
    except JoulemapError:
        return {}


def deployment_of(
    server: WatchedServer, told: Mapping[str, Any], sample: TelemetrySample | None, instruments: Instruments
) -> Deployment:
    """Return the deployment: stated before measured, measured before told."""
    found = {"model_id": UNKNOWN_MODEL, **{name: value for name, value in told.items() if value}}
    if sample is not None and sample.engine:
        found |= {**sample.settings, "engine": sample.engine}
    if instruments.work_kind is DeviceKind.GPU:
        found |= {"gpu_model": instruments.gpu_model(), "num_gpus": len(instruments.device_names())}
    else:
        found.pop("gpu_memory_utilization", None)  # an engine on CPUs tells its default, which it does not use
    stated = {name: value for name, value in server.deployment.items() if value is not None}
    return Deployment(**(found | stated))
