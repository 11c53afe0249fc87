"""The options that ``joulemap watch`` and ``joulemap export`` share, and the agent that they mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from joulemap.cli.duration import seconds
from joulemap.cli.measure_options import MeterOptionsGroup, StatedDeployment, meter_request
from joulemap.cli.output import note
from joulemap.diagnose.series import Curves
from joulemap.measure.session.opening import Sampling, instruments
from joulemap.store.run_store import RunStore
from joulemap.watch.agent import Agent
from joulemap.watch.request_log import RequestLog
from joulemap.watch.requests import AccountFields
from joulemap.watch.server import WatchedServer
from joulemap.watch.settings import METER_RATE_HZ, WatchSettings


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WatchedOptions(StatedDeployment):
    """The server, as far as it cannot be asked."""

    model: str | None = None
    """The model by its publisher's name, if the server's own name for it is another."""
    input_tokens: float | None = None
    """Mean prompt length, if the engine does not count requests."""
    output_tokens: float | None = None
    """Mean reply length, if the engine does not count requests."""
    metrics_url: str | None = None
    """Where the engine tells its metrics; by default /metrics of the server."""
    api_key_env: str = "JOULEMAP_API_KEY"
    """Environment variable that holds the server's API key."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BillOptions:
    """Whose requests they were."""

    requests: Path | None = None
    """File of finished requests, one JSON object a line, that a gateway or client appends to."""
    tenant_field: str = "tenant"
    """Field of a line that names the tenant; dots step into objects, for example metadata.team."""
    route_field: str = "route"
    """Field that names the route."""
    model_field: str = "model"
    """Field that names the model."""
    max_accounts: int = 100
    """Tenants, routes and models told apart; the rest are billed together."""
    settle: str = "2min"
    """How long to wait for the lines of requests before joules are shared; longer than requests take."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PaceOfWatch:
    """How often to look."""

    interval: str = "5s"
    """Time between two scrapes of the engine's metrics."""
    rolling: str = "60s"
    """Time over which "now" is averaged."""


@dataclass(frozen=True, kw_only=True)
class WatchRequest:
    """Everything that was asked."""

    url: str
    server: WatchedOptions
    bill: BillOptions
    pace: PaceOfWatch
    meters: MeterOptionsGroup

    def settings(self) -> WatchSettings:
        """Return the agent's settings.

        Raises:
            UsageError: A duration is none, or they contradict each other.
        """
        return WatchSettings(
            interval_s=seconds(self.pace.interval, "--interval"),
            rolling_s=seconds(self.pace.rolling, "--rolling"),
            settle_s=seconds(self.bill.settle, "--settle"),
            max_accounts=self.bill.max_accounts,
        )

    def watched(self) -> WatchedServer:
        """Return the server."""
        server = self.server
        return WatchedServer(
            url=self.url,
            metrics_url=server.metrics_url,
            api_key_env=server.api_key_env,
            mean_input_tokens=server.input_tokens,
            mean_output_tokens=server.output_tokens,
            deployment={"model_id": server.model, **server.stated()},
        )


@contextmanager
def watching(request: WatchRequest, store: RunStore) -> Iterator[Agent]:
    """Give an agent that watches what was asked, and close it.

    Raises:
        JoulemapError: The request makes no sense, or the meters cannot be opened.
    """
    settings, bill = request.settings(), request.bill
    fields = AccountFields(tenant=bill.tenant_field, route=bill.route_field, model=bill.model_field)
    log = None if bill.requests is None else RequestLog(bill.requests, fields)
    sampling = Sampling(meter_rate_hz=METER_RATE_HZ, activity_rate_hz=METER_RATE_HZ, keep_s=settings.keep_s)
    agent = Agent(
        request.watched(),
        lambda: instruments(meter_request(request.meters), sampling=sampling),
        request_log=log,
        settings=settings,
        curves=Curves(store.frame) if len(store) else None,
    )
    for line in agent.meter_lines:
        note(f"meter {line}")
    try:
        yield agent
    finally:
        agent.close()
