"""Starts a load in worker processes, tells how it goes, and merges what it saw."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, cast

from joulemap import errors
from joulemap.errors import JoulemapError, MeasurementError
from joulemap.measure.load.client import LoadClient
from joulemap.measure.load.frames import Assignment, Failed, Ready, Start, Stop, read_frame, write_frame
from joulemap.measure.load.ledger import NOTHING_YET, Progress, Rows, WorkerResult, history, merged
from joulemap.measure.load.plan import ClosedLoop, LoadPlan
from joulemap.measure.load.target import Target
from joulemap.measure.load.wire import Wire

if TYPE_CHECKING:
    from joulemap.measure.load.result import LoadResult

STREAMS_PER_WORKER = 1024
"""Streams that one worker follows with half of a core to spare, at 50 chunks a second each."""
START_MARGIN_S = 0.05
"""Time for the word to reach every worker before the common start."""
READY_WITHIN_S = 60.0
POLL_S = 0.05
END_WITHIN_S = 10.0
"""Time for a worker to hand over its result, beyond what the plan lets it drain."""


class _Worker:
    """One worker process, and the thread that listens to it."""

    def __init__(self, assignment: Assignment) -> None:
        self.number = assignment.worker
        self.rows = Rows()
        self.samples: list[Progress] = []
        self.result: WorkerResult | None = None
        self.failed: Failed | None = None
        self.ready = threading.Event()
        self.lock = threading.Lock()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "joulemap.measure.load.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            # A session of its own: Ctrl-C reaches the parent alone, which then stops its workers in order.
            start_new_session=True,
        )
        self.say(assignment)
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def say(self, message: object) -> None:
        """Send a message; one that has died is found out by its listener."""
        with contextlib.suppress(OSError, ValueError):
            write_frame(cast(Any, self.process.stdin), message)

    def _listen(self) -> None:
        while (message := read_frame(cast(Any, self.process.stdout))) is not None:
            with self.lock:
                if isinstance(message, Progress):
                    self.samples.append(message)
                elif isinstance(message, Rows):
                    self.rows.extend(message)
                elif isinstance(message, WorkerResult):
                    self.rows.extend(message.rows)
                    self.result = message
                elif isinstance(message, Failed):
                    self.failed = message
            if isinstance(message, Ready | Failed):
                self.ready.set()
        self.process.wait()
        self.ready.set()

    def ending(self) -> str:
        """Say why it ended before its time; empty if it did not."""
        if self.result is not None:
            return self.result.gave_up
        return f"load worker {self.number} died ({self.last_words()}); its last second of requests is lost"

    def last_words(self) -> str:
        """Return its exit code and the last line that it wrote."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"exit code {self.process.poll()}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """End the process if it still runs, and everything that belongs to it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.listener.join()
        for pipe in (self.process.stdin, self.process.stdout, self._stderr):
            with contextlib.suppress(BrokenPipeError):
                cast(IO[bytes], pipe).close()


class LoadHandle:
    """A load that is running. Use it in a ``with`` block: leaving it ends the workers.

    Args:
        plan: What to ask.
        target: Whom.
        workers: Number of worker processes.

    Raises:
        JoulemapError: The plan cannot be carried out, or no worker started.
    """

    def __init__(self, plan: LoadPlan, target: Target, *, workers: int) -> None:
        # What is wrong with the plan is told here and now, before any process is started.
        Wire(target)
        plan.prompts.writer(target, plan.extra_body, plan.seed)
        self._plan = plan
        self._workers: list[_Worker] = []
        self._result: LoadResult | None = None
        self._stopped_s: float | None = None
        try:
            for number in range(workers):
                assignment = Assignment(plan=plan, target=target, worker=number, workers=workers)
                self._workers.append(_Worker(assignment))
            for worker in self._workers:
                worker.ready.wait(READY_WITHIN_S)
                self._raise_if_failed(worker, started=False)
            self.start_s = time.monotonic() + START_MARGIN_S
            for worker in self._workers:
                worker.say(Start(self.start_s))
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> bool:
        """Whether every worker has ended."""
        return all(not worker.listener.is_alive() for worker in self._workers)

    @property
    def pids(self) -> tuple[int, ...]:
        """The workers' process ids."""
        return tuple(worker.process.pid for worker in self._workers)

    def snapshot(self) -> Progress:
        """Return how far the load is: the workers' latest states, together."""
        latest = []
        for worker in self._workers:
            with worker.lock:
                latest += worker.samples[-1:]
        return merged(latest or [NOTHING_YET])

    def history(self) -> list[Progress]:
        """Return every state so far, of all workers together: about 10 a second and worker."""
        samples = []
        for worker in self._workers:
            with worker.lock:
                samples.append(list(worker.samples))
        return history(samples)

    def stop(self) -> None:
        """End the load; returns at once. ``result`` then waits for what the plan lets drain, and no longer."""
        self._stopped_s = time.monotonic()
        for worker in self._workers:
            worker.say(Stop())

    def result(self) -> LoadResult:
        """Wait for the load's end and return what it saw; a second call returns the same.

        Raises:
            ServerError: The server's host name is unknown.
            MeasurementError: Every worker died.
        """
        if self._result is None:
            self._wait()
            # Imported when the load is over: Polars would double this process's memory while it runs.
            from joulemap.measure.load.result import assemble

            for worker in self._workers:
                self._raise_if_failed(worker, started=True)
            self._result = assemble(
                [worker.rows for worker in self._workers],
                [worker.samples for worker in self._workers],
                [worker.result for worker in self._workers],
                in_flight_target=self._plan.in_flight_target,
                endings=[worker.ending() for worker in self._workers],
            )
            self.close()
        return self._result

    def _wait(self) -> None:
        patience_s = self._plan.limits.drain_s + END_WITHIN_S
        for worker in self._workers:
            while worker.listener.is_alive():
                worker.listener.join(POLL_S)
                if self._stopped_s is not None and time.monotonic() - self._stopped_s > patience_s:
                    worker.process.kill()

    def close(self) -> None:
        """End the workers at once. What they delivered before is kept."""
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _raise_if_failed(self, worker: _Worker, *, started: bool) -> None:
        if worker.failed is not None:
            known = getattr(errors, worker.failed.error, MeasurementError)
            kind: Callable[..., JoulemapError] = known
            raise kind(worker.failed.message, fix=worker.failed.fix)
        none_left = all(w.result is None for w in self._workers)
        if (not started and worker.process.poll() is not None) or (started and none_left):
            msg = f"the load client's worker process died ({worker.last_words()})"
            raise MeasurementError(msg)


