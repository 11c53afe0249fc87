"""A chunk that is known again means what the parsers would have found in it."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.measure.load.connection import Connection, Exchange
from joulemap.measure.load.form import MOST_FORMS, Forms
from tests.measure.load.test_connection import HEAD, Pipe

Chunk = dict[str, Any]


def vllm(text: str | None, finish: str | None = None) -> Chunk:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-12", "created": 1_700_000_000, "model": "the model", "choices": [choice]}


def completions(text: str | None, finish: str | None = None) -> Chunk:
    return {"id": "cmpl-1", "choices": [{"index": 0, "text": text or "", "finish_reason": finish}], "usage": None}


def llamacpp(text: str | None, finish: str | None = None) -> Chunk:
    choice = {"finish_reason": finish, "index": 0, "delta": {"content": text} if text else {}}
    return {"choices": [choice], "created": 1_700_000_000, "id": "chatcmpl-x", "object": "chat.completion.chunk"}


def reasoning(text: str | None, finish: str | None = None) -> Chunk:
    delta = {"role": None, "content": None, "reasoning_content": text, "tool_calls": None}
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}


STYLES = [vllm, completions, llamacpp, reasoning]


def chunk(payload: Chunk, *, spaced: bool = False, ascii_only: bool = False) -> bytes:
    text = json.dumps(payload, separators=None if spaced else (",", ":"), ensure_ascii=ascii_only)
    body = f"data: {text}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(body), body)


class Forgetful(Forms):
    def learn(self, data: bytes, text: str) -> None:
        pass


def books(pieces: list[bytes], forms: Forms) -> tuple[object, ...]:
    async def feed() -> Exchange:
        connection, exchange = Connection(forms), Exchange(0, 0.0)
        connection.connection_made(Pipe())
        connection.send(exchange, b"")
        for piece in pieces:
            connection.data_received(piece)
        return exchange

    it = asyncio.run(feed())
    return len(it.content_s), it.finished, it.input_tokens, it.output_tokens, it.error, it.done.done()


words = st.one_of(
    st.sampled_from(["a", "", " token", '"', "\\", 'a"', "a\\", "content", "choices", "}]}", "ü", "\n"]), st.text()
)


@given(st.sampled_from(STYLES), st.lists(words, max_size=12), st.booleans(), st.booleans(), st.data())
def test_forms_change_nothing_in_the_books(
    style: Any, texts: list[str], spaced: bool, ascii_only: bool, data: st.DataObject
) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(texts)}}
    payloads = [*(style(text) for text in texts), style(None, "stop"), usage]
    chunks = [HEAD, *(chunk(p, spaced=spaced, ascii_only=ascii_only) for p in payloads), b"0\r\n\r\n"]
    whole = b"".join(chunks)
    # Whole chunks as a rule, some of them cut, some together.
    edges = {0, len(whole)} | {len(b"".join(chunks[:n])) for n in range(len(chunks))}
    edges -= data.draw(st.sets(st.sampled_from(sorted(edges - {0, len(whole)})), max_size=4))
    edges |= data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=4))
    pieces = [whole[a:b] for a, b in pairwise(sorted(edges))]
    learned = Forms()
    for _ in range(2):  # the second reply begins with the forms that the first has taught
        assert books(pieces, learned) == books(pieces, Forgetful())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("spaced", [False, True])
def test_one_chunk_teaches_the_form_of_all(style: Any, spaced: bool) -> None:
    forms = Forms()
    forms.learn(chunk(style("one"), spaced=spaced), "one")
    fits = forms.latest
    assert fits is not None
    for text in ("two", " a longer text than one", "x" * 300, "grün"):
        assert fits(chunk(style(text), spaced=spaced))
    others = style("two")
    if "created" in others:
        others["created"] += 1
    assert fits(chunk(others, spaced=spaced))


@pytest.mark.parametrize("style", STYLES)
def test_what_is_more_or_less_than_content_does_not_fit(style: Any) -> None:
    forms = Forms()
    good = chunk(style("one"))
    forms.learn(good, "one")
    fits = forms.latest
    assert fits is not None
    finish = style("two", "length")
    told = {**style("two"), "usage": {"completion_tokens": 5}}
    failed = {**style("two"), "error": {"message": "no memory"}}
    for other in (
        chunk(style("")),
        chunk(finish),
        chunk(told),
        chunk(failed),
        chunk(style('a", "b')),
        chunk(style("a\\")),
        good + good,
        good[:-1],
        good[1:],
        good + b"5",
        b"0\r\n\r\n",
        b"",
        good.replace(b"data", b"date"),
        good.replace(b"one", b'o"e'),
        good.replace(b"one", b"on\\"),
        b"f" + good,
    ):
        assert not fits(other), other


def test_chunks_that_differ_in_more_than_their_text_are_not_learned_without_end() -> None:
    forms = Forms()
    for number in range(MOST_FORMS + 5):
        odd = vllm("one")
        odd["choices"][0]["logprobs"] = number
        forms.learn(chunk(odd), "one")
    assert len(forms._known) == MOST_FORMS
    forms.learn(chunk(vllm('say "one"')), 'say "one"')
    forms.learn(chunk({**vllm("one"), "model": "one"}), "one")
    assert len(forms._known) == MOST_FORMS


def test_most_chunks_of_a_stream_pass_the_parsers_by() -> None:
    async def parsed() -> int:
        connection, exchange = Connection(), Exchange(0, 0.0)
        connection.connection_made(Pipe())
        connection.send(exchange, b"")
        seen = 0

        class Counting:
            def __init__(self, parser: Any) -> None:
                self._parser = parser

            def feed_data(self, data: bytes) -> None:
                nonlocal seen
                seen += 1
                self._parser.feed_data(data)

            def get_status_code(self) -> int:
                return int(self._parser.get_status_code())

        connection._parser = Counting(connection._parser)  # type: ignore[assignment]
        connection.data_received(HEAD)
        for number in range(100):
            connection.data_received(chunk(vllm(f" word {number}")))
        assert len(exchange.content_s) == 100
        return seen

    assert asyncio.run(parsed()) == 2  # the head, and the chunk that taught the form
