"""``joulemap serve``."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from joulemap.cli.output import note
from joulemap.errors import InputError, MissingExtraError, UsageError
from joulemap.store.run_store import STORE_ENVIRONMENT_VARIABLE, open_store

if TYPE_CHECKING:
    from joulemap.web.settings import Settings

TOKEN_VARIABLE = "JOULEMAP_TOKEN"
_MAKE_TOKEN = "python -c 'import secrets; print(secrets.token_urlsafe())' > token"


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8180,
    token_file: Path | None = None,
    allow_host: Annotated[list[str] | None, Parameter(negative="")] = None,
    workers: int = 2,
    store: Annotated[str | None, Parameter(env_var=STORE_ENVIRONMENT_VARIABLE)] = None,
) -> None:
    """Serve the web application: runs, explanations, what-if, frontiers, plans, measurements in progress.

    Args:
        host: Address to listen at; any but a loopback address needs a token.
        port: Port to listen at; 0 takes a free one.
        token_file: File with the token that visitors have to show; JOULEMAP_TOKEN may hold it instead.
        allow_host: A name, beside addresses, under which visitors reach it; may be given again.
        workers: Answers computed at once.
        store: Folder of the run store, or its URL such as s3://bucket/prefix; by default a folder among the
            user's data.
    """
    settings = _settings(host, port, _token(token_file), allow_host or [], workers, store)
    _require_web()
    from joulemap.web.serve import serve_until_interrupted

    serve_until_interrupted(settings, note)


def _settings(
    host: str, port: int, token: str | None, names: list[str], workers: int, store: str | None
) -> Settings:
    from joulemap.web.settings import SHORTEST_TOKEN, Settings, is_loopback

    if not 0 <= port <= 65535:
        msg = f"--port {port} is no port"
        raise UsageError(msg, fix="--port 8180")
    if not 1 <= workers <= 64:
        msg = f"--workers must lie between 1 and 64, not {workers}"
        raise UsageError(msg, fix="--workers 2")
    if token is None and not is_loopback(host):
        msg = f"at {host} other machines can reach the application, and no token protects it"
        raise UsageError(
            msg, fix=f"{_MAKE_TOKEN}; chmod 600 token; joulemap serve --host {host} --token-file token"
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        msg = f"the token has {len(token)} characters, which can be guessed"
        raise UsageError(msg, fix=_MAKE_TOKEN)
    open_store(store)  # a path that is no folder is told before anything listens
    return Settings(
        store=store,
        host=host,
        port=port,
        token=token,
        allowed_hosts=frozenset(name.lower() for name in names),
        workers=workers,
    )


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the token file {file} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InputError(msg, fix=_MAKE_TOKEN) from error


def _require_web() -> None:
    for module in ("fastapi", "uvicorn", "jinja2", "multipart", "altair", "vl_convert"):
        if find_spec(module) is None:
            extra = "web"
            raise MissingExtraError(extra, "joulemap serve", module)