def default_workers(plan: LoadPlan) -> int:
    """Return how many workers a plan needs: one for every 1,024 streams, but no more than there are cores."""
    arrivals = plan.arrivals
    streams = arrivals.concurrency if isinstance(arrivals, ClosedLoop) else arrivals.max_in_flight
    return max(1, min(-(-streams // STREAMS_PER_WORKER), os.cpu_count() or 1))


def start_load(plan: LoadPlan, target: Target, *, workers: int | None = None) -> LoadHandle:
    """Start a load in worker processes and return at once.

    Args:
        plan: What to ask.
        target: Whom.
        workers: Worker processes; by default one for every 1,024 streams, at most one a core.

    Raises:
        JoulemapError: The plan cannot be carried out.
    """
    return LoadHandle(plan, target, workers=workers or default_workers(plan))


async def run_load(
    plan: LoadPlan,
    target: Target,
    *,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoadResult:
    """Run a load in the running event loop, in this process; for small loads, and for tests.

    Raises:
        JoulemapError: The plan cannot be carried out.
    """
    from joulemap.measure.load.result import assemble

    samples: list[Progress] = []

    def keep(state: Progress) -> None:
        samples.append(state)
        if on_progress is not None:
            on_progress(state)

    result = await LoadClient(plan, target, on_progress=keep).run(stop=stop)
    return assemble(
        [result.rows],
        [samples],
        [result],
        in_flight_target=plan.in_flight_target,
        endings=[result.gave_up],
    )
