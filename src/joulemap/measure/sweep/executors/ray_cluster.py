"""Runs a sweep on a Ray cluster: each configuration is an actor that owns its GPUs.

A node offers its GPUs under their model's name as a custom resource (``ray start --resources='{"H100": 8}'``), so
that a configuration is placed on a node that has them. What an actor measures comes back through Ray and is stored
by the driver: nodes need no access to the store, and a node or driver that is killed takes along what was running
there, and nothing else.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from joulemap.errors import EnvironmentLacksError, MissingExtraError
from joulemap.measure.engines.registry import uses_gpus
from joulemap.measure.sweep.executors.executor import Room
from joulemap.measure.sweep.executors.ray_actor import NodeWorker
from joulemap.measure.sweep.job import End, Ended, Job, State
from joulemap.measure.sweep.spec import Configuration

ASK_STATES_EVERY_S = 2.0
LOOK_AT_NODES_EVERY_S = 2.0
CONNECT_WITHIN_S = 10.0
BEGIN_WITHIN_S = 900.0
"""Time in which Ray must have placed an attempt for which there is room."""
SHOWN_WORDS = 300
NAMESPACE = "joulemap"
SETTINGS = {
    # Ray reports how it is used to its makers unless told not to.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under "uv run", Ray would copy the current folder to every node and build an environment of it there; nodes
    # have joulemap installed.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Of Ray's own variables; what the user has set stays."""
CPU, GPU = "CPU", "GPU"
"""What Ray itself calls them."""


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """An actor at work."""

    job: Job
    actor: Any
    result: Any
    """Reference to what it will bring."""
    asked_for_s: float = field(default_factory=time.monotonic)
    asked: Any = None
    """Reference to the state that it was asked for."""
    node: str = ""
    text: str = "waits for its node"


