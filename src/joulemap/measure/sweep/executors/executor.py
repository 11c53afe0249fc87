"""What a sweep asks of the place where its configurations run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from joulemap.measure.sweep.job import Ended, Job, State
from joulemap.measure.sweep.spec import Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Whether a configuration could begin."""

    now: bool
    lacking: str = ""
    """What no node has, where waiting for running ones to end would not help."""
    may_come: bool = True
    """Whether a node that has it may yet join."""


class Executor(Protocol):
    """Runs jobs; one at a time on any GPU."""

    place: str
    """What to call it: ``this machine``, or a cluster's address."""

    def room(self, configuration: Configuration) -> Room:
        """Say whether a configuration could begin now, later, or not at all as things stand."""
        ...

    def start(self, job: Job) -> None:
        """Begin an attempt, for which there is room.

        Raises:
            JoulemapError: The executor itself has failed.
        """
        ...

    def wait(self, timeout_s: float) -> Sequence[Ended]:
        """Return the attempts that have ended since the last call, after a while if there are none.

        Raises:
            JoulemapError: The executor itself has failed.
        """
        ...

    def states(self) -> Sequence[State]:
        """Return how the running attempts go on."""
        ...

    def nodes(self) -> int:
        """Return how many machines take part."""
        ...

    def close(self) -> None:
        """End what still runs, and wait until it is gone."""
        ...
