"""Measures one configuration in a process of its own, which ends when its stdin does.

``python -m joulemap.measure.sweep.worker FOLDER`` reads a job, one line of JSON, from stdin; run and timelines go
into a store in the folder. On stdout it writes one JSON object a line: ``{"state": …}`` now and then, at the end
``{"run_id": …}`` or ``{"end": …, "reason": …}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO

from joulemap.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    InfeasibleError,
    JoulemapError,
    MeasurementError,
    OfflineError,
    StoreError,
)
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.interrupts import ended_like_ctrl_c
from joulemap.measure.session.level import LevelState
from joulemap.measure.sweep.job import End, Job
from joulemap.measure.sweep.measuring import measure_job
from joulemap.records import Run
from joulemap.store.places import LocalPlace
from joulemap.store.run_store import RunStore

SAY_EVERY_S = 1.0
PATIENCE_S = 20.0
"""Time in which the engine is stopped in good order once stdin has ended."""


class _Observer:
    """Says how the measurement goes on, in lines for the executor."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._last_s = 0.0

    def say(self, **entry: object) -> None:
        """Write one line; nobody may listen any more."""
        try:
            self._out.write(json.dumps(entry) + "\n")
            self._out.flush()
        except OSError:
            return

    def watching(self, _instruments: Instruments) -> _Observer:
        """Return itself."""
        return self

    def level_begins(self, name: str, unit: str) -> None:
        """Nothing to say: the executor knows what it started."""

    def state(self, _name: str, state: LevelState) -> None:
        """Say phase, power and speed, once a second at most."""
        if time.monotonic() - self._last_s < SAY_EVERY_S:
            return
        self._last_s = time.monotonic()
        power = "" if state.power_w is None else f", {state.power_w:.0f} W"
        speed = "" if state.output_throughput_per_s is None else f", {state.output_throughput_per_s:.0f}/s"
        self.say(state=f"{state.phase}, {state.elapsed_s:.0f} s{power}{speed}")

    def level_ends(self, name: str, run: Run | None, why: str) -> None:
        """Nothing to say: what became of it follows."""


def main() -> int:
    """Measure the job and return the exit code."""
    # What libraries print goes to stderr; stdout is for the lines alone.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    observer = _Observer(out)
    job = Job.from_line(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    store = RunStore(LocalPlace(Path(sys.argv[1])))
    try:
        with ended_like_ctrl_c():
            run = measure_job(job, store, observer.watching, lambda text: observer.say(state=text))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except JoulemapError as error:
        observer.say(end=_end_of(error), reason=error.message)
        return EXIT_DONE
    observer.say(run_id=run.run_id)
    return EXIT_DONE


def _end_of(error: JoulemapError) -> End:
    if isinstance(error, InfeasibleError):
        return End.DOES_NOT_FIT
    passing = isinstance(error, MeasurementError | StoreError | OfflineError)
    return End.FAILED if passing else End.REFUSED


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_S)
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
