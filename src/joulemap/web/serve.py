"""Listening until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from joulemap.errors import UsageError
from joulemap.web import assets
from joulemap.web.app import make_app
from joulemap.web.settings import Settings

KEEP_ALIVE_S = 10
MOST_CONNECTIONS = 256
STOP_WITHIN_S = 2


def serve_until_interrupted(settings: Settings, tell: Callable[[str], None]) -> None:
    """Serve the application until the process is told to end.

    Args:
        settings: Where runs are, who may ask, and how much work is done at once.
        tell: Shows a line to the user.

    Raises:
        UsageError: The address cannot be listened at.
    """
    listening = _listen(settings.host, settings.port)
    if not assets.vega_is_kept():
        tell("making the script that draws charts, which takes some seconds, once")
    assets.vega()
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        make_app(settings),
        log_level="warning",
        access_log=False,  # addresses hold what was asked, which is nobody else's business
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        limit_concurrency=MOST_CONNECTIONS,
    )
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    protected = " (with the token)" if settings.token else ""
    tell(f"joulemap is at http://{shown}:{port}/{protected}; Ctrl-C ends it")
    with listening:
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        msg = f"nothing can be served at {host}, port {port}: {error.strerror or error}"
        raise UsageError(msg, fix="--port 0 takes a free port") from error
