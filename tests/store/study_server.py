"""A real HTTP server on the loopback that serves a release and misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler", bytes], None]
"""Answers a request in place of the server, given the file's true content."""


class StudyServer(ThreadingHTTPServer):
    """Serves ``files``; a path in ``faults`` answers its first requests by a list of faults, or all by one."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault] | Fault] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[tuple[str, str]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet: a client that hangs up on a misbehaving server is expected."""


class Handler(BaseHTTPRequestHandler):
    server: StudyServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.removeprefix("/data/")
        self.server.requests[name] += 1
        if asked := self.headers.get("Range"):
            self.server.ranges.append((name, asked))
        content = self.server.files.get(name, b"")
        faults = self.server.faults.get(name)
        if callable(faults):
            faults(self, content)
        elif faults:
            faults.pop(0)(self, content)
        elif name not in self.server.files:
            answer(self, 404, b"not here")
        else:
            serve(self, content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


def answer(handler: Handler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", headers.pop("length", str(len(body))))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


def tag(content: bytes) -> str:
    return '"' + hashlib.sha256(content).hexdigest()[:16] + '"'


def serve(handler: Handler, content: bytes) -> None:
    """As a good server does: whole, or from where a client left off if the file is the same."""
    asked = handler.headers.get("Range")
    if asked and handler.headers.get("If-Range") == tag(content):
        start = int(asked.removeprefix("bytes=").partition("-")[0])
        if start >= len(content):
            answer(handler, 416, b"", Content_Range=f"bytes */{len(content)}")
            return
        total = len(content)
        answer(handler, 206, content[start:], ETag=tag(content), Content_Range=f"bytes {start}-{total - 1}/{total}")
        return
    answer(handler, 200, content, ETag=tag(content))


def truncate(handler: Handler, content: bytes) -> None:
    """Announce all and send half."""
    answer(handler, 200, content[: len(content) // 2], length=str(len(content)), ETag=tag(content))


def understate(handler: Handler, content: bytes) -> None:
    """Announce less than there is."""
    answer(handler, 200, content, length=str(len(content) - 7), ETag=tag(content))


def announce_terabytes(handler: Handler, content: bytes) -> None:
    answer(handler, 200, content, length=str(10**13))


def send_without_end(handler: Handler, content: bytes) -> None:
    """Announce no length and never stop."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def stall(handler: Handler, content: bytes) -> None:
    """Send a little, then nothing, and keep the connection open."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.send_header("ETag", tag(content))
    handler.end_headers()
    handler.wfile.write(content[:10])
    handler.wfile.flush()
    handler.server.released.wait(10)
    handler.close_connection = True


def drip(handler: Handler, content: bytes) -> None:
    """Send a byte at a time, never pausing long enough to be a stall."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for position in range(len(content)):
        handler.wfile.write(content[position : position + 1])
        handler.wfile.flush()
        time.sleep(0.02)


def wrong_part(handler: Handler, content: bytes) -> None:
    """Answer a range request with another part."""
    if handler.headers.get("Range"):
        answer(handler, 206, content[3:], Content_Range=f"bytes 3-{len(content) - 1}/{len(content)}")
    else:
        truncate(handler, content)


def hang_up(handler: Handler, content: bytes) -> None:
    handler.close_connection = True
    handler.connection.close()


def talk_nonsense(handler: Handler, content: bytes) -> None:
    handler.wfile.write(b"\x00\xff nonsense \r\n\r\n")
    handler.close_connection = True


def portal(handler: Handler, content: bytes) -> None:
    """A captive portal: a page instead of the file."""
    answer(handler, 200, b"<html>please log in</html>")


def swapped(handler: Handler, content: bytes) -> None:
    """Valid JSON that is not the file."""
    answer(handler, 200, json.dumps({"task": "gpqa", "configurations": []}).encode())


def status(code: int, **headers: str) -> Fault:
    def fault(handler: Handler, content: bytes) -> None:
        answer(handler, code, b"no", **headers)

    return fault


def redirect(location: str) -> Fault:
    return status(302, Location=location)


@contextmanager
def study_server() -> Iterator[StudyServer]:
    server = StudyServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
