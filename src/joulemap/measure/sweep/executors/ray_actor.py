"""The actor that measures one configuration on its node; Ray makes it one."""

from __future__ import annotations

import socket
from typing import Any

from joulemap.measure.sweep.job import Ended, Job
from joulemap.measure.sweep.worker_process import WorkerProcess


class NodeWorker:
    """Owns its node's GPUs for one attempt."""

    def __init__(self) -> None:
        self._node = socket.gethostname()
        self._worker: WorkerProcess | None = None

    def measure(self, job: Job) -> Ended:
        """Measure the job and return what became of it; the worker ends when this process does."""
        import ray

        runtime: Any = ray.util

        self._node = f"{self._node} ({runtime.get_node_ip_address()})"
        self._worker = WorkerProcess(job, self._node)
        return self._worker.wait()

    def state(self) -> tuple[str, str]:
        """Return the node and how the attempt goes on."""
        return self._node, "starting" if self._worker is None else self._worker.text
