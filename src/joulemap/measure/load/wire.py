"""How requests reach the server: its address, idle connections, the fixed headers and the key in them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time

from joulemap.errors import ServerError
from joulemap.measure.load.connection import Connection, Exchange
from joulemap.measure.load.failure import ErrorKind
from joulemap.measure.load.form import Forms
from joulemap.measure.load.target import Target


class Wire:
    """Connections to one server.

    Args:
        target: The server.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tls = target.tls()
        self._key = target.api_key()
        path = target.path(target.endpoint)
        self._head = f"POST {path} HTTP/1.1\r\n".encode() + target.headers() + b"Content-Length: %d\r\n\r\n"
        self._address = target.host
        self._idle: list[Connection] = []
        self._forms = Forms()
        self.reuses = True
        """Whether connections are kept for the next request; ends with the first broken promise."""

    async def resolve(self) -> None:
        """Look the host's name up, once for the whole load, and keep the first address that answers.

        Raises:
            ServerError: The name is unknown.
        """
        target, loop = self._target, asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            msg = f"the server {target.host!r} is unknown: {error}"
            raise ServerError(msg, fix="check the URL") from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        self._address = addresses[0]
        for address in addresses if len(addresses) > 1 else ():
            try:
                async with asyncio.timeout(2.0):
                    transport, _ = await loop.create_connection(asyncio.Protocol, address, target.port)
            except OSError:
                continue
            transport.abort()
            self._address = address
            return

    def request(self, body: bytes) -> bytes:
        """Return the whole request."""
        return self._head.replace(b"%d", b"%d" % len(body), 1) + body

    async def connection(self, exchange: Exchange, connect_s: float) -> Connection | None:
        """Return an idle or a new connection; ``None`` after ending the exchange, where there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                exchange.reused = True
                return connection
            connection.close()
        loop, began_s = asyncio.get_running_loop(), time.monotonic()
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._forms),
                    self._address,
                    self._target.port,
                    ssl=self._tls,
                    server_hostname=self._target.host if self._tls is not None else None,
                )
        except OSError as error:
            exchange.end(*_why_unconnected(error, connect_s, secure=self._tls is not None))
            return None
        exchange.connect_s = time.monotonic() - began_s
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose exchange is over, if it can carry another."""
        if self.reuses and connection.usable():
            self._idle.append(connection)
        else:
            connection.close()

    def without_key(self, text: str) -> str:
        """Return a server's words without the key, which some servers repeat."""
        return text.replace(self._key, "[key]") if self._key else text

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


def _why_unconnected(error: OSError, connect_s: float, *, secure: bool) -> tuple[ErrorKind, str]:
    if isinstance(error, TimeoutError):
        return ErrorKind.UNREACHABLE, f"no connection after {connect_s:g} s"
    if isinstance(error, ssl.SSLError):
        return ErrorKind.TLS, str(error)
    if isinstance(error, ConnectionRefusedError) or error.errno == errno.ECONNREFUSED:
        return ErrorKind.REFUSED, "nothing listens there"
    if secure and isinstance(error, ConnectionError):
        return ErrorKind.TLS, f"the connection ended during the handshake ({error}): is it an https server?"
    return ErrorKind.UNREACHABLE, str(error)
