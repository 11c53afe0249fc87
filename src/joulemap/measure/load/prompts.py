"""What each request says: synthetic text of a stated length, or a dataset's own prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Protocol

import msgspec

from joulemap.errors import ImportFileError, UsageError
from joulemap.measure.load.lengths import FixedLength, HistogramLength, Lengths, LogNormalLength
from joulemap.measure.load.pictures import Pictures
from joulemap.measure.load.target import Endpoint, Target
from joulemap.measure.load.task import reply_lengths
from joulemap.records.workload import Workload

_WORDS = (
    "the of and to in is it you that he was for on are with as his they be at one have this from or had by "
    "hot but some what there we can out other were all your when up use word how said an each she which do "
    "their time if will way about many then them would write like so these her long make thing see him two "
    "has look more day could go come did my sound no most number who over know water than call first people "
    "may down side been now find any new work part take get place made live where after back little only "
    "round man year came show every good me give our under name very through just form much great think say "
    "help low line before turn cause same mean differ move right boy old too does tell sentence set three "
    "want air well also play small end put home read hand port large spell add even land here must big high "
    "such follow act why ask men change went light kind off need house picture try us again animal point "
    "mother world near build self earth father head stand own page should country found answer school grow"
)
WORDS = tuple(_WORDS.split())
"""Common English words, most of them one token in any large vocabulary."""
BOOK_WORDS = 50_000
OPENING_WORDS = 4
"""Words at the start of each prompt that are the request's own, so that no prefix cache answers for it."""
DEFAULT_TOKENS_PER_WORD = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRatio:
    """How a server's tokenizer counts our words: ``tokens = template_tokens + words × tokens_per_word``."""

    tokens_per_word: float = DEFAULT_TOKENS_PER_WORD
    template_tokens: float = 0.0
    """What the chat template adds."""

    def words(self, tokens: int) -> int:
        """Return the words that make a prompt of so many tokens, at least 1."""
        return max(1, round((tokens - self.template_tokens) / self.tokens_per_word))


class Prompts(Protocol):
    """A source of requests; it is sent to every worker, so it must pickle."""

    def writer(self, target: Target, extra_body: Mapping[str, object], seed: int) -> BodyWriter:
        """Return what writes the requests' bodies for a target."""
        ...


class BodyWriter(Protocol):
    """Writes the bodies of requests; the same number gives the same body in every worker."""

    heavy: bool
    """Whether writing a body takes so long that the event loop must not wait for it."""

    def body(self, number: int) -> bytes:
        """Return the JSON body of request ``number``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticPrompts:
    """Random common words of the lengths asked for, with pictures where asked for."""

    input_tokens: Lengths = field(default_factory=lambda: FixedLength(256))
    output_tokens: Lengths = field(default_factory=lambda: FixedLength(128))
    pictures: Pictures | None = None
    ratio: TokenRatio = TokenRatio()
    """From ``probe.token_ratio``; the default takes a word for a token."""
    ignore_eos: bool = True
    """Ask for replies of exactly the drawn length (vLLM, SGLang and llama.cpp understand it)."""

    def calibrated(self, ratio: TokenRatio) -> SyntheticPrompts:
        """Return the same prompts, counted by a server's own tokenizer."""
        return replace(self, ratio=ratio)

    def writer(self, target: Target, extra_body: Mapping[str, object], seed: int) -> BodyWriter:
        """Return what writes the requests' bodies for a target."""
        return _SyntheticWriter(self, target, extra_body, seed)


