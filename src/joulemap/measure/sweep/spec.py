"""A sweep as it was asked for: which configurations, how they are launched, how long each may take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from joulemap.measure.session.level import Pace

ID_LENGTH = 12
"""Hexadecimal digits of a configuration's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One point of a sweep: a model at a task on GPUs, at one batch."""

    model: str
    """The model as the catalog and the runs name it."""
    served: str
    """What the engine loads: an id or a path."""
    task: str
    gpu: str | None
    """GPU model; ``None`` for an engine on the CPU."""
    count: int
    """GPUs, over which each layer is split."""
    precision: str | None
    """Precision of the weights; ``None`` leaves it to the model."""
    batch: int
    """Requests kept in flight, and the engine's batch ceiling."""
    engine: str
    expert_parallel: bool = False
    image: str | None = None
    """The container's image, whose engine it is; ``None`` for a process."""
    arguments: tuple[str, ...] = ()
    """Further words for the engine's command."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for the engine."""
    input_tokens: int | None = None
    """Prompt length; ``None`` leaves it to the task."""
    output_tokens: int | None = None

    @property
    def configuration_id(self) -> str:
        """The hash of every field: what is asked again is the same configuration, whatever file asks it."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]

    @property
    def words(self) -> str:
        """What people call it."""
        where = "CPU" if self.gpu is None else f"{self.count}x {self.gpu}"
        precision = f" · {self.precision}" if self.precision else ""
        return f"{self.model} · {self.task} · {where}{precision} · batch {self.batch}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"configuration_id": self.configuration_id, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a configuration's engine is started."""

    engine: str
    how: Literal["process", "container"] = "process"
    command: tuple[str, ...] = ()
    """Words of the command for the engine ``command``, with placeholders such as ``{port}``."""
    image: str | None = None
    runtime: str = "docker"
    """The program that runs containers: docker or podman."""
    mounts: tuple[str, ...] = ()
    """Folders for the container, as ``HOST:CONTAINER[:ro]``."""
    pass_environment: tuple[str, ...] = ()
    """Variables whose values come from the node's environment and are written nowhere."""
    max_model_len: int | None = None
    ready_within_s: float = 1800.0
    """Time for the engine to load the model and answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meters:
    """Which meters measure; empty means those that the node has."""

    names: tuple[str, ...] = ()
    tdp_w: float | None = None
    dcgm_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """When an adaptive sweep has seen enough."""

    regret_fraction: float = 0.013
    """Expected excess of energy along a frontier below which nothing more is measured for it."""
    budget_fraction: float = 1.0
    """Share of the grid that may be measured at most."""
    saturation_fraction: float = 0.02
    """Gain of throughput from one batch to the next below which larger ones are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """A sweep."""

    name: str
    configurations: tuple[Configuration, ...]
    excluded: int
    """Points of the grid that the file excludes."""
    launch: Launch
    pace: Pace
    window_stated: bool
    """Whether the windows' length was stated; otherwise it follows from the devices."""
    meters: Meters = field(default_factory=Meters)
    time_limit_s: float = 3600.0
    """Longest time for one attempt, from the start of the engine to the end of the measurement."""
    retries: int = 1
    """Further attempts at a configuration that failed for a reason that may pass."""
    wait_for_nodes_s: float = 300.0
    """Time for which a configuration waits for a node that could run it."""
    adaptive: Adaptive | None = None
