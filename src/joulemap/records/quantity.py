"""A number with its unit, its interval and its basis: what every figure shown to a user is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Basis(StrEnum):
    """Where a number comes from, strongest first."""

    MEASURED = "measured"
    """Read off a meter, a counter or a clock."""
    INTERPOLATED = "interpolated"
    """Between measured neighbours."""
    MODELLED = "modelled"
    """From physics calibrated on measurements."""
    ASSUMED = "assumed"
    """A datasheet's figure, or a guess."""


_STRENGTH = {basis: rank for rank, basis in enumerate(Basis)}


def weakest(*bases: Basis) -> Basis:
    """Return the weakest of the given bases: what a sum or product of such parts may claim.

    >>> weakest(Basis.MEASURED, Basis.MODELLED)
    <Basis.MODELLED: 'modelled'>
    """
    return max(bases, key=_STRENGTH.__getitem__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A value with unit, basis and, where one is known, a 90 % interval.

    Raises:
        ValueError: The value is not finite, or the interval does not contain it.
    """

    value: float
    unit: str
    """The unit as written in ``docs/nomenclature.md``, for example ``"J/token"``."""
    basis: Basis
    low: float | None = None
    """Lower end of the 90 % interval; ``None`` where none is known."""
    high: float | None = None
    """Upper end of the 90 % interval; ``None`` where none is known."""
    note: str = ""
    """Why there is no interval, or anything else that a reader must know."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            msg = f"a quantity must be finite, not {self.value!r} {self.unit}"
            raise ValueError(msg)
        if (self.low is None) != (self.high is None):
            msg = "an interval has both ends or none"
            raise ValueError(msg)
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            msg = f"the interval [{self.low!r}, {self.high!r}] does not contain the value {self.value!r}"
            raise ValueError(msg)

    def to_json(self) -> dict[str, float | str | None]:
        """Return the JSON form: ``{"value", "unit", "low", "high", "basis", "note"}``."""
        return {
            "value": self.value,
            "unit": self.unit,
            "low": self.low,
            "high": self.high,
            "basis": self.basis.value,
            "note": self.note,
        }
