"""What the mock server does, and how it misbehaves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """How the server misbehaves."""

    DIE = "die"
    """The process exits in the middle of its streams."""
    HANG = "hang"
    """A stream stops without a word, its connection open."""
    CLOSE_EARLY = "close_early"
    """The connection closes between two chunks."""
    HALF_CHUNK = "half_chunk"
    """The connection closes in the middle of a chunk."""
    GARBAGE_JSON = "garbage_json"
    NOT_HTTP = "not_http"
    ERROR_EVENT = "error_event"
    """A well-formed event that holds an error."""
    TOO_MANY_REQUESTS = "429"
    SERVER_ERROR = "500"
    NO_CONTENT = "no_content"
    """A well-formed reply without any content."""
    CLEAN_CUT = "clean_cut"
    """The reply ends in good HTTP form without a finish reason, usage or ``[DONE]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MockBehaviour:
    """What the server does; every field is a command-line option of the same name."""

    ttft_s: float = 0.2
    itl_s: float = 0.02
    tokens: int = 0
    """Tokens of each reply; 0 takes the request's ``max_tokens``."""
    tokens_per_chunk: int = 1
    image_s: float = 0.05
    """Time to make one image."""
    max_running: int = 0
    """Requests that run together, the rest wait; 0 sets no limit."""
    role_first: int = 1
    """1 sends a chunk with the role and no content before the first token, at once."""
    send_done: int = 1
    send_usage: int = 1
    keep_alive: int = 1
    """1 keeps the connection; 0 closes it and says so; -1 promises to keep it and closes it after a reply."""
    fault: str = ""
    """One of ``Fault``; empty for none."""
    fault_after_chunks: int = 5
    """Content chunks of a stream (of the process, for ``die``) before the fault."""
    fault_every: int = 1
    """One in this many requests has the fault."""
    api_key_env: str = ""
    """Environment variable that holds the key that requests must bear; empty for none."""
