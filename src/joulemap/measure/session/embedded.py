"""Measuring the embedded engine: it is started here, so that idle and loaded idle can be told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from joulemap.measure.engines.embedded import EmbeddedEngine
from joulemap.measure.load.plan import Arrivals, ClosedLoop
from joulemap.measure.load.prompts import Prompts
from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.opening import MeterRequest
from joulemap.measure.session.server import ServerCampaign, ServerPlan
from joulemap.measure.session.session import Level
from joulemap.records import Deployment, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPlan:
    """What to ask of the embedded engine."""

    workload: Workload
    arrivals: tuple[Arrivals, ...]
    prompts: Prompts
    context_tokens: int
    """Longest prompt and reply together."""
    gguf: Path | None = None


class EmbeddedCampaign:
    """The embedded engine; a :class:`~joulemap.measure.session.campaign.Campaign`."""

    starts_engine = True

    def __init__(self, plan: EmbeddedPlan) -> None:
        self._plan = plan
        self._engine: EmbeddedEngine | None = None
        self._server: ServerCampaign | None = None

    def meter_request(self, request: MeterRequest) -> MeterRequest:
        """Return the request for the CPU, on which this engine runs."""
        return request if request.names else replace(request, work_kind=DeviceKind.CPU)

    def start(self, instruments: Instruments, tell: Callable[[str], None]) -> None:
        """Start the engine.

        Raises:
            JoulemapError: It cannot be started.
        """
        plan = self._plan
        slots = max((a.concurrency for a in plan.arrivals if isinstance(a, ClosedLoop)), default=8)
        self._engine = EmbeddedEngine(plan.gguf, parallel=slots, context_tokens=plan.context_tokens)
        deployment = self._engine.deployment()
        stated = {f.name: getattr(deployment, f.name) for f in fields(Deployment)}
        target = self._engine.target()
        self._server = ServerCampaign(
            ServerPlan(
                target=target,
                workload=plan.workload,
                arrivals=plan.arrivals,
                prompts=plan.prompts,
                metrics_url=self._engine.metrics_url,
                deployment=stated,
                workers=1,
                client_cores=self._engine.cores.client,
            )
        )
        tell(f"embedded engine: {deployment.engine} {deployment.engine_version}, {self._engine.threads} threads")
        self._server.start(instruments, tell)

    def levels(self, instruments: Instruments) -> Sequence[Level]:
        """Return one level for each concurrency."""
        return [] if self._server is None else self._server.levels(instruments)

    def close(self) -> None:
        """Stop the engine."""
        if self._engine is not None:
            self._engine.stop()
            self._engine = None
