"""The usual client: aiohttp with orjson on uvloop, reading lines."""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from collections.abc import Iterator

import aiohttp
import orjson
import uvloop

from benchmarks.load_clients.clients.report import print_report

URL, STREAMS, REQUESTS, RAMP_S = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
BODY = orjson.dumps(
    {
        "model": "mock",
        "max_tokens": 128,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "the " * 100}],
    }
)
ttfts_s, gaps_s = array("d"), array("f")


async def slot(session: aiohttp.ClientSession, numbers: Iterator[int], wait_s: float) -> None:
    await asyncio.sleep(wait_s)
    for _ in numbers:
        start_s, last_s = time.monotonic(), 0.0
        async with session.post(
            f"{URL}/v1/chat/completions", data=BODY, headers={"Content-Type": "application/json"}
        ) as reply:
            async for line in reply.content:
                if not line.startswith(b"data: {"):
                    continue
                now = time.monotonic()
                choices = orjson.loads(line[6:])["choices"]
                if choices and choices[0]["delta"].get("content"):
                    if last_s:
                        gaps_s.append(now - last_s)
                    else:
                        ttfts_s.append(now - start_s)
                    last_s = now


async def main() -> None:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        numbers = iter(range(REQUESTS))
        await asyncio.gather(*(slot(session, numbers, RAMP_S * n / STREAMS) for n in range(STREAMS)))


uvloop.run(main())
print_report(ttfts_s, gaps_s)
