"""What one chunk of a stream costs the load client above the system calls."""

from __future__ import annotations

import asyncio
from typing import Any

from joulemap.measure.load.connection import Connection, Exchange
from joulemap.measure.mock_server.streams import chunk_of

CHUNKS = 10_000
LIMIT_S = 3e-6
"""Less than a third of this on a quiet machine; the bar of 10 µs includes the kernel's share."""


class Nowhere(asyncio.Transport):
    def write(self, data: object) -> None:
        pass


def test_a_chunk_costs_microseconds(benchmark: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = chunk_of(True, " token")

    def stream() -> int:
        async def receive() -> int:
            connection, exchange = Connection(), Exchange(0, 0.0)
            connection.connection_made(Nowhere())
            connection.send(exchange, b"")
            connection.data_received(head)
            for _ in range(CHUNKS):
                connection.data_received(chunk)
            return len(exchange.content_s)

        return asyncio.run(receive())

    assert benchmark(stream) == CHUNKS
    assert benchmark.stats.stats.min / CHUNKS < LIMIT_S
