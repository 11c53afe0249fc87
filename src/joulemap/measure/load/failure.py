"""What can go wrong with one request, by name."""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """Why a request failed; each kind keeps what was measured before it."""

    REFUSED = "connection_refused"
    """Nothing listens at the address."""
    UNREACHABLE = "unreachable"
    """No connection: unknown host, no route, or no answer in time."""
    TLS = "tls"
    """The TLS handshake failed, for example on an untrusted certificate."""
    RATE_LIMITED = "http_429"
    CLIENT_ERROR = "http_4xx"
    SERVER_FAILED = "http_5xx"
    UNEXPECTED_STATUS = "http_other"
    NOT_HTTP = "not_http"
    """Bytes that are no HTTP reply."""
    GARBAGE_JSON = "garbage_json"
    """An event, or a reply, that is not the JSON that the API promises."""
    ERROR_EVENT = "error_event"
    """An error told inside a stream that began well."""
    HALF_CHUNK = "half_chunk"
    """The connection closed in the middle of an event."""
    CLOSED_EARLY = "closed_early"
    """The connection closed, or the reply ended, before the model had finished."""
    NO_FIRST_TOKEN = "no_first_token"
    """No content within the time allowed."""
    STALLED = "stalled"
    """Content began, then nothing came for the time allowed."""
    TIMEOUT = "timeout"
    """The request took longer than allowed, although it progressed."""
    NO_CONTENT = "no_content"
    """A well-formed reply that holds no token."""
    UNFINISHED = "unfinished"
    """In flight when the load ended: no fault of the server, and not counted as a failure."""


def kind_of_status(status: int) -> ErrorKind | None:
    """Return the kind of failure that an HTTP status means; ``None`` for success."""
    if 200 <= status < 300:
        return None
    if status == 429:
        return ErrorKind.RATE_LIMITED
    if 400 <= status < 500:
        return ErrorKind.CLIENT_ERROR
    if status >= 500:
        return ErrorKind.SERVER_FAILED
    return ErrorKind.UNEXPECTED_STATUS
