"""A job: one configuration with all that a node needs to measure it; and what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import polars as pl

from joulemap.measure.session.level import Pace
from joulemap.measure.sweep.spec import Configuration, Launch, Meters, SweepSpec
from joulemap.records import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that a node needs; it holds no secret."""

    configuration: Configuration
    launch: Launch
    pace: Pace
    window_stated: bool
    meters: Meters
    time_limit_s: float

    def to_line(self) -> str:
        """Return the job as one line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_line(line: str) -> Job:
        """Return a job from its line."""
        told = json.loads(line)
        return Job(
            configuration=Configuration(**_with_tuples(told["configuration"])),
            launch=Launch(**_with_tuples(told["launch"])),
            pace=Pace(**told["pace"]),
            window_stated=told["window_stated"],
            meters=Meters(**_with_tuples(told["meters"])),
            time_limit_s=told["time_limit_s"],
        )


def job_of(spec: SweepSpec, configuration: Configuration) -> Job:
    """Return the job for one of a sweep's configurations."""
    return Job(
        configuration=configuration,
        launch=spec.launch,
        pace=spec.pace,
        window_stated=spec.window_stated,
        meters=spec.meters,
        time_limit_s=spec.time_limit_s,
    )


def _with_tuples(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's fields with tuples for JSON's lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}


class End(StrEnum):
    """How an attempt ended."""

    MEASURED = "measured"
    DOES_NOT_FIT = "does not fit"
    """The engine found too little memory: another attempt would end the same way."""
    REFUSED = "refused"
    """Something in what was asked cannot be had on the node: another attempt would end the same way."""
    FAILED = "failed"
    OUT_OF_TIME = "out of time"
    NODE_LOST = "node lost"
    NO_NODE = "no node"
    """None that could run it was there."""

    @property
    def may_pass(self) -> bool:
        """Whether another attempt may end otherwise."""
        return self not in {End.MEASURED, End.DOES_NOT_FIT, End.REFUSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of an attempt."""

    configuration_id: str
    end: End
    reason: str = ""
    """Why it gave no run."""
    node: str = ""
    """Where it ran."""
    run: Run | None = None
    timelines: Mapping[str, pl.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How an attempt goes on."""

    configuration_id: str
    node: str
    text: str
    """Phase, power and speed in words; empty before anything is known."""
