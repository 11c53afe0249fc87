"""Measuring a server: its levels are concurrencies, request rates, or a trace to replay."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

import psutil

from joulemap.errors import JoulemapError, ServerError
from joulemap.measure.load.plan import Arrivals, ClosedLoop, LoadPlan, OpenLoop, Replay
from joulemap.measure.load.probe import find_token_ratio, served_models
from joulemap.measure.load.prompts import ImagePrompts, Prompts, SyntheticPrompts, TokenRatio
from joulemap.measure.load.target import Target
from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.opening import MeterRequest
from joulemap.measure.session.server_work import ServerWork
from joulemap.measure.session.session import Extra, Level
from joulemap.measure.telemetry.fetch import fetch_text
from joulemap.measure.telemetry.recorder import TelemetryRecorder, TelemetrySource
from joulemap.measure.telemetry.window import TelemetryWindow
from joulemap.records import Deployment, OutputUnit, Workload

TELEMETRY_RATE_HZ = 2.0
"""Scrapes a second; each costs the engine a millisecond or so."""
FEWEST_SCRAPES = 5
"""Scrapes without which the engine's mean batch is left to the client's own count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """What to ask of a server, and what is known of it."""

    target: Target
    """An empty model name stands for the first that the server offers."""
    workload: Workload
    arrivals: tuple[Arrivals, ...]
    """One level each."""
    prompts: Prompts
    workers: int | None = None
    metrics_url: str | None = None
    """By default ``/metrics`` of the server."""
    deployment: Mapping[str, Any] = field(default_factory=dict)
    """What the user states of the deployment, by field name."""
    client_cores: tuple[int, ...] = ()
    """Cores to which the load client is bound; by default any."""


class ServerCampaign:
    """A server that runs already; a :class:`~joulemap.measure.session.campaign.Campaign`."""

    starts_engine = False

    def __init__(self, plan: ServerPlan) -> None:
        self._plan = plan
        self._recorder: TelemetryRecorder | None = None
        self._told: dict[str, Any] = {}
        self._notes: list[str] = []

    def meter_request(self, request: MeterRequest) -> MeterRequest:
        """Return the request as it is: only the user knows which GPUs are the server's."""
        return request

    def start(self, instruments: Instruments, tell: Callable[[str], None]) -> None:
        """Make sure that the server answers, and begin to read its metrics.

        Raises:
            ServerError: It does not answer as the API does.
        """
        target = self._plan.target
        if not target.model:
            models = served_models(target)
            if not models:
                msg = f"the server at {target.url} offers no model"
                raise ServerError(msg, fix="name it with --model")
            target = replace(target, model=models[0])
        prompts = self._plan.prompts
        if isinstance(prompts, SyntheticPrompts):
            ratio = _ratio(target)
            if ratio is not None:
                prompts = prompts.calibrated(ratio)
            else:
                self._notes.append("the server tells no token counts: a word was taken for a token")
        self._plan = replace(self._plan, target=target, prompts=prompts)
        self._told = server_facts(target)
        self._watch(instruments, tell)
        tell(f"server {target.url}: model {target.model}")

    def _watch(self, instruments: Instruments, tell: Callable[[str], None]) -> None:
        target = self._plan.target
        url = self._plan.metrics_url or f"{target.url.rstrip('/').removesuffix('/v1')}/metrics"
        recorder = TelemetryRecorder(TelemetrySource(url, headers=auth(target)), rate_hz=TELEMETRY_RATE_HZ)
        instruments.watch_engine(recorder)
        sample = recorder.latest()
        if sample is not None and sample.engine:
            self._told |= {**sample.settings, "engine": sample.engine}
            self._recorder = recorder
            tell(f"telemetry {sample.engine}")
        else:
            why = next(iter(sample.missing.values()), "no scrape") if sample is not None else "no scrape"
            tell(f"telemetry not used: {why}")

    def levels(self, instruments: Instruments) -> Sequence[Level]:
        """Return one level for each arrival pattern."""
        deployment = self._deployment(instruments)
        faults = self._faults(instruments, deployment)
        return [self._level(arrivals, deployment, faults) for arrivals in self._plan.arrivals]

    def _level(self, arrivals: Arrivals, deployment: Deployment, faults: tuple[str, ...]) -> Level:
        plan = self._plan
        load = LoadPlan(arrivals=arrivals, prompts=plan.prompts)
        workload = plan.workload
        if isinstance(arrivals, ClosedLoop):
            workload = replace(workload, max_concurrency=arrivals.concurrency)
        elif isinstance(arrivals, OpenLoop):
            workload = replace(workload, request_rate_per_s=arrivals.rate_per_s)
        return Level(
            name=level_name(arrivals),
            make_work=lambda: ServerWork(load, plan.target, workers=plan.workers, cores=plan.client_cores),
            workload=workload,
            deployment=deployment,
            extra=self._extra,
            faults=faults,
            notes=tuple(self._notes),
        )

    def _deployment(self, instruments: Instruments) -> Deployment:
        stated = {name: value for name, value in self._plan.deployment.items() if value is not None}
        found: dict[str, Any] = {"model_id": self._plan.target.model, **self._told}
        if instruments.work_kind is not DeviceKind.GPU:
            found.pop("gpu_memory_utilization", None)  # an engine on CPUs tells its default, which it does not use
        else:
            found["gpu_model"] = instruments.gpu_model()
            found["num_gpus"] = len(instruments.device_names())
        return Deployment(**{**found, **stated})

    def _faults(self, instruments: Instruments, deployment: Deployment) -> tuple[str, ...]:
        """Return what makes every level invalid: the meters here do not see the GPUs that serve."""
        faults = []
        host = self._plan.target.host
        if not is_this_machine(host):
            faults.append(f"other machine: the server is on {host}, where the meters of this machine do not reach")
        if instruments.work_kind is DeviceKind.GPU and deployment.num_gpus != len(instruments.device_names()):
            faults.append(
                f"GPU count: {deployment.num_gpus} were stated and {len(instruments.device_names())} were measured"
            )
        return tuple(faults)

    def _extra(self, begin_s: float, end_s: float) -> Extra:
        if self._recorder is None:
            return Extra()
        self._recorder.read_once()
        return extra_of(self._recorder.between(begin_s, end_s))

    def close(self) -> None:
        """Nothing was started."""


