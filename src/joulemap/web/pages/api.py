"""The reference of the HTTP interface, from its OpenAPI description."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from joulemap.web.answers import Answer, Asked, documented, respond

router = APIRouter()


@router.get("/api", summary="API", **documented("/openapi.json"))
async def api_page(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """List every address with what it may be asked and what it answers."""
    description: dict[str, Any] = request.app.openapi()
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    shown = {"operations": operations, "about": description["info"]["description"]}
    return await respond(
        request, asked, lambda _store: Answer(payload=description, template="api.html", shown=shown)
    )
