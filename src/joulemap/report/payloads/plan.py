"""Everything that a report on a plan rests on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joulemap.plan.fleet import FleetPlan, plan_fleet
from joulemap.plan.plan_file import read_plan
from joulemap.plan.simulate.simulate import Simulation, simulate_plan
from joulemap.store.run_store import RunStore


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanPayload:
    """A planned fleet and, where it was asked for, requests replayed through it."""

    name: str
    """The plan file's name."""
    plan: FleetPlan
    simulation: Simulation | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "plan": self.plan.to_json(),
            "simulation": None if self.simulation is None else self.simulation.to_json(),
        }


def plan_payload(file: Path, *, store: RunStore, simulate: bool = False) -> PlanPayload:
    """Compute what a report on a plan file rests on; errors as of ``joulemap.read_plan`` and ``plan_fleet``.

    Args:
        file: The plan file (TOML).
        store: The run store.
        simulate: Replay Poisson arrivals through the planned fleet too.
    """
    spec = read_plan(file)
    plan = plan_fleet(spec, store.non_empty_frame(), marginals=not simulate)
    done = simulate_plan(spec, plan) if simulate else None
    return PlanPayload(name=file.name, plan=plan, simulation=done)
