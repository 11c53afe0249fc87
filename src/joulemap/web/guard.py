"""Who may ask, and how: host names, tokens, other sites' requests, sizes; and the headers of every answer."""

from __future__ import annotations

import ipaddress
import json
import secrets
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from joulemap.web.settings import Settings, is_loopback

MOST_QUERY_BYTES = 32_768
MOST_BODY_BYTES = 65_536
COOKIE = "joulemap_session"
SIGN_IN = "/sign-in"
_OPEN_PATHS = (SIGN_IN, "/assets/")
"""What is shown to those who have not signed in."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Sessions:
    """Who has shown the token: a cookie holds a secret of this process, never the token itself.

    Args:
        token: What visitors have to show; ``None`` lets everyone in.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token
        self.session = secrets.token_urlsafe(32)

    def is_token(self, shown: str) -> bool:
        """Whether this is the token; takes as long for a nearly right one as for a wrong one."""
        return self._token is not None and secrets.compare_digest(shown.encode(), self._token.encode())

    def may_pass(self, headers: Headers) -> bool:
        """Whether a request carries the token or a cookie of this process."""
        if self._token is None:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.is_token(token.strip())
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and secrets.compare_digest(cookie.value.encode(), self.session.encode())


class Guard:
    """Turns away what must not reach the pages; a pure ASGI middleware, so that streams pass through unbuffered.

    Args:
        app: What is guarded.
        settings: Under which names the application is known.
        sessions: Who has shown the token.
    """

    def __init__(self, app: ASGIApp, settings: Settings, sessions: Sessions) -> None:
        self._app = app
        self._settings = settings
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._turned_away(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _turned_away(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not self._host_is_ours(headers.get("host", "")):
            return _refusal(HTTPStatus.BAD_REQUEST, "this application is not known by the name asked for")
        if len(scope["query_string"]) > MOST_QUERY_BYTES or len(scope["raw_path"]) > MOST_QUERY_BYTES:
            return _refusal(HTTPStatus.REQUEST_URI_TOO_LONG, f"more than {MOST_QUERY_BYTES} bytes were asked")
        if _is_of_another_site(scope["method"], headers):
            return _refusal(HTTPStatus.FORBIDDEN, "another site may not ask in your name")
        if scope["path"].startswith(_OPEN_PATHS) or self._sessions.may_pass(headers):
            return None
        if "text/html" in headers.get("accept", "") and scope["method"] == "GET":
            asked = scope["path"] + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
            return RedirectResponse(f"{SIGN_IN}?next={quote(asked, safe='')}", HTTPStatus.SEE_OTHER)
        answer = _refusal(HTTPStatus.UNAUTHORIZED, "the header 'Authorization: Bearer TOKEN' is needed")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _host_is_ours(self, host: str) -> bool:
        """Whether a Host header names an address or a name of ours; others may be a name that was rebound to us."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in self._settings.allowed_hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self._settings.host)


def _is_of_another_site(method: str, headers: Headers) -> bool:
    """Whether a page of another site asks, other than by a link that a person followed."""
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
    if method in {"GET", "HEAD"}:
        return site == "cross-site" and mode != "navigate"
    origin = headers.get("origin")
    if origin is not None and origin != "null":
        return urlsplit(origin).netloc != headers.get("host", "")
    return site not in {"same-origin", "none"} or origin == "null"


def _refusal(status: HTTPStatus, why: str) -> Response:
    content = json.dumps({"error": {"message": why, "fix": None}})
    return Response(content, status, media_type="application/json")
