"""Fetching a metrics text over HTTP: bounded in time and size, with every failure named and no secret in it."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from joulemap.errors import ServerError, UsageError
from joulemap.units import BYTES_PER_MIB

MAX_BYTES = 16 * BYTES_PER_MIB
CHUNK_BYTES = 65536


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses to follow: a redirect could carry an API key to another host."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


# Neither proxies nor redirects: what is measured is the server that was named, reached directly.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


def server_name(url: str) -> str:
    """Return ``host:port`` of a URL.

    Raises:
        UsageError: It is no ``http`` or ``https`` URL, or holds credentials.

    >>> server_name("http://localhost:8000/metrics")
    'localhost:8000'
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host:
        msg = "a metrics address must be an http or https URL"
        raise UsageError(msg, fix="for example http://localhost:8000/metrics")
    if parts.username is not None:
        msg = f"the URL of {host} holds credentials, which would end up in logs and files"
        raise UsageError(msg, fix="give the key by the environment variable that the command names")
    return f"{host}:{port}" if port else host


def fetch_text(url: str, *, timeout_s: float = 2.0, headers: Mapping[str, str] | None = None) -> str:
    """Return the text at a URL.

    Args:
        url: Where the metrics are.
        timeout_s: Time for the whole answer, however slowly it drips.
        headers: Headers to send, for example the authorization that the server asks for.

    Raises:
        ServerError: No connection, no answer in time, a status other than 200, or too long a text.
        UsageError: It is no URL.
    """
    where = server_name(url)
    path = urlsplit(url).path or "/"
    deadline_s = time.monotonic() + timeout_s
    try:
        request = urllib.request.Request(url, headers=dict(headers or {}))
        with _OPENER.open(request, timeout=timeout_s) as response:
            body = _read(response, deadline_s, where, timeout_s)
    except urllib.error.HTTPError as error:
        msg = f"{where} answers {path} with status {error.code} ({error.reason})"
        raise ServerError(msg, fix=_fix(error.code, url)) from None
    except TimeoutError:
        raise _late(where, timeout_s) from None
    except ValueError:
        # The text of this error would quote the header, and with it the key.
        msg = f"{where} cannot be asked: the URL or a header holds a character that HTTP does not allow"
        raise ServerError(msg) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise _late(where, timeout_s) from None
        msg = f"{where} cannot be read: {type(reason).__name__}: {reason}"
        raise ServerError(msg) from None
    return body.decode("utf-8", errors="replace")


def _read(response: Any, deadline_s: float, where: str, timeout_s: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := response.read1(CHUNK_BYTES):
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            msg = f"{where} sends more than {MAX_BYTES // BYTES_PER_MIB} MiB of metrics"
            raise ServerError(msg)
        if time.monotonic() > deadline_s:
            raise _late(where, timeout_s)
    return b"".join(parts)


def _late(where: str, timeout_s: float) -> ServerError:
    return ServerError(f"{where} did not answer within {timeout_s:g} s")


def _fix(status: int, url: str) -> str:
    if status in {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}:
        return "give the server's API key by the environment variable that the command names"
    if status == http.HTTPStatus.NOT_FOUND:
        return "switch the server's metrics on (SGLang: --enable-metrics, llama.cpp: --metrics), or name their URL"
    return f"curl -i {urlsplit(url).path or '/'} on that server"