class RayExecutor:
    """A Ray cluster.

    Args:
        address: The head's address, such as ``10.0.0.1:6379``, or ``auto``.

    Raises:
        MissingExtraError: Ray is not installed.
        EnvironmentLacksError: The cluster cannot be reached.
    """

    def __init__(self, address: str) -> None:
        self._ray = _connected(address)
        self.place = address
        self._actor_class: Any = self._ray.remote(NodeWorker)
        self._running: dict[str, _Attempt] = {}
        self._asked_s = 0.0
        self._alive: list[dict[str, Any]] = []
        self._looked_s = -LOOK_AT_NODES_EVERY_S

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that are alive, as of a moment ago."""
        if time.monotonic() - self._looked_s >= LOOK_AT_NODES_EVERY_S:
            self._alive = [node for node in self._ray.nodes() if node["Alive"]]
            self._looked_s = time.monotonic()
        return self._alive

    def room(self, configuration: Configuration) -> Room:
        """Say whether a node has the GPUs, and whether as many are free in the cluster."""
        needs = _resources(configuration)
        able = [n for n in self._nodes() if all(n["Resources"].get(k, 0.0) >= v for k, v in needs.items())]
        if not able:
            what = " and ".join(f"{value:g} {name}" for name, value in needs.items())
            return Room(now=False, lacking=f"no node of {self.place} that is alive offers {what}")
        # Placing is Ray's work: an attempt that must wait a moment for its node does no harm.
        for name, value in needs.items():
            offering = self._nodes() if name == CPU else able
            total = sum(n["Resources"].get(name, 0.0) for n in offering)
            taken = sum(_resources(a.job.configuration).get(name, 0.0) for a in self._running.values())
            if taken + value > total:
                return Room(now=False)
        return Room(now=True)

    def start(self, job: Job) -> None:
        """Begin an attempt."""
        asked = job.configuration
        needs = _resources(asked)
        gpus = float(asked.count) if uses_gpus(asked.engine) else 0.0
        actor = self._actor_class.options(
            num_cpus=needs.pop(CPU),
            num_gpus=gpus,
            resources={name: value for name, value in needs.items() if name != GPU},
            max_restarts=0,
            max_concurrency=2,
        ).remote()
        attempt = _Attempt(job=job, actor=actor, result=actor.measure.remote(job))
        self._running[asked.configuration_id] = attempt

    def wait(self, timeout_s: float) -> Sequence[Ended]:
        """Return the attempts that have ended, after a while if there are none."""
        if not self._running:
            time.sleep(timeout_s)
            return []
        by_reference = {attempt.result: key for key, attempt in self._running.items()}
        ready, _ = self._ray.wait(list(by_reference), num_returns=1, timeout=timeout_s)
        if ready:
            # Those that ended at the same time come along.
            ready, _ = self._ray.wait(list(by_reference), num_returns=len(by_reference), timeout=0)
        return [*(self._collect(by_reference[reference]) for reference in ready), *self._stranded()]

    def _stranded(self) -> list[Ended]:
        """End the attempts that have not begun and will not: Ray would let them wait for ever."""
        ended = []
        for key, attempt in list(self._running.items()):
            if attempt.node:
                continue
            end, reason = End.NODE_LOST, self.room(attempt.job.configuration).lacking
            if not reason and time.monotonic() - attempt.asked_for_s > BEGIN_WITHIN_S:
                end, reason = End.FAILED, f"no node began it within {BEGIN_WITHIN_S:g} s; its workers may not start"
            if reason:
                with suppress(Exception):  # it has never begun
                    self._ray.kill(attempt.actor)
                del self._running[key]
                ended.append(Ended(configuration_id=key, end=end, reason=reason))
        return ended

    def _collect(self, key: str) -> Ended:
        attempt = self._running.pop(key)
        try:
            ended: Ended = self._ray.get(attempt.result)
        except self._ray.exceptions.RayActorError as error:
            where = attempt.node or "the node that it was on"
            reason = f"{where} was lost: {_first_line(error)}"
            ended = Ended(configuration_id=key, end=End.NODE_LOST, reason=reason, node=attempt.node)
            self._looked_s = -LOOK_AT_NODES_EVERY_S
        except self._ray.exceptions.RayError as error:
            reason = f"the actor failed: {_first_line(error)}"
            ended = Ended(configuration_id=key, end=End.FAILED, reason=reason, node=attempt.node)
        with suppress(Exception):  # it may be gone already
            self._ray.kill(attempt.actor)
        return ended

    def states(self) -> Sequence[State]:
        """Return how the running attempts go on, as of a moment ago."""
        ask = time.monotonic() - self._asked_s >= ASK_STATES_EVERY_S
        if ask:
            self._asked_s = time.monotonic()
        for attempt in self._running.values():
            if attempt.asked is not None and self._ray.wait([attempt.asked], timeout=0)[0]:
                # An actor that died meanwhile shows in its result.
                with suppress(self._ray.exceptions.RayError):
                    attempt.node, attempt.text = self._ray.get(attempt.asked)
                attempt.asked = None
            if ask and attempt.asked is None:
                attempt.asked = attempt.actor.state.remote()
        return [State(configuration_id=k, node=a.node, text=a.text) for k, a in self._running.items()]

    def nodes(self) -> int:
        """Return how many nodes are alive."""
        return len(self._nodes())

    def close(self) -> None:
        """End what still runs, and leave the cluster."""
        for attempt in self._running.values():
            with suppress(Exception):  # it may be gone already
                self._ray.kill(attempt.actor)
        self._running.clear()
        self._ray.shutdown()


def _connected(address: str) -> Any:
    """Return Ray, connected to a cluster."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        extra = "ray"
        raise MissingExtraError(extra, "--ray", "ray") from error
    _knock(address)
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        # Ray raises many kinds here, among them plain RuntimeError.
        msg = f"the Ray cluster at {address} cannot be reached: {_first_line(error)}"
        fix = "check 'ray status' there; for a cluster with tokens, export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=…"
        raise EnvironmentLacksError(msg, fix=fix) from error
    return ray


def _knock(address: str) -> None:
    """Make sure that something listens at a plain address; Ray itself would try for minutes.

    Raises:
        EnvironmentLacksError: Nothing does.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        msg = f"the Ray cluster at {address} cannot be reached: {error}"
        raise EnvironmentLacksError(msg, fix="give the head's address, as 'ray start --head' shows it") from error


def _resources(configuration: Configuration) -> dict[str, float]:
    """Return what a configuration takes of a node; its GPUs count as Ray's own and under their model's name."""
    needs = {CPU: 1.0}
    if configuration.gpu is not None:
        needs[configuration.gpu] = float(configuration.count)
    if uses_gpus(configuration.engine):
        needs[GPU] = float(configuration.count)
    return needs


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:SHOWN_WORDS] if lines else type(error).__name__
