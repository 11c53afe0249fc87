"""Runs a sweep on this machine: each configuration in a process of its own that owns its GPUs."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from joulemap.catalog import load_catalog
from joulemap.errors import JoulemapError, UnknownNameError
from joulemap.measure.engines.registry import uses_gpus
from joulemap.measure.meters.choice import MeterOptions, choose_meters
from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.sweep.executors.executor import Room
from joulemap.measure.sweep.job import Ended, Job, State
from joulemap.measure.sweep.measuring import VISIBLE
from joulemap.measure.sweep.spec import Configuration
from joulemap.measure.sweep.worker_process import WorkerProcess

POLL_S = 0.1


class LocalExecutor:
    """This machine.

    Args:
        gpus: GPU model by what ``CUDA_VISIBLE_DEVICES`` calls each of the machine's GPUs; by default those that the
            environment leaves visible.
    """

    place = "this machine"

    def __init__(self, gpus: dict[str, str] | None = None) -> None:
        self._gpus = visible_gpus() if gpus is None else gpus
        self._running: dict[str, WorkerProcess] = {}
        self._owned: dict[str, tuple[str, ...]] = {}
        self._node = socket.gethostname()

    def room(self, configuration: Configuration) -> Room:
        """Say whether enough GPUs of the model are free; an engine on the CPU has the machine for itself."""
        if not uses_gpus(configuration.engine):
            return Room(now=not self._running)
        total = [name for name, model in self._gpus.items() if model == configuration.gpu]
        if len(total) < configuration.count:
            here = ", ".join(sorted(set(self._gpus.values()))) or "no GPU"
            lacking = f"this machine has {len(total)} of the {configuration.count} {configuration.gpu} ({here})"
            return Room(now=False, lacking=lacking, may_come=False)
        return Room(now=len(self._free(configuration)) >= configuration.count)

    def _free(self, configuration: Configuration) -> list[str]:
        taken = {name for names in self._owned.values() for name in names}
        return [n for n, model in self._gpus.items() if model == configuration.gpu and n not in taken]

    def start(self, job: Job) -> None:
        """Begin an attempt."""
        asked = job.configuration
        environment = {}
        key = asked.configuration_id
        if uses_gpus(asked.engine):
            self._owned[key] = tuple(self._free(asked)[: asked.count])
            environment = {VISIBLE: ",".join(self._owned[key])}
        self._running[key] = WorkerProcess(job, self._node, environment)

    def wait(self, timeout_s: float) -> Sequence[Ended]:
        """Return the attempts that have ended, after a while if there are none."""
        until_s = time.monotonic() + timeout_s
        while True:
            done = [key for key, worker in self._running.items() if worker.done()]
            if done or time.monotonic() >= until_s:
                break
            time.sleep(POLL_S)
        ended = []
        for key in done:
            ended.append(self._running.pop(key).ended())
            self._owned.pop(key, None)
        return ended

    def states(self) -> Sequence[State]:
        """Return how the running attempts go on."""
        return [State(configuration_id=k, node=w.node, text=w.text) for k, w in self._running.items()]

    def nodes(self) -> int:
        """Return 1."""
        return 1

    def close(self) -> None:
        """End what still runs."""
        for worker in self._running.values():
            worker.close()
        self._running.clear()


def visible_gpus() -> dict[str, str]:
    """Return the catalog's GPU model of each visible NVIDIA GPU by its UUID; empty where there is none."""
    try:
        choice = choose_meters(("nvidia",), MeterOptions())
    except JoulemapError:
        return {}
    with suppress(JoulemapError):
        devices = [d for meter in choice.meters for d in meter.describe().devices if d.kind is DeviceKind.GPU]
        choice.close()
        return {device.device: _catalog_name(device.name) for device in devices}
    return {}


def _catalog_name(name: str) -> str:
    try:
        return load_catalog().gpu(name).id
    except UnknownNameError:
        return name
