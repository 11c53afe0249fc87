"""``joulemap export URL``."""

from __future__ import annotations

import os
from contextlib import ExitStack

from joulemap.cli.measure_options import MeterOptionsGroup
from joulemap.cli.output import Common, note
from joulemap.cli.watch_options import BillOptions, PaceOfWatch, WatchedOptions, WatchRequest, watching
from joulemap.errors import EXIT_DONE
from joulemap.measure.session.interrupts import stopping

DEFAULT_PORT = 9464
"""That of OpenTelemetry's Prometheus exporters."""


def export(
    url: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token_env: str = "JOULEMAP_EXPORT_TOKEN",
    otlp: str | None = None,
    server: WatchedOptions | None = None,
    bill: BillOptions | None = None,
    pace: PaceOfWatch | None = None,
    meters: MeterOptionsGroup | None = None,
    common: Common | None = None,
) -> int:
    """Watch a server and export its energy to Prometheus and OpenTelemetry until Ctrl-C.

    Args:
        url: Address of the server, on this machine.
        host: Address to listen on for Prometheus; one that other machines reach needs a token.
        port: TCP port to listen on; 0 takes a free one.
        token_env: Environment variable that holds the bearer token that Prometheus must send.
        otlp: Metrics URL of an OpenTelemetry collector to send to as well.
        server: The server, as far as it cannot be asked.
        bill: Whose requests they were.
        pace: How often to look.
        meters: What measures.
        common: Store.

    Raises:
        KeyboardInterrupt: The end was asked for before there was anything to export.
    """
    from joulemap.watch.endpoint import Endpoint
    from joulemap.watch.otlp import sending

    request = WatchRequest(
        url=url,
        server=server or WatchedOptions(),
        bill=bill or BillOptions(),
        pace=pace or PaceOfWatch(),
        meters=meters or MeterOptionsGroup(),
    )
    token = os.environ.get(token_env, "").strip()
    with (
        stopping() as stop,
        watching(request, (common or Common()).open()) as agent,
        Endpoint(lambda: agent.snapshot, host=host, port=port, token=token) as endpoint,
        ExitStack() as stack,
    ):
        if otlp is not None:
            stack.enter_context(sending(lambda: agent.snapshot, otlp))
            note(f"sending to {otlp}")
        note(f"metrics at {endpoint.url}" + (" (bearer token needed)" if token else ""))
        if not agent.run(stop):
            raise KeyboardInterrupt
        note("ended")  # Ctrl-C, or a request to terminate, is how exporting ends
    return EXIT_DONE
