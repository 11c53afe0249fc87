"""An estimate: what is predicted of one configuration, with every part that an explanation needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joulemap.notebook import ShownInNotebooks
from joulemap.records.deployment import Deployment
from joulemap.records.quantity import Quantity
from joulemap.records.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(ShownInNotebooks):
    """The prediction of one configuration."""

    workload: Workload
    deployment: Deployment
    quantities: Mapping[str, Quantity]
    """Outcomes by the names of ``Measured``, and ``throughput_per_watt``."""
    latents: Mapping[str, Quantity]
    """What lies between settings and outcomes: batch size, memory, utilisations, fractions."""
    step_time_s: Mapping[str, float]
    """Parts of the mean step, or for diffusion of a batch; they sum to its time."""
    power_parts_w: Mapping[str, float]
    """Parts of power, all GPUs together; they sum to ``power_w``."""
    energy_parts_j: Mapping[str, float]
    """Parts of energy per output; they sum to ``energy_per_output_j``."""
    assumptions: Mapping[str, str] = field(default_factory=dict)
    """What was assumed because nothing was said of it, by setting."""
    warnings: tuple[str, ...] = ()
    """Where the estimate extrapolates."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "model_id": self.deployment.model_id,
            "gpu_model": self.deployment.gpu_model,
            "num_gpus": self.deployment.num_gpus,
            "weight_precision": self.deployment.weight_precision,
            "task": self.workload.task,
            "quantities": {name: q.to_json() for name, q in self.quantities.items()},
            "latents": {name: q.to_json() for name, q in self.latents.items()},
            "step_time_s": dict(self.step_time_s),
            "power_parts_w": dict(self.power_parts_w),
            "energy_parts_j": dict(self.energy_parts_j),
            "assumptions": dict(self.assumptions),
            "warnings": list(self.warnings),
        }
