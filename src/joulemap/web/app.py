"""The application: every page, behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from joulemap import __version__
from joulemap.errors import JoulemapError
from joulemap.web import assets
from joulemap.web.answers import ERRORS, environment, tell_error
from joulemap.web.guard import MOST_BODY_BYTES, Guard, Sessions
from joulemap.web.pages import home
from joulemap.web.runs_at_hand import RunsAtHand
from joulemap.web.settings import Settings
from joulemap.web.work import BusyError, Work

PAGES = (
    *("home", "runs", "run", "explain", "what_if", "frontier", "recommend", "plan", "study", "live", "api"),
    "sign_in",
)
"""The modules of ``joulemap.web.pages``."""
DESCRIPTION = (
    "Where do the joules go? Every page has a stable address; with `format=json` it gives what the command of the "
    "same name prints with `--json`."
)


def make_app(settings: Settings) -> FastAPI:
    """Return the application.

    Args:
        settings: Where runs are, who may ask, and how much work is done at once.
    """
    app = FastAPI(
        title="joulemap",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # they load scripts of other sites; /api is the reference
        redoc_url=None,
        max_body_size=MOST_BODY_BYTES,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.runs = RunsAtHand(settings.store)
    app.state.work = Work(
        workers=settings.workers,
        waiting=settings.waiting,
        time_limit_s=settings.time_limit_s,
        apart_limit_s=settings.apart_limit_s,
    )
    app.state.templates = environment()
    app.state.streams = 0
    app.include_router(assets.router)
    for page in PAGES:
        app.include_router(import_module(f"joulemap.web.pages.{page}").router)
    for error in ERRORS:
        app.add_exception_handler(error, tell_error)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=4)
    app.state.sessions = Sessions(settings.token)
    app.add_middleware(Guard, settings=settings, sessions=app.state.sessions)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # It takes seconds, and the first visitor should not wait for it.
    preparing = asyncio.create_task(_prepare(app))
    yield
    preparing.cancel()
    with suppress(asyncio.CancelledError):
        await preparing
    app.state.work.close()


async def _prepare(app: FastAPI) -> None:
    # What cannot be computed is told to whoever asks for it.
    with suppress(JoulemapError, BusyError):
        await home.standing_out_of(app.state)
