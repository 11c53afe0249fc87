"""The answer to "why does A cost more than B?": factors that multiply to the measured ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from joulemap.notebook import ShownInNotebooks
from joulemap.records import Basis

PRODUCT_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One factor of an explanation."""

    name: str
    """The quantity or knob, for example ``"output_tokens"``."""
    cause: str
    """What made the factor, with the values on both sides."""
    ratio: float
    """How many times A's energy is multiplied by this cause."""
    basis: Basis
    evidence: tuple[str, ...]
    """Ids of the runs that the ratio was read from."""
    low: float | None = None
    """Lower end of the ratio's 90 % interval; ``None`` where repeated measurements are too few to tell."""
    high: float | None = None
    parts: dict[str, float] = field(default_factory=dict)
    """The ratio split into power and time per output, where both are known: their product is the ratio."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "cause": self.cause,
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            "basis": self.basis.value,
            "evidence": list(self.evidence),
            "parts": self.parts,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation(ShownInNotebooks):
    """Why one run's quantity is a multiple of another's.

    Raises:
        ArithmeticError: The factors and the unexplained rest do not multiply to the measured ratio.
    """

    a: str
    """Id of the run to explain."""
    b: str
    """Id of the run to compare with."""
    a_label: str
    b_label: str
    quantity: str
    """The column compared, for example ``"energy_per_request_j"``."""
    unit: str
    a_value: float
    b_value: float
    ratio: float
    """The measured value of A over that of B."""
    factors: tuple[Factor, ...]
    unexplained_ratio: float
    """What no cause explains."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        product = math.prod(f.ratio for f in self.factors) * self.unexplained_ratio
        if not math.isclose(product, self.ratio, rel_tol=PRODUCT_TOLERANCE):
            msg = f"the factors multiply to {product!r}, but {self.ratio!r} was measured"
            raise ArithmeticError(msg)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "a": self.a,
            "b": self.b,
            "a_label": self.a_label,
            "b_label": self.b_label,
            "quantity": self.quantity,
            "unit": self.unit,
            "a_value": self.a_value,
            "b_value": self.b_value,
            "ratio": self.ratio,
            "factors": [factor.to_json() for factor in self.factors],
            "unexplained_ratio": self.unexplained_ratio,
            "notes": list(self.notes),
        }
