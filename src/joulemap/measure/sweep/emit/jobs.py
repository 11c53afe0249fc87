"""What the schedulers' files have in common: configurations that need the same GPUs make one array of jobs."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from joulemap.measure.engines.registry import uses_gpus
from joulemap.measure.sweep.spec import Configuration, SweepSpec

START_AND_END_S = 300.0
"""Time beyond the attempts' own limits, for the job to begin and end."""
LARGEST_ARRAY = 1000
"""Jobs of one array; Slurm's default limit is 1,001."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArray:
    """Configurations that need the same GPUs."""

    name: str
    gpu: str | None
    count: int
    """GPUs of one job; 0 for an engine on the CPU."""
    configurations: tuple[Configuration, ...]
    limit_s: float
    """Longest time of one job, all its attempts together."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The configurations' ids, in the order of the array."""
        return tuple(c.configuration_id for c in self.configurations)


def job_arrays(spec: SweepSpec, only: Collection[str] = ()) -> list[JobArray]:
    """Return a sweep's arrays, in the order of the grid.

    Args:
        spec: The sweep.
        only: Ids of the configurations to keep to; all by default.
    """
    groups: dict[tuple[str | None, int], list[Configuration]] = {}
    for configuration in spec.configurations:
        if not only or configuration.configuration_id in only:
            groups.setdefault((configuration.gpu, configuration.count), []).append(configuration)
    made = []
    for (gpu, count), members in groups.items():
        pieces = [members[i : i + LARGEST_ARRAY] for i in range(0, len(members), LARGEST_ARRAY)]
        for number, piece in enumerate(pieces, start=1):
            where = "cpu" if gpu is None else f"{gpu}-x{count}"
            part = f"-{number}" if len(pieces) > 1 else ""
            made.append(
                JobArray(
                    name=plain(f"{spec.name}-{where}{part}"),
                    gpu=gpu,
                    count=count if uses_gpus(spec.launch.engine) else 0,
                    configurations=tuple(piece),
                    limit_s=spec.time_limit_s * (spec.retries + 1) + START_AND_END_S,
                )
            )
    return made


def plain(text: str) -> str:
    """Return a text as a name that schedulers take: lower-case letters, digits and hyphens, 63 at most.

    >>> plain("My_sweep-H100-x2")
    'my-sweep-h100-x2'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:63].rstrip("-")


def sweep_words(file: str, store: str | None) -> Sequence[str]:
    """Return the command that measures some of a sweep's configurations, without the word that says which."""
    return ["joulemap", "sweep", file, *(["--store", store] if store else []), "--only"]