def extra_of(window: TelemetryWindow) -> Extra:
    """Return the engine's own view of a window in a run's terms."""
    names = (
        "kv_cache_utilization",
        "requests_waiting",
        "preemptions",
        "prefix_cache_hit_rate",
        "engine_flops_per_s",
        "engine_bytes_per_s",
        "starved_fraction",
    )
    told = {name: getattr(window, name) for name in names}
    if window.scrapes >= FEWEST_SCRAPES:
        told["batch_size"] = window.batch_size
    measured = {name: float(value) for name, value in told.items() if value is not None}
    return Extra(measured=measured, missing={k: v for k, v in window.missing.items() if k not in measured})


def level_name(arrivals: Arrivals) -> str:
    """Return what people call a level."""
    if isinstance(arrivals, ClosedLoop):
        return f"concurrency {arrivals.concurrency}"
    if isinstance(arrivals, Replay):
        return "trace"
    return f"rate {arrivals.rate_per_s:g}/s"


def auth(target: Target) -> dict[str, str]:
    """Return the headers that the server asks for; they hold the key, so they must not be shown."""
    key = target.api_key()
    return {"Authorization": f"Bearer {key}"} if key else {}


def server_facts(target: Target) -> dict[str, Any]:
    """Return what a server tells of its deployment, by field name; what it does not tell is not in it."""
    base = target.url.rstrip("/").removesuffix("/v1")
    facts: dict[str, Any] = {}
    version = _json(f"{base}/version", target).get("version")
    if isinstance(version, str):
        facts["engine_version"] = version
    served = _json(f"{base}/v1/models", target).get("data")
    for model in served if isinstance(served, list) else []:
        if (
            isinstance(model, dict)
            and model.get("id") == target.model
            and isinstance(model.get("max_model_len"), int)
        ):
            facts["max_model_len"] = model["max_model_len"]
    return facts


def _ratio(target: Target) -> TokenRatio | None:
    try:
        return find_token_ratio(target)
    except ServerError as error:
        if any(f"HTTP {status}" in error.message for status in (401, 403)):
            raise ServerError(error.message, fix=f"export {target.api_key_env}=… with the server's key") from error
        raise


def _json(url: str, target: Target) -> dict[str, Any]:
    try:
        told = json.loads(fetch_text(url, headers=auth(target)))
    except (JoulemapError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def is_this_machine(host: str) -> bool:
    """Return whether a host name or address is this machine's; a name that cannot be resolved is not."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    own = {address.address.split("%")[0] for part in psutil.net_if_addrs().values() for address in part}
    return any(ip_address(str(a).split("%")[0]).is_loopback or a in own for a in addresses)


def output_unit(target: Target) -> OutputUnit:
    """Return what comes out of an endpoint."""
    return OutputUnit.IMAGE if target.endpoint.value.startswith("images") else OutputUnit.TOKEN


def image_workload(prompts: ImagePrompts) -> Workload:
    """Return the workload of requests to an images endpoint."""
    return Workload(
        task="text-to-image", output_unit=OutputUnit.IMAGE, height_px=prompts.height_px, width_px=prompts.width_px
    )
