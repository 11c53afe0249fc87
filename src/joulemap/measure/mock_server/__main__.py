"""Runs the mock server from the command line."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import fields
from typing import Any

from joulemap.measure.mock_server import __doc__ as about
from joulemap.measure.mock_server.behaviour import Fault, MockBehaviour
from joulemap.measure.mock_server.server import serve


def main() -> None:
    """Run the server from the command line."""
    parser = argparse.ArgumentParser(prog="python -m joulemap.measure.mock_server", description=about)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    for field in fields(MockBehaviour):
        default = field.default
        choices = ["", *Fault] if field.name == "fault" else None
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default, choices=choices)
    options = vars(parser.parse_args())
    port, certificate, key = options.pop("port"), options.pop("certificate"), options.pop("key")
    tls = (certificate, key) if certificate else None
    try:
        import uvloop

        run: Any = uvloop.run
    except ImportError:  # uvloop has no build for Windows
        run = asyncio.run
    try:
        run(serve(MockBehaviour(**options), port=port, tls=tls))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
