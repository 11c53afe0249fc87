"""Style, script and Vega-Embed, served from this package and from vl-convert, which carries Vega within it."""

from __future__ import annotations

import hashlib
import threading
import uuid
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

from joulemap.errors import UnknownNameError
from joulemap.report.renderers.html import stylesheet

router = APIRouter(include_in_schema=False)

_OWN = {
    "style.css": "text/css",
    "blocks.css": "text/css",  # of the reports, whose blocks the pages show
    "app.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
VEGA = "vega.js"
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_KEPT_S = 31_536_000


@cache
def own(name: str) -> bytes:
    """Return one of the package's own files."""
    if name == "blocks.css":
        return stylesheet(name).encode()
    return files("joulemap.web").joinpath("static", name).read_bytes()


@cache
def address(name: str) -> str:
    """Return the path of an asset; it changes with the content, so that browsers may keep it for good."""
    mark = _vega_version() if name == VEGA else hashlib.sha256(own(name)).hexdigest()[:12]
    return f"/assets/{mark}/{name}"


@router.get("/assets/{mark}/{name}")
def asset(mark: str, name: str) -> Response:
    """Return an asset by the path that :func:`address` gives; no other path exists."""
    if name not in {*_OWN, VEGA} or address(name) != f"/assets/{mark}/{name}":
        kind = "asset"
        raise UnknownNameError(kind, name, [*_OWN, VEGA])
    content, kind = (vega(), "text/javascript") if name == VEGA else (own(name), _OWN[name])
    return Response(content, media_type=kind, headers={"Cache-Control": f"max-age={_KEPT_S}, immutable"})


_making = threading.Lock()


def vega() -> bytes:
    """Return Vega-Embed with Vega and Vega-Lite as one script; made once, which takes seconds, and kept on disk."""
    with _making:
        return _vega()


def vega_is_kept() -> bool:
    """Whether :func:`vega` is at hand without having to be made."""
    return _vega_file().is_file()


def _vega_file() -> Path:
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("joulemap")) / f"vega-{_vega_version()}.js"


@cache
def _vega() -> bytes:
    import vl_convert

    kept = _vega_file()
    try:
        return kept.read_bytes()
    except OSError:
        pass
    content = vl_convert.javascript_bundle(_SNIPPET).encode()
    partial = kept.with_name(f".{kept.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(kept)
    except OSError:
        partial.unlink(missing_ok=True)  # a cache that cannot be written costs seconds at the next start, no more
    return content


def _vega_version() -> str:
    import vl_convert

    told = "-".join(
        [version("vl-convert-python"), vl_convert.get_vega_version(), vl_convert.get_vega_embed_version()]
    )
    return hashlib.sha256((told + _SNIPPET).encode()).hexdigest()[:12]
