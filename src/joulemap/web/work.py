"""Work for answers: so much at once, so long, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_process

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PROCESSES = 2
"""Processes at once for work that may have to be ended."""


class BusyError(Exception):
    """Too much is under way already, or an answer took too long; an answer to the visitor, not an error of ours."""


class Work:
    """Runs functions in a few threads, each for a limited time.

    A function that takes too long is answered for, but keeps its thread until it ends: what runs at once stays
    bounded whatever happens.

    Args:
        workers: Functions that run at once.
        waiting: Functions that may wait for a thread.
        time_limit_s: Longest from the call to the result.
        apart_limit_s: Likewise, for what runs in a process of its own; the same if ``None``.
    """

    def __init__(
        self, *, workers: int, waiting: int, time_limit_s: float, apart_limit_s: float | None = None
    ) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="joulemap-web")
        self._most = workers + waiting
        self._under_way = 0
        self._time_limit_s = time_limit_s
        self._apart_limit_s = apart_limit_s or time_limit_s
        self._apart: anyio.CapacityLimiter | None = None

    async def run(self, function: Callable[[], T]) -> T:
        """Return what a function returns.

        Raises:
            BusyError: Too many functions are under way, or this one took too long.
        """
        if self._under_way >= self._most:
            msg = f"{self._under_way} requests are under way already"
            raise BusyError(msg)
        self._under_way += 1
        loop = asyncio.get_running_loop()
        future = self._threads.submit(function)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._ended))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._time_limit_s)
        except TimeoutError:
            msg = f"the answer took longer than {self._time_limit_s:g} s"
            raise BusyError(msg) from None

    async def run_apart(self, function: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        """Return what a function returns in a process of its own, which is ended where it takes too long.

        Args:
            function: A function of a module; it and its result travel between processes.
            arguments: Its arguments, likewise.

        Raises:
            BusyError: It took too long, or waited too long for its turn.
        """
        if self._apart is None:
            self._apart = anyio.CapacityLimiter(PROCESSES)
        try:
            with anyio.fail_after(self._apart_limit_s):
                return await anyio.to_process.run_sync(function, *arguments, cancellable=True, limiter=self._apart)
        except TimeoutError:
            msg = f"the answer took longer than {self._apart_limit_s:g} s"
            raise BusyError(msg) from None

    def close(self) -> None:
        """Let no further function begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self) -> None:
        self._under_way -= 1
