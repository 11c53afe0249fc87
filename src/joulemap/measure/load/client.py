"""One event loop's share of a load: keeps requests in flight, times their replies, watches itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from joulemap.errors import JoulemapError
from joulemap.measure.load.arrivals import request_numbers, schedule, share_of
from joulemap.measure.load.connection import Connection, Exchange
from joulemap.measure.load.failure import ErrorKind
from joulemap.measure.load.ledger import Ledger, Progress, Rows, WorkerResult
from joulemap.measure.load.plan import ClosedLoop, LoadPlan
from joulemap.measure.load.process import allow_open_files, peak_rss_bytes
from joulemap.measure.load.target import Endpoint, Target
from joulemap.measure.load.wire import Wire

SAMPLE_S = 0.1
"""Time between two looks at the client itself."""
STALL_CHECK_S = 0.5
"""Time between two searches for requests that have stalled, or take too long."""
HAND_OVER_S = 1.0
"""Time between two deliveries of finished requests."""
BACK_OFF_S = 0.05
"""First pause of a closed loop's slot after a failure; it doubles with each further one."""
LONGEST_BACK_OFF_S = 2.0
SPARE_FILES = 64
"""File descriptors beside those of connections."""
ENDED = (ErrorKind.UNFINISHED, "in flight when the load ended")


