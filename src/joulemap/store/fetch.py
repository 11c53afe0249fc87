"""Fetching one file over HTTP: bounded in size and time, resumed where it broke off, never half-written.

Only the standard library is used. A file is written beside its target as ``NAME.partial`` and renamed when it
is complete and its content is accepted; what a broken connection leaves is continued by a range request.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import IO, Any
from urllib.parse import urlsplit

from joulemap.clock import Clock, SystemClock
from joulemap.errors import OfflineError
from joulemap.units import BYTES_PER_MIB

SCHEMES = ("http", "https")
_CHUNK_BYTES = 65_536
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_RETRY_AFTER_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What one file may cost."""

    stall_s: float = 20.0
    """Longest wait for the next bytes."""
    total_s: float = 300.0
    """Longest time of one try, however steadily it drips."""
    tries: int = 4
    largest_bytes: int = 64 * BYTES_PER_MIB
    first_pause_s: float = 0.5
    """Pause before the second try; it doubles from try to try."""


class FetchError(OfflineError):
    """A file that could not be had; ``status`` is the server's answer, if it gave one."""

    def __init__(self, message: str, *, status: int | None = None, retry: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.retry = retry
        self.pause_s = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """Fetches files under the same limits.

    A server that sends other content than expected is tried again, from the start.
    """

    limits: FetchLimits = field(default_factory=FetchLimits)
    clock: Clock = field(default_factory=SystemClock)
    stop: Event = field(default_factory=Event)
    """Set it to end every fetch under way at its next chunk."""
    on_bytes: Callable[[int], None] = lambda _count: None
    """Called with the size of every chunk received."""

    def fetch(self, url: str, target: Path, accept: Callable[[bytes], str | None]) -> None:
        """Bring a file to ``target``.

        Args:
            url: Its ``http`` or ``https`` address.
            target: Where it is to lie; its folder is created.
            accept: Returns ``None`` for the right content, else what is wrong with it.

        Raises:
            FetchError: It could not be had; what came so far is kept for the next attempt.
        """
        check_url(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        pause_s = self.limits.first_pause_s
        for attempt in range(1, self.limits.tries + 1):
            try:
                self._receive(url, partial)
                _accept(url, partial, target, accept)
                return
            except FetchError as error:
                if attempt == self.limits.tries or not error.retry or self.stop.is_set():
                    raise
                self.clock.sleep(max(pause_s, error.pause_s))
                pause_s *= 2

    def _receive(self, url: str, partial: Path) -> None:
        if self.stop.is_set():
            msg = f"{url} was given up"
            raise FetchError(msg, retry=False)
        headers = {"User-Agent": "joulemap", "Accept-Encoding": "identity"}
        held_bytes, version = _held(partial)
        if version:
            # The server sends the rest only if the file is still the one that was begun.
            headers |= {"Range": f"bytes={held_bytes}-", "If-Range": version}
        request = urllib.request.Request(url, headers=headers)
        try:
            with _opener().open(request, timeout=self.limits.stall_s) as response:
                self._write(url, response, partial, held_bytes)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                _forget(partial)
            raise _refusal(url, error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            msg = f"{url} could not be fetched: {reason or type(error).__name__}"
            raise FetchError(msg) from error

    def _write(self, url: str, response: Any, partial: Path, held_bytes: int) -> None:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT and _range_start(response) == held_bytes
        if response.status == http.HTTPStatus.PARTIAL_CONTENT and not resumed:
            _forget(partial)
            msg = f"{url} answered with another part of the file than was asked for"
            raise FetchError(msg)
        received = held_bytes if resumed else 0
        announced = response.length
        self._check_size(url, received + (announced or 0))
        expected = None if announced is None else received + announced
        if not resumed:
            _forget(partial)
            version_file(partial).write_text(_version(response), "utf-8")
        with partial.open("ab" if resumed else "wb") as file:
            received = self._copy(url, response, file, received)
        if expected is not None and received < expected:
            msg = f"{url} broke off after {received:,} of {expected:,} bytes"
            raise FetchError(msg)

    def _copy(self, url: str, response: Any, file: IO[bytes], received: int) -> int:
        begun_s = self.clock.monotonic_s()
        while chunk := response.read1(_CHUNK_BYTES):
            received += len(chunk)
            self._check_size(url, received)
            file.write(chunk)
            self.on_bytes(len(chunk))
            if self.stop.is_set():
                msg = f"{url} was given up"
                raise FetchError(msg, retry=False)
            if self.clock.monotonic_s() - begun_s > self.limits.total_s:
                msg = f"{url} came too slowly: {received:,} bytes in {self.limits.total_s:g} s"
                raise FetchError(msg)
        return received

    def _check_size(self, url: str, size_bytes: int) -> None:
        if size_bytes > self.limits.largest_bytes:
            limit = self.limits.largest_bytes // BYTES_PER_MIB
            msg = f"{url} is larger than {limit} MiB, which no file of the study is"
            raise FetchError(msg, retry=False)


def _accept(url: str, partial: Path, target: Path, accept: Callable[[bytes], str | None]) -> None:
    try:
        complaint = accept(partial.read_bytes())
        if complaint is None:
            partial.replace(target)
        _forget(partial)
    except OSError as error:
        # Another process may be fetching the same file into the same place.
        msg = f"{url} could not be kept: {error.strerror or error}"
        raise FetchError(msg) from error
    if complaint is not None:
        msg = f"{url} {complaint}"
        raise FetchError(msg)


def version_file(partial: Path) -> Path:
    """Return where the version (``ETag`` or ``Last-Modified``) of a half-received file is kept."""
    return partial.with_name(partial.name + ".version")


def _held(partial: Path) -> tuple[int, str]:
    """Return size and version of what an earlier try left; no version means that it cannot be continued."""
    if not partial.is_file() or not version_file(partial).is_file():
        return 0, ""
    size_bytes = partial.stat().st_size
    version = version_file(partial).read_text("utf-8", errors="replace")
    return size_bytes, version if size_bytes and version.isprintable() and version.isascii() else ""


def _version(response: Any) -> str:
    tag = str(response.headers.get("ETag") or "")
    # A weak tag does not promise the same bytes.
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified") or "")


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    version_file(partial).unlink(missing_ok=True)


def check_url(url: str) -> None:
    """Check that an address can be fetched.

    Raises:
        FetchError: It is no ``http`` or ``https`` address with a host.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in SCHEMES and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        msg = f"{url!r} is no address to download from: it should begin with https:// or http://"
        raise FetchError(msg, retry=False)


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects to the same kind of address, and never from https to http."""

    max_repeats = 2
    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in SCHEMES or (old == "https" and new == "http"):
            fp.close()
            text = f"{req.full_url} redirects to where nothing can be downloaded from: {newurl!r}"
            raise FetchError(text, retry=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    # Built by hand: the usual opener would also read file: and ftp: addresses.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _CheckedRedirects(),
    ):
        opener.add_handler(handler)
    return opener


def _refusal(url: str, error: urllib.error.HTTPError) -> FetchError:
    if 300 <= error.code < 400:
        endless = "infinite loop" in str(error.reason)
        msg = f"{url} redirects {'without end' if endless else 'to where nothing can be downloaded from'}"
        return FetchError(msg, status=error.code, retry=False)
    msg = f"{url} answered {error.code} {error.reason}".rstrip()
    refusal = FetchError(msg, status=error.code, retry=error.code in _RETRIED or error.code == 416)
    after = error.headers.get("Retry-After", "") if error.headers else ""
    refusal.pause_s = min(float(after), _LONGEST_RETRY_AFTER_S) if after.isascii() and after.isdigit() else 0.0
    return refusal


def _range_start(response: Any) -> int | None:
    """Return where the part that the server sends begins, from ``Content-Range: bytes 10-99/100``."""
    unit, _, rest = (response.headers.get("Content-Range") or "").partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isascii() and start.isdigit() and len(start) < 19 else None
