"""The schedule of the mock server's streams, their chunks and their faults."""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections import deque
from typing import Any, Protocol

import msgspec
import numpy as np

from joulemap.measure.mock_server.behaviour import Fault, MockBehaviour

TICK_S = 0.001
"""Resolution of the send schedule; libuv's timers have no finer one."""
TICKS_PER_TURN = 4
"""A server that is behind its schedule still answers other requests after this many ticks."""
TOKENS_PER_WORD = 1.25
CHAT_TEMPLATE_TOKENS = 8
TOKENS_PER_IMAGE = 256


class Asked(msgspec.Struct):
    """The body of a request, as far as the mock minds it."""

    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int = 1
    messages: list[dict[str, Any]] = []
    prompt: str = ""
    stream_options: dict[str, Any] | None = None

    def prompt_tokens(self) -> int:
        """Return the prompt's length as the mock counts it."""
        if not self.messages:
            return round(len(self.prompt.split()) * TOKENS_PER_WORD)
        words = images = 0
        for message in self.messages:
            content = message.get("content") or ""
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for part in parts:
                words += len(part.get("text", "").split())
                images += part.get("type") in {"image_url", "video_url"}
        return round(words * TOKENS_PER_WORD) + images * TOKENS_PER_IMAGE + CHAT_TEMPLATE_TOKENS


def event_of(payload: object) -> bytes:
    """Return a server-sent event in an HTTP chunk of its own."""
    data = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    body = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(body), body)


def chunk_of(chat: bool, content: str | None, finish: str | None = None, role: str | None = None) -> bytes:
    """Return the event of one streamed chunk."""
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
    if chat:
        delta = {} if content is None else {"content": content}
        choice["delta"] = {"role": role, **delta} if role else delta
    else:
        choice["text"] = content or ""
    return event_of(
        {
            "id": "chatcmpl-0123456789abcdef",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1_700_000_000,
            "model": "mock",
            "choices": [choice],
        }
    )


class Peer(Protocol):
    """The connection of a stream."""

    closed: bool

    def write(self, data: bytes) -> None:
        """Write soon."""

    def write_now(self, data: bytes) -> None:
        """Write at once."""

    def replied(self) -> None:
        """Note that the reply is complete."""

    def close(self) -> None:
        """Close the connection."""


class Stream:
    """One streaming reply."""

    __slots__ = ("asked", "asked_s", "chat", "chunks", "connection", "due_s", "faulty", "left", "sent_s", "tokens")

    def __init__(self, connection: Peer, asked: Asked, *, chat: bool, tokens: int) -> None:
        self.connection = connection
        self.asked = asked
        self.chat = chat
        self.tokens = tokens
        self.left = tokens
        self.chunks = 0
        self.asked_s = time.monotonic()
        self.due_s = 0.0
        self.sent_s = 0.0
        self.faulty = False


