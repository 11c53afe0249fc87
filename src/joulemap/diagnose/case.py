"""One run with everything that findings may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joulemap.diagnose.diagnosis import Bound, Change, Part
from joulemap.diagnose.neighbours import nearest_in_batch
from joulemap.diagnose.series import Series
from joulemap.records import Quantity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A run, its latents and ledger, its measured neighbours, and what the model says of alternatives."""

    row: Mapping[str, Any]
    """The run table's row, with ``base_model``, ``batch_ceiling``, ``pixels`` and ``work``."""
    latents: Mapping[str, Quantity]
    shares: Mapping[Part, float]
    """Each part of the ledger over the total."""
    bound_by: Bound | None
    """``None`` where nothing shows it."""
    batch_holder: Bound | None
    """What keeps the batch from growing, whether or not that binds."""
    gain_ratio: Mapping[Bound, float]
    """Energy now over energy with each limit relieved twofold."""
    batch_gain_ratio: float
    """Energy now over energy at twice the batch, whatever holds it."""
    changes: Mapping[str, Change]
    """Predicted change of each alternative that this run has, by the finding's name."""
    power_ratio: float | None = None
    """Measured power over what the model expects of the work that was done; ``None`` where it knows nothing."""
    power_deviation: float = 0.0
    """Standard deviation (logarithm) of what it expects."""
    series: Series | None = None
    """The measured runs that differ only in batch; ``None`` for a configuration that nobody ran."""
    siblings: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    """Measured batch curves that differ from this run's in one knob: ``precision``, ``num_gpus``, ``gpu_model``,
    ``model``."""

    def beside(self, knob: str) -> list[Mapping[str, Any]]:
        """Return measured runs at about this batch that differ in one knob alone, the least energy first."""
        near = [nearest_in_batch(series, self.row) for series in self.siblings.get(knob, ())]
        return sorted(
            (r for r in near if r is not None and r["energy_per_output_j"]),
            key=lambda r: float(r["energy_per_output_j"]),
        )

    def latent(self, name: str) -> float | None:
        """Return a latent's value, ``None`` where there is none."""
        quantity = self.latents.get(name)
        return None if quantity is None else quantity.value

    @property
    def energy_j(self) -> float:
        """Joules per output."""
        return float(self.row["energy_per_output_j"])

    @property
    def is_token(self) -> bool:
        """Whether the run's output is text."""
        return bool(self.row["output_unit"] == "token")

    @property
    def batch(self) -> float:
        """The achieved batch."""
        return float(self.row["batch_size"])
