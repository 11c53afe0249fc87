"""A worker as its executor sees it: started, watched, ended at its time limit, and its result fetched."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

from joulemap.errors import JoulemapError
from joulemap.measure.sweep.job import End, Ended, Job
from joulemap.store.places import LocalPlace
from joulemap.store.run_store import RunStore

END_WITHIN_S = 25.0
"""Time for a worker to stop its engine before it is killed."""
SHOWN_WORDS = 300


class WorkerProcess:
    """One attempt at a configuration, in a process of its own.

    Args:
        job: What to measure.
        node: What to call the place where it runs.
        environment: Variables on top of this process's own, for example the GPUs that it owns.
    """

    def __init__(self, job: Job, node: str, environment: Mapping[str, str] | None = None) -> None:
        self.configuration_id = job.configuration.configuration_id
        self.node = node
        self.text = "starting"
        """How it goes on, in words."""
        self._limit_s = job.time_limit_s
        self._begun_s = time.monotonic()
        self._out_of_time = False
        self._last: dict[str, str] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="joulemap-sweep-", ignore_cleanup_errors=True)
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "joulemap.measure.sweep.worker", self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **(environment or {})},
            # Ctrl-C is the sweep's to handle.
            start_new_session=True,
        )
        stdin = cast(IO[bytes], self._process.stdin)
        with contextlib.suppress(BrokenPipeError):
            stdin.write(job.to_line().encode() + b"\n")
            stdin.flush()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in cast(IO[bytes], self._process.stdout):
            # What a killed process left half said is not said.
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if "state" in entry:
                    self.text = entry["state"]
                else:
                    self._last = entry

    def done(self) -> bool:
        """Say whether it has ended; one that is over its time limit is ended."""
        if self._process.poll() is not None:
            return True
        if time.monotonic() - self._begun_s > self._limit_s:
            self._out_of_time = True
            self.stop()
            return True
        return False

    def wait(self) -> Ended:
        """Wait until it has ended, and return what became of it."""
        while not self.done():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(min(0.5, max(0.05, self._limit_s - (time.monotonic() - self._begun_s))))
        return self.ended()

    def ended(self) -> Ended:
        """Return what became of it, once it is done, and clear up behind it."""
        self._listener.join(END_WITHIN_S)
        try:
            return self._outcome()
        finally:
            self.close()

    def _outcome(self) -> Ended:
        if run_id := self._last.get("run_id"):
            # A result that came in before the limit struck is a result.
            try:
                return self._measured(run_id)
            except JoulemapError as error:
                return self._without(End.FAILED, f"its result cannot be read: {error.message}")
        if self._out_of_time:
            return self._without(End.OUT_OF_TIME, f"not done within {self._limit_s:g} s; it was at: {self.text}")
        if "end" in self._last:
            return self._without(End(self._last["end"]), self._last["reason"])
        code = self._process.returncode
        return self._without(End.FAILED, f"the worker ended with exit code {code}: {self._last_words()}")

    def _measured(self, run_id: str) -> Ended:
        store = RunStore(LocalPlace(Path(self._folder.name)))
        return Ended(
            configuration_id=self.configuration_id,
            end=End.MEASURED,
            node=self.node,
            run=store.get(run_id),
            timelines=store.timelines.of_run(run_id),
        )

    def _without(self, end: End, reason: str) -> Ended:
        return Ended(configuration_id=self.configuration_id, end=end, reason=reason, node=self.node)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:SHOWN_WORDS] if lines else "it said nothing"

    def stop(self) -> None:
        """End it, with its engine, and wait until it is gone."""
        stdin = cast(IO[bytes], self._process.stdin)
        if not stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it, and remove what it wrote; a second call does nothing."""
        self.stop()
        self._listener.join(END_WITHIN_S)
        cast(IO[bytes], self._process.stdout).close()
        self._log.close()
        self._folder.cleanup()