class LoadClient:
    """Runs one worker's share of a plan in the running event loop.

    Args:
        plan: The whole load.
        target: The server.
        worker: Which share, from 0.
        workers: Number of shares.
        on_progress: Called every ``SAMPLE_S`` with the worker's state.
        on_rows: Called every ``HAND_OVER_S`` with the requests that have ended since; without it, all are
            handed over at the end.

    Raises:
        JoulemapError: The plan cannot be carried out: a dataset or certificate cannot be read, for example.
    """

    def __init__(
        self,
        plan: LoadPlan,
        target: Target,
        *,
        worker: int = 0,
        workers: int = 1,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows: Callable[[Rows], None] | None = None,
    ) -> None:
        self._plan = plan
        self._streams = target.endpoint is not Endpoint.IMAGES
        self._worker = worker
        self._workers = workers
        self._on_progress = on_progress
        self._on_rows = on_rows
        self._wire = Wire(target)
        self._writer = plan.prompts.writer(target, plan.extra_body, plan.seed)
        self._ledger = Ledger()
        self._live: dict[Exchange, Connection | None] = {}
        self._ending = asyncio.Event()
        self._started = 0
        self._last_arrival_s = 0.0
        self._failures_in_a_row = 0
        self._gave_up = ""
        self._start_s = 0.0

    async def run(self, *, stop: asyncio.Event | None = None, start_s: float | None = None) -> WorkerResult:
        """Run the load until its end, or until ``stop`` is set, and return what was seen.

        Args:
            stop: Ends the load early; what is in flight is drained as the plan says.
            start_s: Monotonic time at which to start, so that workers start together.

        Raises:
            ServerError: The server's host name is unknown.
            EnvironmentLacksError: The system allows too few open connections.
        """
        allow_open_files(self._most_in_flight() + SPARE_FILES)
        await self._wire.resolve()
        if start_s is not None:
            await asyncio.sleep(max(0.0, start_s - time.monotonic()))
        self._start_s = time.monotonic() if start_s is None else start_s
        wall_offset_s = time.time() - time.monotonic()
        watch = asyncio.ensure_future(self._watch())
        load = asyncio.ensure_future(self._load())
        ends = [asyncio.ensure_future(event.wait()) for event in (self._ending, stop) if event is not None]
        try:
            await asyncio.wait([load, *ends], timeout=self._plan.duration_s, return_when=asyncio.FIRST_COMPLETED)
            self._ending.set()
            stopped_s = time.monotonic()
            await self._finish(load)
        finally:
            for task in (load, watch, *ends):
                task.cancel()
            await asyncio.gather(load, watch, *ends, return_exceptions=True)
            self._wire.close()
        self._sample(0.0)
        if not load.cancelled() and (error := load.exception()) is not None:
            raise _root(error)
        return WorkerResult(
            worker=self._worker,
            rows=self._ledger.take(),
            started_s=self._start_s,
            stopped_s=stopped_s,
            wall_offset_s=wall_offset_s,
            wall_step_s=time.time() - time.monotonic() - wall_offset_s,
            peak_rss_bytes=peak_rss_bytes(),
            gave_up=self._gave_up,
        )

    def _most_in_flight(self) -> int:
        arrivals = self._plan.arrivals
        whole = arrivals.concurrency if isinstance(arrivals, ClosedLoop) else arrivals.max_in_flight
        return max(1, share_of(whole, self._worker, self._workers))

    # Arrivals.

    async def _load(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if isinstance(self._plan.arrivals, ClosedLoop):
                numbers = request_numbers(self._plan, self._worker, self._workers)
                slots = share_of(self._plan.arrivals.concurrency, self._worker, self._workers)
                for slot in range(slots):
                    begin_s = self._start_s + self._plan.arrivals.ramp_s * slot / slots
                    tasks.create_task(self._slot(numbers, begin_s))
            else:
                await self._arrive(tasks)

    async def _slot(self, numbers: Iterator[int], begin_s: float) -> None:
        """Make one request after the other."""
        if await self._pause(begin_s - time.monotonic()):
            return
        pause_s = BACK_OFF_S
        for number in numbers:
            if await self._perform(number, float("nan")):
                pause_s = BACK_OFF_S
                if self._ending.is_set():
                    return
            else:
                # A server that refuses or fails at once must not be hammered.
                if await self._pause(pause_s):
                    return
                pause_s = min(2 * pause_s, LONGEST_BACK_OFF_S)

    async def _arrive(self, tasks: asyncio.TaskGroup) -> None:
        """Begin requests when they are due, or as soon after as there is room."""
        room = asyncio.Semaphore(self._most_in_flight())
        for number, at_s in schedule(self._plan, self._worker, self._workers):
            due_s = self._start_s + at_s
            if await self._pause(due_s - time.monotonic()):
                return
            await room.acquire()
            if self._ending.is_set():
                return
            tasks.create_task(self._perform(number, due_s)).add_done_callback(lambda _: room.release())

    async def _pause(self, seconds_s: float) -> bool:
        """Wait, but not beyond the load's end; True if that has come."""
        if seconds_s > 0 and not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), seconds_s)
        return self._ending.is_set()

    async def _finish(self, load: asyncio.Future[None]) -> None:
        """Let what is in flight run as long as the plan allows, then end it as unfinished."""
        if self._plan.limits.drain_s > 0 and not self._gave_up:
            await asyncio.wait([load], timeout=self._plan.limits.drain_s)
        load.cancel()
        await asyncio.wait([load])

    # One request.

    async def _perform(self, number: int, scheduled_s: float) -> bool:
        """Make one request; True if it succeeded."""
        if self._writer.heavy:
            body = await asyncio.to_thread(self._writer.body, number)
        else:
            body = self._writer.body(number)
        self._started += 1
        exchange = await self._exchange(Exchange(number, scheduled_s, streams=self._streams), body)
        if exchange.lost_unanswered and not self._ending.is_set():
            # The server had promised to keep the connection, and closed it (llama.cpp does so after each
            # stream): the request never began. It is made once more, and such promises are not believed again.
            self._wire.reuses = False
            again = Exchange(number, scheduled_s, streams=self._streams)
            again.retried = True
            exchange = await self._exchange(again, body)
        self._enter(exchange)
        return exchange.error is None

    async def _exchange(self, exchange: Exchange, body: bytes) -> Exchange:
        exchange.start_s = exchange.heard_s = time.monotonic()
        self._live[exchange] = None
        try:
            connection = await self._wire.connection(exchange, self._plan.limits.connect_s)
            if connection is not None:
                self._live[exchange] = connection
                connection.send(exchange, self._wire.request(body))
                await exchange.done
                self._wire.give_back(connection)
        except asyncio.CancelledError:
            if (connection := self._live[exchange]) is not None:
                connection.fail(*ENDED)
            exchange.end(*ENDED)
            self._enter(exchange)
            raise
        finally:
            del self._live[exchange]
        return exchange

    def _enter(self, exchange: Exchange) -> None:
        if exchange.bytes_seen:
            self._last_arrival_s = max(self._last_arrival_s, exchange.last_s)
        self._ledger.add(exchange, self._wire.without_key(exchange.error_detail))
        if exchange.error is None:
            self._failures_in_a_row = 0
        elif exchange.error is not ErrorKind.UNFINISHED:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= self._plan.limits.failures_in_a_row and not self._gave_up:
                self._gave_up = f"{self._failures_in_a_row} requests in a row failed, the last: {exchange.error}"
                self._ending.set()

    # The client's view of itself.

    async def _watch(self) -> None:
        handed_over_s = checked_s = time.monotonic()
        while True:
            due_s = time.monotonic() + SAMPLE_S
            await asyncio.sleep(SAMPLE_S)
            now = time.monotonic()
            self._sample(now - due_s)
            if now - checked_s >= STALL_CHECK_S:
                checked_s = now
                self._end_stalled()
            if self._on_rows is not None and now - handed_over_s >= HAND_OVER_S:
                handed_over_s = now
                self._on_rows(self._ledger.take())

    def _sample(self, lag_s: float) -> None:
        arrivals = [e.last_s for e in self._live if e.bytes_seen]
        self._last_arrival_s = max(self._last_arrival_s, *arrivals, 0.0)
        state = Progress(
            time_s=time.monotonic(),
            in_flight=len(self._live),
            started=self._started,
            completed=self._ledger.completed,
            failed=self._ledger.failed,
            content_chunks=self._ledger.content_chunks + sum(len(e.content_s) for e in self._live),
            completed_chunks=self._ledger.completed_chunks,
            output_tokens=self._ledger.output_tokens,
            images=self._ledger.images,
            cpu_s=time.process_time(),
            lag_s=max(0.0, lag_s),
            last_arrival_s=self._last_arrival_s,
        )
        if self._on_progress is not None:
            self._on_progress(state)

    def _end_stalled(self) -> None:
        now, limits = time.monotonic(), self._plan.limits
        for exchange, connection in list(self._live.items()):
            if connection is None:
                continue
            if now - exchange.start_s > limits.request_s:
                connection.fail(ErrorKind.TIMEOUT, f"not complete after {limits.request_s:g} s")
            elif exchange.content_s and now - exchange.last_s > limits.stall_s:
                connection.fail(ErrorKind.STALLED, f"nothing for {limits.stall_s:g} s in mid-reply")
            elif exchange.streams and not exchange.content_s and now - exchange.start_s > limits.first_token_s:
                connection.fail(ErrorKind.NO_FIRST_TOKEN, f"no content after {limits.first_token_s:g} s")


def _root(error: BaseException) -> BaseException:
    """Return the error of ours inside a task group's, so that users see its words."""
    while isinstance(error, BaseExceptionGroup):
        ours = [e for e in error.exceptions if isinstance(e, JoulemapError)]
        error = ours[0] if ours else error.exceptions[0]
    return error
