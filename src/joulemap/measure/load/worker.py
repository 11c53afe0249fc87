"""A worker process of the load client: ``python -m joulemap.measure.load.worker``, started by ``handle``.

It reads its share from stdin and writes progress, finished requests and its result to stdout. When its
parent is gone, so is it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from queue import SimpleQueue
from typing import BinaryIO

from joulemap.errors import JoulemapError
from joulemap.measure.load.client import LoadClient
from joulemap.measure.load.frames import Assignment, Failed, Ready, Start, Stop, read_frame, write_frame
from joulemap.measure.load.process import run_in_fast_loop

PARENT_GONE = 3


class _Voice(threading.Thread):
    """Writes messages in a thread of its own, so that a slow reader never holds up the event loop."""

    def __init__(self, pipe: BinaryIO) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._queue: SimpleQueue[object | None] = SimpleQueue()

    def say(self, message: object) -> None:
        self._queue.put(message)

    def finish(self) -> None:
        """Wait until everything is said."""
        self._queue.put(None)
        self.join()

    def run(self) -> None:
        while (message := self._queue.get()) is not None:
            try:
                write_frame(self._pipe, message)
            except OSError:
                os._exit(PARENT_GONE)


async def _work(assignment: Assignment, ears: BinaryIO, voice: _Voice) -> None:
    loop = asyncio.get_running_loop()
    client = LoadClient(
        assignment.plan,
        assignment.target,
        worker=assignment.worker,
        workers=assignment.workers,
        on_progress=voice.say,
        on_rows=voice.say,
    )
    # What exists now stays: the collector need not look at it again in the midst of the load.
    gc.collect()
    gc.freeze()
    voice.say(Ready())
    start = await loop.run_in_executor(None, read_frame, ears)
    if not isinstance(start, Start):
        os._exit(PARENT_GONE)
    stop = asyncio.Event()

    def listen() -> None:
        if not isinstance(read_frame(ears), Stop):
            os._exit(PARENT_GONE)
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=listen, daemon=True).start()
    voice.say(await client.run(stop=stop, start_s=start.at_s))


def main() -> None:
    """Do one assignment."""
    # The pipe is ours alone: whatever else writes to stdout must not get between the messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    ears = sys.stdin.buffer
    voice = _Voice(out)
    voice.start()
    assignment = read_frame(ears)
    if not isinstance(assignment, Assignment):
        sys.exit(PARENT_GONE)
    try:
        run_in_fast_loop(_work(assignment, ears, voice))
    except JoulemapError as error:
        voice.say(Failed(type(error).__name__, error.message, error.fix))
    voice.finish()


if __name__ == "__main__":
    main()
