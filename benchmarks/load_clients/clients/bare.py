"""The least that a client can be: an ``asyncio.Protocol`` on uvloop that knows this one server's replies.

It takes each read for one event, minds no errors and keeps connections: a floor for cost, not a client to use.
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from urllib.parse import urlsplit

import orjson
import uvloop

from benchmarks.load_clients.clients.report import print_report

URL, STREAMS, REQUESTS, RAMP_S = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
PARTS = urlsplit(URL)
BODY = orjson.dumps(
    {
        "model": "mock",
        "max_tokens": 128,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "the " * 100}],
    }
)
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: mock\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
ttfts_s, gaps_s = array("d"), array("f")
begun = 0


class Stream(asyncio.Protocol):
    """One connection, one request after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.over = asyncio.get_running_loop().create_future()
        self.begin()

    def begin(self) -> None:
        global begun
        if begun >= REQUESTS:
            self.over.set_result(None)
            return
        begun += 1
        self.start_s, self.last_s = time.monotonic(), 0.0
        self.transport.write(REQUEST)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        for event in data.split(b"data: ")[1:]:
            payload = event[: event.index(b"\n")]
            if payload == b"[DONE]":
                self.begin()
                return
            choices = orjson.loads(payload)["choices"]
            if choices and choices[0]["delta"].get("content"):
                if self.last_s:
                    gaps_s.append(now - self.last_s)
                else:
                    ttfts_s.append(now - self.start_s)
                self.last_s = now


async def main() -> None:
    loop = asyncio.get_running_loop()
    streams = []
    start_s = time.monotonic()
    for number in range(STREAMS):
        await asyncio.sleep(max(0.0, start_s + RAMP_S * number / STREAMS - time.monotonic()))
        _, stream = await loop.create_connection(Stream, str(PARTS.hostname), int(PARTS.port or 80))
        streams.append(stream)
    await asyncio.gather(*(stream.over for stream in streams))


uvloop.run(main())
print_report(ttfts_s, gaps_s)
