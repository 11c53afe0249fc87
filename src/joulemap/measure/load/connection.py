"""One HTTP/1.1 connection that stamps every chunk of a streamed reply when it arrives.

The parsing of HTTP is httptools' and that of JSON msgspec's; both are C. Most chunks need neither: they are known
again by the bytes around their text (``form``).
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import httptools
import msgspec

from joulemap.measure.load.failure import ErrorKind, kind_of_status
from joulemap.measure.load.form import Form, Forms

DETAIL_LENGTH = 200
"""Characters of a server's own words that are kept with an error."""
BODY_KEPT_BYTES = 4096
"""Bytes of an error's body that are read for those words."""


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


class _Images(msgspec.Struct):
    data: list[Any]
    usage: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_images = msgspec.json.Decoder(_Images).decode


class Exchange:
    """One request and what has come back of its reply.

    Times are on the monotonic clock. ``content_s`` holds the arrival of every chunk that carries content:
    role-only, finish and usage chunks are no tokens and are not in it.
    """

    __slots__ = (
        "bytes_seen",
        "connect_s",
        "content_s",
        "done",
        "end_s",
        "error",
        "error_detail",
        "finished",
        "heard_s",
        "images",
        "input_tokens",
        "number",
        "output_tokens",
        "retried",
        "reused",
        "scheduled_s",
        "start_s",
        "status",
        "streams",
    )

    def __init__(self, number: int, scheduled_s: float, *, streams: bool = True) -> None:
        self.number = number
        self.scheduled_s = scheduled_s
        self.streams = streams
        self.start_s = self.end_s = 0.0
        self.heard_s = 0.0
        self.connect_s = 0.0
        self.content_s = array("d")
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.images = 0
        self.status = 0
        self.bytes_seen = False
        self.finished = False
        self.retried = False
        self.reused = False
        self.error: ErrorKind | None = None
        self.error_detail = ""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def last_s(self) -> float:
        """When the server was last heard; the start before the first byte."""
        return max(self.heard_s, self.content_s[-1]) if self.content_s else self.heard_s

    @property
    def lost_unanswered(self) -> bool:
        """Whether a kept connection turned out to be closed before a byte of the reply."""
        return self.reused and not self.bytes_seen and self.error is ErrorKind.CLOSED_EARLY

    def end(self, error: ErrorKind | None = None, detail: str = "") -> None:
        """Close the books; a second call changes nothing."""
        if self.end_s:
            return
        self.end_s = monotonic()
        self.error = error
        self.error_detail = detail[:DETAIL_LENGTH]
        if not self.done.done():  # a load that ends cancels it
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """A connection that carries one exchange after another.

    Args:
        forms: What is known of the server's chunks; a server's connections share it.
    """

    __slots__ = (
        "_between",
        "_body",
        "_chunk_now_s",
        "_form",
        "_forms",
        "_parser",
        "_stamp",
        "_tail",
        "_text",
        "_whole",
        "exchange",
        "reusable",
        "transport",
    )

    def __init__(self, forms: Forms | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.reusable = True
        self._parser = httptools.HttpResponseParser(self)
        self._tail = b""
        self._body: list[bytes] = []
        self._whole = False
        self._chunk_now_s = 0.0
        self._between = False
        self._text = ""
        self._forms = Forms() if forms is None else forms
        self._form: Form | None = None
        """Of the chunks that may come next; ``None`` where the parser must not be passed by."""
        self._stamp: Callable[[float], None] = _nowhere

    # What the client asks of it.

    def send(self, exchange: Exchange, request: bytes) -> None:
        """Send a request; ``exchange.done`` resolves when its reply is complete or has failed."""
        assert self.transport is not None
        self.exchange = exchange
        self._tail = b""
        self._body = []
        self._whole = False
        self._stamp = exchange.content_s.append
        exchange.start_s = exchange.heard_s = monotonic()
        self.transport.write(request)

    def usable(self) -> bool:
        """Whether another exchange may be sent."""
        return self.reusable and self.transport is not None and not self.transport.is_closing()

    def fail(self, kind: ErrorKind, detail: str = "") -> None:
        """End the exchange with an error, and the connection with it."""
        self._end(kind, detail)
        self.close()

    def close(self) -> None:
        """Close the connection at once; what is still on the way is of no use."""
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()

    # What the event loop tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not derive from asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Stamp the bytes; those of an unknown form go to the parser, which calls the ``on_…`` methods below."""
        now = monotonic()
        fits = self._form
        if fits is not None and fits(data):
            self._stamp(now)
            return
        exchange = self.exchange
        if exchange is None:
            self.close()  # an answer that nobody asked for
            return
        self._chunk_now_s = exchange.heard_s = now
        exchange.bytes_seen = True
        self._text = ""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(ErrorKind.NOT_HTTP, str(error))
        if self.exchange is not None and self._between and not self._tail and data.endswith(b"\r\n"):
            if self._text:
                self._forms.learn(data, self._text)
            self._form = self._forms.latest
        else:
            self._form = None

    def eof_received(self) -> None:
        """Let the transport close itself."""
        self.reusable = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Judge an exchange whose connection is gone."""
        self.reusable = False
        exchange = self.exchange
        if exchange is None:
            return
        if self._whole or (exchange.finished and not self._tail):
            self._end_reply()
        elif self._tail:
            self._end(ErrorKind.HALF_CHUNK, f"the connection closed after {len(self._tail)} bytes of an event")
        elif not exchange.bytes_seen:
            self._end(ErrorKind.CLOSED_EARLY, f"the connection closed without a reply ({exc or 'end of file'})")
        else:
            self._end(ErrorKind.CLOSED_EARLY, "the connection closed before the reply was complete")

    # What the HTTP parser tells it.

    def on_headers_complete(self) -> None:
        """Note the status."""
        if self.exchange is not None:
            self.exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the reply: whole events as a rule, but any split of them."""
        exchange = self.exchange
        if exchange is None or not exchange.streams or exchange.status != 200:
            self._body.append(body)
            return
        if body.find(b"\n", 7) == len(body) - 2 and body.startswith(b"data: {") and not self._tail:
            self._take(exchange, body[6:-2])  # one whole event on one line: nearly always
            return
        if self._tail:
            body = self._tail + body
            self._tail = b""
        if b"\r" in body:
            body = body.replace(b"\r\n", b"\n")
        *events, tail = body.split(b"\n\n")
        if tail:
            self._tail = tail
        for event in events:
            if self.exchange is None:
                return  # an event before this one ended the exchange
            if event.startswith(b"data: {") and b"\n" not in event:
                self._take(exchange, event[6:])
            else:
                self._take_lines(exchange, event)

    def on_chunk_header(self) -> None:
        """Note that the parser is inside a chunk."""
        self._between = False

    def on_chunk_complete(self) -> None:
        """Note that the parser waits for the next chunk."""
        self._between = True

    def on_message_complete(self) -> None:
        """Close the exchange: the reply is complete in HTTP's terms."""
        self._whole = True
        if not self._parser.should_keep_alive():
            self.reusable = False
        self._end_reply()

    # The books.

    def _take_lines(self, exchange: Exchange, event: bytes) -> None:
        data = []
        for line in event.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.strip())
            elif field == b"error":  # llama.cpp's own form
                self.fail(ErrorKind.ERROR_EVENT, value.decode(errors="replace").strip())
                return
        payload = b"\n".join(data)
        if payload == b"[DONE]":
            exchange.finished = True
        elif payload:
            self._take(exchange, payload)

    def _take(self, exchange: Exchange, payload: bytes) -> None:
        try:
            chunk = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.fail(ErrorKind.GARBAGE_JSON, f"{error}: {payload[:80].decode(errors='replace')}")
            return
        if chunk.choices:
            choice = chunk.choices[0]
            delta = choice.delta
            text = choice.text or (
                delta is not None and (delta.content or delta.reasoning_content or delta.reasoning or delta.refusal)
            )
            if text or (delta is not None and delta.tool_calls):
                exchange.content_s.append(self._chunk_now_s)
            if choice.finish_reason is not None:
                exchange.finished = True
            elif text and chunk.usage is None:
                self._text = text
        elif chunk.error is not None:
            self.fail(ErrorKind.ERROR_EVENT, message_of(chunk.error))
            return
        if chunk.usage is not None:
            exchange.input_tokens = chunk.usage.prompt_tokens
            exchange.output_tokens = chunk.usage.completion_tokens

    def _end_reply(self) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        kind = kind_of_status(exchange.status)
        if kind is not None:
            body = b"".join(self._body)[:BODY_KEPT_BYTES]
            self._end(kind, f"HTTP {exchange.status}: {words_of(body)}")
        elif not exchange.streams:
            self._end_images(exchange)
        elif self._tail.startswith(b"{"):
            self._end(ErrorKind.GARBAGE_JSON, "one JSON reply instead of a stream of events")
        elif self._tail.strip():
            self._end(ErrorKind.HALF_CHUNK, "the reply ended in the middle of an event")
        elif self._body:
            self._end(ErrorKind.GARBAGE_JSON, f"HTTP {exchange.status} without a stream of events")
        elif not exchange.finished:
            self._end(ErrorKind.CLOSED_EARLY, "the reply ended without a finish reason or [DONE]")
        elif not exchange.content_s:
            self._end(ErrorKind.NO_CONTENT, "the reply holds no content")
        else:
            self._end(None)

    def _end_images(self, exchange: Exchange) -> None:
        try:
            exchange.images = len(_decode_images(b"".join(self._body)).data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._end(ErrorKind.GARBAGE_JSON, str(error))
            return
        if exchange.images:
            self._end(None)
        else:
            self._end(ErrorKind.NO_CONTENT, "the reply holds no image")

    def _end(self, kind: ErrorKind | None, detail: str = "") -> None:
        exchange, self.exchange = self.exchange, None
        self._body = []
        self._form = None
        if exchange is not None:
            exchange.end(kind, detail)


def _nowhere(stamp_s: float) -> None:
    """Stand in for an exchange's list of arrivals until there is an exchange."""


def message_of(error: object) -> str:
    """Return the words of an API's error object."""
    if isinstance(error, dict):
        inner = error.get("error", error)
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            return str(inner["message"])
        return str(inner)
    return str(error)


def words_of(body: bytes) -> str:
    """Return the words of an error's body, whether it is the API's JSON or anything else."""
    try:
        return message_of(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace").strip()
