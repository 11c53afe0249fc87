"""Chunks known again by the bytes around their text.

The chunks of a stream differ in the text that they bring, in names and times outside ``choices``, and in the
length that the text gives them. Once one chunk has been parsed, another that has the same bytes from ``"choices"``
to the text and from there to the end of ``choices``, with as many bytes around them, brings content and nothing
else: no finish reason, no count. A few comparisons tell, where parsing HTTP and JSON costs microseconds. What has
not been compared is then not checked either: a broken time of creation goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

MOST_FORMS = 32
"""Forms learned at most: a server whose chunks differ in more, such as log-probabilities, has no form."""
_BEGIN, _END = b"data: {", b"}\n\n\r\n"
"""What the one event in an HTTP chunk begins with, behind the chunk's size, and what the chunk ends with."""
_CRLF = b"\r\n"
_KEY = b'"choices"'
_QUOTE, _ESCAPE = b'"', 0x5C
_NOWHERE = (b"\0", 0, 0, 1)
"""The place of a text in a chunk that cannot be of the form."""

Form = Callable[[bytes], bool]
"""Tells whether bytes are one whole HTTP chunk of the form."""


class Forms:
    """The forms that a server's chunks have been seen to have."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes, bytes, int], Form] = {}
        self.latest: Form | None = None

    def learn(self, data: bytes, text: str) -> None:
        """Make the form of a chunk the latest, if it is one that can be known again.

        Args:
            data: Bytes that have been parsed. They are one HTTP chunk, if their first line says so.
            text: The content that they brought, not empty. They brought neither a finish reason nor a usage.
        """
        parts = _parts(data, text)
        if parts is None:
            return
        if parts not in self._known:
            if len(self._known) >= MOST_FORMS:
                return
            self._known[parts] = _form(*parts)
        self.latest = self._known[parts]


class _Choices(msgspec.Struct):
    choices: msgspec.Raw


_decode = msgspec.json.Decoder(_Choices).decode


def _parts(data: bytes, text: str) -> tuple[int, bytes, bytes, int] | None:
    """Return how much precedes ``choices``, its bytes before the text and behind it, and how much follows."""
    size_end = data.find(_CRLF)
    payload_at = size_end + len(_CRLF) + len(_BEGIN) - 1
    if data[:size_end] != b"%x" % (len(data) - size_end - 2 * len(_CRLF)) or not (
        data.startswith(_BEGIN, size_end + len(_CRLF)) and data.endswith(_END)
    ):
        return None
    payload, raw = data[payload_at : 1 - len(_END)], text.encode(errors="replace")
    try:
        choices = bytes(_decode(payload).choices)
    except msgspec.DecodeError:  # two events, for one
        return None
    quoted = _QUOTE + raw + _QUOTE
    key_at, choices_at = payload.find(_KEY), payload.find(choices)
    if (
        payload.count(quoted) != 1
        or payload.count(choices) != 1
        or choices.count(quoted) != 1
        or payload[key_at:choices_at].translate(None, b" ") != _KEY + b":"
        or _QUOTE in raw
        or raw[-1] == _ESCAPE
    ):
        return None
    text_at = payload.index(quoted) + 1
    choices_end = choices_at + len(choices)
    return key_at, payload[key_at:text_at], payload[text_at + len(raw) : choices_end], len(payload) - choices_end


def _form(before: int, head: bytes, tail: bytes, after: int) -> Form:
    places: dict[int, tuple[bytes, int, int, int]] = {}
    around = len(_BEGIN) - 1 + before + len(head) + len(tail) + after + len(_END) - 1 - len(_CRLF)

    def place(length: int) -> tuple[bytes, int, int, int]:
        """Return the beginning of a chunk of so many bytes, and where its head, its text and its tail are."""
        places[length] = _NOWHERE
        for digits in range(1, 9):
            size = length - digits - 2 * len(_CRLF)
            if size > around and len(b"%x" % size) == digits:
                head_at = digits + len(_CRLF) + len(_BEGIN) - 1 + before
                tail_at = length - len(_END) + 1 - after - len(tail)
                places[length] = b"%x\r\n%b" % (size, _BEGIN), head_at, head_at + len(head), tail_at
        return places[length]

    def fits(data: bytes) -> bool:
        length = len(data)
        begin, head_at, text_at, tail_at = places.get(length) or place(length)
        return (
            data.startswith(begin)
            and data.startswith(head, head_at)
            and data.startswith(tail, tail_at)
            and data.endswith(_END)
            # Neither a quote nor an escape of the quote behind it: the text is one string.
            and data.find(_QUOTE, text_at, tail_at) < 0
            and data[tail_at - 1] != _ESCAPE
        )

    return fits
