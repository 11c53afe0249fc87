"""Work is bounded: how much at once, how much may wait, how long it may take."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from joulemap.web.work import BusyError, Work


def _process() -> int:
    return os.getpid()


def _too_long() -> None:
    time.sleep(60)


def test_results_and_errors_come_through() -> None:
    async def scenario() -> None:
        work = Work(workers=2, waiting=2, time_limit_s=30.0)
        assert await work.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await work.run(lambda: 1 / 0)
        work.close()

    asyncio.run(scenario())


def test_what_takes_too_long_is_given_up_and_keeps_its_thread() -> None:
    release = threading.Event()

    async def scenario() -> None:
        work = Work(workers=1, waiting=1, time_limit_s=0.2)
        with pytest.raises(BusyError, match="longer than"):
            await work.run(release.wait)
        # The thread is still taken: what comes next waits in vain, and one more is turned away at once.
        waiting = asyncio.create_task(work.run(lambda: 1))
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="under way"):
            await work.run(lambda: 2)
        with pytest.raises(BusyError, match="longer"):
            await waiting
        release.set()
        while work._under_way:
            await asyncio.sleep(0.01)
        assert await work.run(lambda: 3) == 3
        work.close()

    asyncio.run(scenario())


def test_a_process_apart_is_ended_when_it_takes_too_long() -> None:
    async def scenario() -> None:
        work = Work(workers=1, waiting=1, time_limit_s=60.0)
        assert await work.run_apart(_process) != os.getpid()
        work._apart_limit_s = 0.5
        begun_s = time.monotonic()
        with pytest.raises(BusyError):
            await work.run_apart(_too_long)
        assert time.monotonic() - begun_s < 30.0
        work.close()

    asyncio.run(scenario())
