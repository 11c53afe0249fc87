"""Measuring a server that is started for the purpose, so that idle and loaded idle can be told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from joulemap.measure.engines.launched import Container, LaunchedServer
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.opening import MeterRequest
from joulemap.measure.session.server import ServerCampaign, ServerPlan
from joulemap.measure.session.session import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedPlan:
    """A server to start, and what to ask of it."""

    command: tuple[str, ...]
    port: int
    ready_within_s: float
    server: ServerPlan
    """What to ask; its target is the server that is started."""
    environment: Mapping[str, str] = field(default_factory=dict)
    container: Container | None = None


class LaunchedCampaign:
    """A server started here; a :class:`~joulemap.measure.session.campaign.Campaign`."""

    starts_engine = True

    def __init__(self, plan: LaunchedPlan) -> None:
        self._plan = plan
        self._launched: LaunchedServer | None = None
        self._server: ServerCampaign | None = None

    def meter_request(self, request: MeterRequest) -> MeterRequest:
        """Return the request as it is: it names the GPUs that the server was given."""
        return request

    def start(self, instruments: Instruments, tell: Callable[[str], None]) -> None:
        """Start the server and wait until it answers.

        Raises:
            JoulemapError: It does not start, or the model does not fit into memory.
        """
        plan = self._plan
        tell(f"starting {plan.command[0]}")
        self._launched = LaunchedServer(
            plan.command,
            plan.port,
            environment=plan.environment,
            container=plan.container,
            ready_within_s=plan.ready_within_s,
        )
        self._server = ServerCampaign(replace(plan.server, target=self._launched.target))
        self._server.start(instruments, tell)

    def levels(self, instruments: Instruments) -> Sequence[Level]:
        """Return the server's levels."""
        return [] if self._server is None else self._server.levels(instruments)

    def close(self) -> None:
        """Stop the server."""
        if self._launched is not None:
            self._launched.stop()
            self._launched = None