class _SyntheticWriter:
    def __init__(
        self, prompts: SyntheticPrompts, target: Target, extra_body: Mapping[str, object], seed: int
    ) -> None:
        self._prompts = prompts
        self._target = target
        self._seed = seed
        self._extra = dict(extra_body)
        self.heavy = prompts.pictures is not None
        words = Random(seed).choices(WORDS, k=BOOK_WORDS)
        self._book = " ".join(words)
        self._starts = [0]
        for word in words:
            self._starts.append(self._starts[-1] + len(word) + 1)

    def body(self, number: int) -> bytes:
        random = Random((self._seed << 40) ^ number)
        prompts = self._prompts
        text = self.text(random, prompts.ratio.words(prompts.input_tokens.draw(number, random)))
        max_tokens = prompts.output_tokens.draw(number, random)
        fields: dict[str, object] = {"ignore_eos": True} if prompts.ignore_eos else {}
        content: str | list[object] = text
        if prompts.pictures is not None:
            content = [*prompts.pictures.parts(random), {"type": "text", "text": text}]
        return encode(self._target, content, max_tokens, fields | self._extra)

    def text(self, random: Random, words: int) -> str:
        opening = random.choices(WORDS, k=min(words, OPENING_WORDS))
        pieces = [" ".join(opening)]
        left = words - len(opening)
        while left > 0:
            start = random.randrange(BOOK_WORDS)
            end = min(start + left, BOOK_WORDS)
            pieces.append(self._book[self._starts[start] : self._starts[end] - 1])
            left -= end - start
        return " ".join(pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPrompts:
    """The prompts of a JSONL file, in order, over and over.

    Each line holds ``prompt`` (text) or ``messages`` (the chat API's), and may hold ``max_tokens``.

    Raises:
        ImportFileError: A line is not such an object, or the file holds none.
    """

    path: Path
    max_tokens: int = 1024
    """Longest reply, where a line states none; replies end where the model ends them."""

    def writer(self, target: Target, extra_body: Mapping[str, object], seed: int) -> BodyWriter:  # noqa: ARG002
        """Return what writes the requests' bodies for a target."""
        return _DatasetWriter(self._rows(), self.max_tokens, target, extra_body)

    def _rows(self) -> list[_Row]:
        rows = []
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        rows.append(_row(line, str(self.path), number))
        except OSError as error:
            raise ImportFileError(str(self.path), None, f"cannot be read: {error}") from error
        if not rows:
            raise ImportFileError(str(self.path), None, "holds no prompt")
        return rows


class _Row(msgspec.Struct):
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    max_tokens: int | None = None


class _DatasetWriter:
    heavy = False

    def __init__(self, rows: list[_Row], max_tokens: int, target: Target, extra_body: Mapping[str, object]) -> None:
        self._rows = rows
        self._max_tokens = max_tokens
        self._target = target
        self._extra = dict(extra_body)

    def body(self, number: int) -> bytes:
        row = self._rows[number % len(self._rows)]
        content = row.messages if row.messages is not None else row.prompt
        assert content is not None  # _row lets nothing else through
        return encode(self._target, content, row.max_tokens or self._max_tokens, self._extra)


def _row(line: bytes, path: str, number: int) -> _Row:
    try:
        row = msgspec.json.decode(line, type=_Row)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImportFileError(path, f"line {number}", str(error)) from error
    if row.prompt is None and row.messages is None:
        raise ImportFileError(path, f"line {number}", "has neither 'prompt' nor 'messages'")
    return row


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePrompts:
    """Requests to an images endpoint: a short text each, and the shape of the image."""

    width_px: int = 1024
    height_px: int = 1024
    images_per_request: int = 1
    prompt_words: int = 20

    def writer(self, target: Target, extra_body: Mapping[str, object], seed: int) -> BodyWriter:
        """Return what writes the requests' bodies for a target."""
        return _ImageWriter(self, target, extra_body, seed)


class _ImageWriter:
    heavy = False

    def __init__(self, prompts: ImagePrompts, target: Target, extra_body: Mapping[str, object], seed: int) -> None:
        self._prompts = prompts
        self._seed = seed
        self._fields = {
            "model": target.model,
            "n": prompts.images_per_request,
            "size": f"{prompts.width_px}x{prompts.height_px}",
            "response_format": "b64_json",
            **extra_body,
        }

    def body(self, number: int) -> bytes:
        random = Random((self._seed << 40) ^ number)
        text = " ".join(random.choices(WORDS, k=self._prompts.prompt_words))
        return msgspec.json.encode({"prompt": text, **self._fields})


def encode(target: Target, content: str | list[Any], max_tokens: int, fields: Mapping[str, object]) -> bytes:
    """Return the JSON body of a streaming request.

    Args:
        target: Its endpoint decides the form.
        content: A prompt; or the parts of one message; or whole messages.
        max_tokens: Longest reply.
        fields: Further fields.

    Raises:
        UsageError: The endpoint cannot take such content.
    """
    body: dict[str, object] = {
        "model": target.model,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if target.endpoint is Endpoint.CHAT:
        whole = isinstance(content, list) and all("role" in part for part in content)
        body["messages"] = content if whole else [{"role": "user", "content": content}]
    elif isinstance(content, str):
        body["prompt"] = content
    else:
        msg = f"the endpoint {target.endpoint} takes text alone, not pictures or messages"
        raise UsageError(msg, fix="use the chat endpoint")
    return msgspec.json.encode(body | dict(fields))


def prompts_for(workload: Workload, *, pictures: Pictures | None = None) -> SyntheticPrompts:
    """Return synthetic prompts with a workload's lengths.

    Replies follow the workload's histogram where it has one, else its mean and its task's spread. What the workload
    does not state stays at the default of ``SyntheticPrompts``: 256 tokens in, 128 out.
    """
    prompts = SyntheticPrompts(pictures=pictures)
    if workload.mean_input_tokens is not None:
        prompts = replace(prompts, input_tokens=LogNormalLength(mean_tokens=workload.mean_input_tokens))
    if workload.output_lengths is not None:
        prompts = replace(prompts, output_tokens=HistogramLength(workload.output_lengths))
    elif workload.mean_output_tokens is not None:
        prompts = replace(prompts, output_tokens=reply_lengths(workload, workload.mean_output_tokens))
    return prompts
