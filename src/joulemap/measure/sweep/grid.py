"""The grid of a sweep: every combination of what is varied, less what is excluded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from joulemap.measure.sweep.spec import Configuration

Make = Callable[[str, str, str | None, int, str | None, int], Configuration]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What is varied, each axis in the order in which it is run through, the last one fastest."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    gpus: tuple[str | None, ...]
    counts: tuple[int, ...]
    precisions: tuple[str | None, ...]
    batches: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Points that are excluded: those that match every axis on which something is stated."""

    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()

    def matches(self, point: Sequence[object]) -> bool:
        """Say whether a point (in the order of the axes) is excluded."""
        stated = [getattr(self, f.name) for f in fields(self)]
        return all(value in wanted for value, wanted in zip(point, stated, strict=True) if wanted)


def expand(
    grid: Grid, rules: Sequence[Rule], overrides: Mapping[str, Mapping[str, Any]], make: Make
) -> tuple[tuple[Configuration, ...], int]:
    """Return the configurations of a grid, each once, and how many points were excluded.

    Args:
        grid: What is varied.
        rules: What is left out.
        overrides: Other values of some axes, by model.
        make: Makes a configuration of a point.

    Raises:
        ValueError: Nothing is left.
    """
    made: dict[str, Configuration] = {}
    excluded = 0
    for model in grid.models:
        own = replace(grid, models=(model,), **overrides.get(model, {}))
        for point in itertools.product(*(getattr(own, f.name) for f in fields(own))):
            if any(rule.matches(point) for rule in rules):
                excluded += 1
                continue
            configuration = make(*point)
            made.setdefault(configuration.configuration_id, configuration)
    if not made:
        msg = f"at least one point; all {excluded} are excluded"
        raise ValueError(msg)
    return tuple(made.values()), excluded