class Schedule:
    """The schedule of all streams, and what the server knows of itself."""

    def __init__(self, behaviour: MockBehaviour) -> None:
        self.does = behaviour
        self.loop = asyncio.get_running_loop()
        self.fault = Fault(behaviour.fault) if behaviour.fault else None
        self.wheel: dict[int, list[Stream]] = {}
        self.tick = 0
        self.ticking = False
        self.waiting: deque[Stream] = deque()
        self.running = self.requests = self.finished = 0
        self.prompt_tokens = self.generated_tokens = self.chunks = 0
        self.gaps_s, self.ttfts_s = array("f"), array("f")
        self.key = os.environ.get(behaviour.api_key_env) if behaviour.api_key_env else None
        self.itl_s, self.tokens_per_chunk = behaviour.itl_s, behaviour.tokens_per_chunk
        word = " token" * behaviour.tokens_per_chunk
        self.content = {chat: chunk_of(chat, word) for chat in (True, False)}

    def admit(self, stream: Stream) -> None:
        """Start a stream, or let it wait for room."""
        if self.does.max_running and self.running >= self.does.max_running:
            self.waiting.append(stream)
        else:
            self.start(stream)

    def start(self, stream: Stream) -> None:
        """Start a stream's reply."""
        self.running += 1
        if self.does.role_first and stream.chat:
            stream.connection.write(chunk_of(True, "", role="assistant"))
        stream.due_s = time.monotonic() + self.does.ttft_s
        self.schedule(stream)

    def schedule(self, stream: Stream) -> None:
        """Enter a stream's next chunk in the schedule."""
        bucket = max(int(stream.due_s / TICK_S), self.tick + 1)
        self.wheel.setdefault(bucket, []).append(stream)
        if not self.ticking:
            self.ticking = True
            self.tick = int(time.monotonic() / TICK_S) - 1
            self.loop.call_later(TICK_S, self.turn)

    def turn(self) -> None:
        """Send everything that is due."""
        # A bucket is due once its whole millisecond has passed, so that no chunk leaves before its time.
        due = int(time.monotonic() / TICK_S) - 1
        last = min(due, self.tick + TICKS_PER_TURN)
        while self.tick < last:
            self.tick += 1
            for stream in self.wheel.pop(self.tick, ()):
                if not stream.connection.closed:
                    self.send(stream)
                else:
                    self.finish(stream)
        if not self.wheel:
            self.ticking = False
        elif last < due:
            self.loop.call_soon(self.turn)
        else:
            self.loop.call_later(TICK_S, self.turn)

    def send(self, stream: Stream) -> None:
        """Send a stream's next chunk."""
        if stream.faulty and self.misbehave(stream):
            return
        now = time.monotonic()
        stream.connection.write_now(self.content[stream.chat])
        if stream.sent_s:
            self.gaps_s.append(now - stream.sent_s)
        else:
            self.ttfts_s.append(now - stream.asked_s)
        stream.sent_s = now
        stream.chunks += 1
        self.chunks += 1
        stream.left -= self.tokens_per_chunk
        if stream.left <= 0:
            self.close_stream(stream)
            return
        stream.due_s = due_s = stream.due_s + self.itl_s
        bucket = int(due_s / TICK_S)
        if bucket > self.tick and bucket in self.wheel:
            self.wheel[bucket].append(stream)
        else:
            self.schedule(stream)

    def close_stream(self, stream: Stream) -> None:
        """Send what ends a reply in good form."""
        tail = [chunk_of(stream.chat, None, finish="length")]
        if self.does.send_usage and (stream.asked.stream_options or {}).get("include_usage"):
            prompt = stream.asked.prompt_tokens()
            usage = {
                "prompt_tokens": prompt,
                "completion_tokens": stream.tokens,
                "total_tokens": prompt + stream.tokens,
            }
            tail.append(event_of({"id": "chatcmpl-0", "choices": [], "usage": usage}))
            self.prompt_tokens += prompt
        if self.does.send_done:
            tail.append(event_of(b"[DONE]"))
        tail.append(b"0\r\n\r\n")
        self.generated_tokens += stream.tokens
        stream.connection.write(b"".join(tail))
        stream.connection.replied()
        self.finish(stream)

    def finish(self, stream: Stream) -> None:
        """Make room for a waiting stream."""
        stream.left = 0
        self.running -= 1
        self.finished += 1
        if self.waiting:
            self.start(self.waiting.popleft())

    def misbehave(self, stream: Stream) -> bool:
        """Do the stream's fault if it is due; True ends the normal course."""
        if self.fault is Fault.DIE:
            if self.chunks >= self.does.fault_after_chunks:
                os._exit(1)
            return False
        if stream.chunks < self.does.fault_after_chunks:
            return False
        connection, content = stream.connection, self.content[stream.chat]
        match self.fault:
            case Fault.HALF_CHUNK:
                connection.write(content[: len(content) // 2])
                connection.close()
            case Fault.CLOSE_EARLY:
                connection.close()
            case Fault.GARBAGE_JSON:
                connection.write(event_of(b'{"choices": [{"delta": {"content": nonsense'))
                connection.write(b"0\r\n\r\n")
            case Fault.ERROR_EVENT:
                connection.write(event_of({"error": {"message": "out of memory", "code": 500}}))
                connection.write(b"0\r\n\r\n")
            case Fault.CLEAN_CUT:
                connection.write(b"0\r\n\r\n")
            case Fault.HANG:
                pass
            case _:
                return False
        self.finish(stream)
        return True

    def is_faulty(self) -> bool:
        """Whether the latest request has the fault."""
        return self.fault is not None and self.requests % self.does.fault_every == 0

    def metrics(self) -> bytes:
        """Return the Prometheus text, with vLLM's names."""
        label = '{engine="0",model_name="mock"}'
        used = min(1.0, self.running / max(self.does.max_running, 256))
        rows = (
            ("num_requests_running", "gauge", self.running),
            ("num_requests_waiting", "gauge", len(self.waiting)),
            ("kv_cache_usage_perc", "gauge", used),
            ("num_preemptions_total", "counter", 0),
            ("prompt_tokens_total", "counter", self.prompt_tokens),
            # Tokens of unfinished streams count as soon as they are sent, as in the real engine.
            ("generation_tokens_total", "counter", self.chunks * self.does.tokens_per_chunk),
        )
        lines = [f"# TYPE vllm:{name} {kind}\nvllm:{name}{label} {value}" for name, kind, value in rows]
        return ("\n".join(lines) + "\n").encode()

    def stats(self) -> bytes:
        """Return what was truly sent: chunks, the server's CPU, and the gaps between its own sends."""
        gaps = np.frombuffer(self.gaps_s, np.float32) if self.gaps_s else np.zeros(0, np.float32)
        quantiles = np.quantile(gaps, [0.5, 0.99]).tolist() if gaps.size else [None, None]
        told = {
            "requests": self.requests,
            "chunks": self.chunks,
            "tokens": self.chunks * self.does.tokens_per_chunk,
            "cpu_s": time.process_time(),
            "ttft_mean_s": float(np.mean(self.ttfts_s)) if self.ttfts_s else None,
            "gap_mean_s": float(gaps.mean()) if gaps.size else None,
            "gap_p50_s": quantiles[0],
            "gap_p99_s": quantiles[1],
        }
        self.gaps_s, self.ttfts_s = array("f"), array("f")
        return msgspec.json.encode(told)
