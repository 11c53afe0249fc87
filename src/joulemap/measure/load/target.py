"""Which server is loaded, and through which of its endpoints."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from joulemap.errors import EnvironmentLacksError, UsageError

API_KEY_ENV = "JOULEMAP_API_KEY"


class Endpoint(StrEnum):
    """The endpoints of the OpenAI API that the client speaks."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    IMAGES = "images/generations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server and one of its endpoints.

    A key never enters this value: it names the environment variable that holds one.

    Raises:
        UsageError: The URL is not one, or carries credentials or a query.
    """

    url: str
    """Base address, for example ``"http://127.0.0.1:8000"``; a trailing ``/v1`` is understood."""
    model: str
    """The model's name as the server knows it."""
    endpoint: Endpoint = Endpoint.CHAT
    api_key_env: str = API_KEY_ENV
    """Environment variable that holds the key; a variable that is not set means that none is needed."""
    ca_file: str | None = None
    """Certificates to trust beside the system's, for https."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.username is not None or parts.password is not None or parts.query:
            # The URL itself is not repeated here: it may hold a key.
            msg = "the server's URL carries credentials or a query, which would end up in files and logs"
            raise UsageError(msg, fix=f"give the key by the environment variable {self.api_key_env}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1:
            msg = f"{self.url!r} is not the address of a server"
            raise UsageError(msg, fix="write it like http://127.0.0.1:8000")

    @property
    def host(self) -> str:
        """Host name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """TCP port."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def secure(self) -> bool:
        """Whether the server is spoken to over TLS."""
        return urlsplit(self.url).scheme == "https"

    def path(self, endpoint: str) -> str:
        """Return the path of an endpoint of the API, for example of ``"models"``."""
        base = urlsplit(self.url).path.rstrip("/")
        return f"{base}/{endpoint}" if base.endswith("/v1") else f"{base}/v1/{endpoint}"

    def api_key(self) -> str | None:
        """Return the key from the environment, ``None`` where there is none.

        Raises:
            EnvironmentLacksError: The variable holds what no HTTP header can.
        """
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            return None
        if not key.isascii() or not key.isprintable():
            msg = f"the environment variable {self.api_key_env} holds characters that no API key has"
            raise EnvironmentLacksError(msg, fix=f"export {self.api_key_env}=… with the key alone")
        return key

    def headers(self) -> bytes:
        """Return the fixed headers of a request; they hold the key, so they must not be shown."""
        key = self.api_key()
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"Host: {host}:{self.port}", "User-Agent: joulemap", "Content-Type: application/json"]
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        return ("\r\n".join(lines) + "\r\n").encode("ascii")

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context, ``None`` for plain http."""
        if not self.secure:
            return None
        context = ssl.create_default_context()
        if self.ca_file is not None:
            try:
                context.load_verify_locations(self.ca_file)
            except (OSError, ssl.SSLError) as error:
                msg = f"the certificate file {self.ca_file} cannot be used: {error}"
                raise UsageError(msg) from error
        return context
