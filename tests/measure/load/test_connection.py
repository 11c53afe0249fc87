"""A reply means the same however the network cuts it into pieces."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.measure.load.connection import Connection, Exchange
from joulemap.measure.load.failure import ErrorKind


class Pipe(asyncio.Transport):
    """A transport that goes nowhere."""

    closed = False

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def event(payload: object, end: str = "\n\n") -> bytes:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    body = f"data: {text}{end}".encode()
    return b"%x\r\n%b\r\n" % (len(body), body)


def content(text: str, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **more}]}


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
COMMENT = b"10\r\n: still alive \n\n\r\n"
REPLY = b"".join(
    (
        HEAD,
        event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
        COMMENT,
        event(content("Grüße")),
        event(content(" two"), end="\r\n\r\n"),
        event({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}),
        event(content(" end", finish_reason="stop")),
        event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}),
        event("[DONE]"),
        b"0\r\n\r\n",
    )
)


def exchange_of(pieces: list[bytes], *, lose: bool = False, streams: bool = True) -> Exchange:
    async def feed() -> Exchange:
        connection, exchange = Connection(), Exchange(0, 0.0, streams=streams)
        connection.connection_made(Pipe())
        connection.send(exchange, b"")
        for piece in pieces:
            connection.data_received(piece)
        if lose:
            connection.connection_lost(None)
        return exchange

    return asyncio.run(feed())


@given(st.sets(st.integers(1, len(REPLY) - 1), max_size=30))
def test_any_cut_of_a_reply_gives_the_same_books(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(REPLY)]
    exchange = exchange_of([REPLY[a:b] for a, b in pairwise(edges)])
    assert exchange.done.done()
    assert exchange.error is None, exchange.error_detail
    assert len(exchange.content_s) == 4
    assert (exchange.input_tokens, exchange.output_tokens) == (9, 4)


@given(st.integers(0, len(REPLY) - 6))
def test_a_reply_that_is_cut_off_anywhere_is_an_error_unless_the_model_had_finished(end: int) -> None:
    exchange = exchange_of([REPLY[:end]] if end else [], lose=True)
    if exchange.finished:
        assert exchange.error in {None, ErrorKind.HALF_CHUNK}
    else:
        assert exchange.error in {ErrorKind.CLOSED_EARLY, ErrorKind.HALF_CHUNK}
        assert exchange.output_tokens is None


def test_a_stream_without_length_ends_with_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    body = f"data: {json.dumps(content('a', finish_reason='stop'))}\n\n".encode()
    assert exchange_of([head, body], lose=True).error is None


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (HEAD + b'6\r\n{"a":1\r\n0\r\n\r\n', ErrorKind.GARBAGE_JSON, "instead of a stream"),
        (HEAD + event({"error": {"message": "no memory"}}), ErrorKind.ERROR_EVENT, "no memory"),
        (HEAD + b'13\r\nerror: {"code":5}\n\n\r\n', ErrorKind.ERROR_EVENT, "code"),
        (HEAD + event({"choices": "none"}), ErrorKind.GARBAGE_JSON, "array"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", ErrorKind.UNEXPECTED_STATUS, "302"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nover load", ErrorKind.SERVER_FAILED, "over load"),
        (
            b"HTTP/1.1 400 No\r\nContent-Length: 20\r\n\r\n" + b'{"message":"too big"}'[:20],
            ErrorKind.CLIENT_ERROR,
            "too",
        ),
    ],
)
def test_what_is_no_stream_is_named(reply: bytes, kind: ErrorKind, words: str) -> None:
    exchange = exchange_of([reply])
    assert exchange.error is kind
    assert words in exchange.error_detail


@pytest.mark.parametrize(
    ("body", "kind", "images"),
    [
        (b'{"data":[{"b64_json":"AA"},{"url":"x"}]}', None, 2),
        (b'{"data":[]}', ErrorKind.NO_CONTENT, 0),
        (b'{"images":[1]}', ErrorKind.GARBAGE_JSON, 0),
    ],
)
def test_an_images_reply_is_counted(body: bytes, kind: ErrorKind | None, images: int) -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    exchange = exchange_of([reply[:30], reply[30:]], streams=False)
    assert (exchange.error, exchange.images) == (kind, images)


def test_a_kept_connection_that_was_closed_is_told_from_a_refused_answer() -> None:
    exchange = exchange_of([], lose=True)
    assert exchange.error is ErrorKind.CLOSED_EARLY
    assert not exchange.lost_unanswered
    exchange.reused = True
    assert exchange.lost_unanswered
