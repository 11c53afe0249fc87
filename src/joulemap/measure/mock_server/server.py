"""The mock server's HTTP side."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from typing import cast

import httptools
import msgspec

from joulemap.measure.mock_server.behaviour import Fault, MockBehaviour
from joulemap.measure.mock_server.streams import Asked, Schedule, Stream, chunk_of, event_of


class _Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: Schedule) -> None:
        self.server = server
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport | None = None
        self.url = b""
        self.authorization = b""
        self.body: list[bytes] = []
        self.closed = False
        self.sock: socket.socket | None = None
        self.behind = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write
        if os.name == "posix" and transport.get_extra_info("ssl_object") is None:
            self.sock = socket.socket(fileno=transport.get_extra_info("socket").fileno())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.let_go()

    def write_now(self, data: bytes) -> None:
        """Write past the event loop's buffer, which sends only at the end of its turn and at a higher cost."""
        transport, sock = self.transport, self.sock
        if transport is None or sock is None or (self.behind and transport.get_write_buffer_size()):
            self.write(data)
            return
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self.behind = sent < len(data)
        if self.behind:
            self.write(data[sent:])

    def let_go(self) -> None:
        """Leave the socket to the transport, which owns and closes it."""
        self.closed = True
        if self.sock is not None:
            self.sock.detach()
            self.sock = None

    def close(self) -> None:
        self.let_go()
        if self.transport is not None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_begin(self) -> None:
        self.body = []
        self.authorization = b""

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self.authorization = value

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        path = self.url.decode().partition("?")[0]
        method = self.parser.get_method()
        if method == b"GET":
            self.get(path)
        elif self.server.key and self.authorization != b"Bearer " + self.server.key.encode():
            self.reply(401, b'{"error": {"message": "Incorrect API key provided"}}')
        else:
            self.post(path)

    def get(self, path: str) -> None:
        if path == "/metrics":
            self.reply(200, self.server.metrics(), kind=b"text/plain; version=0.0.4")
        elif path == "/mock/stats":
            self.reply(200, self.server.stats())
        elif path in {"/health", "/"}:
            self.reply(200, b"{}")
        elif path == "/v1/models":
            self.reply(200, b'{"object": "list", "data": [{"id": "mock", "object": "model"}]}')
        else:
            self.reply(404, b'{"error": {"message": "not found"}}')

    def post(self, path: str) -> None:
        server = self.server
        server.requests += 1
        faulty = server.is_faulty()
        if faulty and server.fault is Fault.NOT_HTTP:
            self.write(b"\x15\x03\x01 this is no HTTP\r\n\r\n")
        elif faulty and server.fault is Fault.TOO_MANY_REQUESTS:
            self.reply(429, b'{"error": {"message": "rate limit reached"}}')
        elif faulty and server.fault is Fault.SERVER_ERROR:
            self.reply(500, b'{"error": {"message": "engine is dead"}}')
        elif path == "/v1/images/generations":
            asked = self.asked()
            server.loop.call_later(server.does.image_s * asked.n, self.send_images, asked.n)
        elif path in {"/v1/chat/completions", "/v1/completions"}:
            self.stream(self.asked(), chat=path == "/v1/chat/completions", faulty=faulty)
        else:
            self.reply(404, b'{"error": {"message": "not found"}}')

    def asked(self) -> Asked:
        return msgspec.json.decode(b"".join(self.body), type=Asked)

    def stream(self, asked: Asked, *, chat: bool, faulty: bool) -> None:
        does = self.server.does
        tokens = does.tokens or asked.max_completion_tokens or asked.max_tokens or 16
        lie = {1: b"keep-alive", 0: b"close", -1: b"keep-alive"}[does.keep_alive]
        self.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: " + lie + b"\r\n\r\n"
        )
        stream = Stream(self, asked, chat=chat, tokens=tokens)
        stream.faulty = faulty
        if faulty and self.server.fault is Fault.NO_CONTENT:
            self.write(chunk_of(chat, "" if chat else None, finish="stop") + event_of(b"[DONE]") + b"0\r\n\r\n")
            return
        self.server.admit(stream)

    def send_images(self, count: int) -> None:
        self.reply(200, msgspec.json.encode({"created": 0, "data": [{"b64_json": "AAAA"}] * count}))

    def reply(self, status: int, body: bytes, *, kind: bytes = b"application/json") -> None:
        if not self.closed:
            head = b"HTTP/1.1 %d Mock\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
            self.write(head % (status, kind, len(body)) + body)
            self.replied()

    def replied(self) -> None:
        if self.server.does.keep_alive != 1:
            self.close()


async def serve(behaviour: MockBehaviour, *, port: int = 0, tls: tuple[str, str] | None = None) -> None:
    """Serve on the loopback interface until cancelled; the first line of stdout names the address.

    Args:
        behaviour: What the server does.
        port: TCP port; 0 takes a free one.
        tls: Certificate and key file, to speak https.
    """
    server = Schedule(behaviour)
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    listener = await server.loop.create_server(
        lambda: _Connection(server), "127.0.0.1", port, ssl=context, backlog=8192
    )
    bound = listener.sockets[0].getsockname()[1]
    sys.stdout.write(f"listening on {'https' if context else 'http'}://127.0.0.1:{bound}\n")
    sys.stdout.flush()
    await listener.serve_forever()
