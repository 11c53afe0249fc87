"""The rolling diagnosis: made anew when the server has moved, and shown as watts that sum to its power."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Diagnosis, Part
from joulemap.diagnose.series import Curves
from joulemap.errors import JoulemapError
from joulemap.records import Basis, Deployment, Quantity, Run, weakest
from joulemap.store.schema import empty_frame, runs_to_frame
from joulemap.watch.operating_point import moved
from joulemap.watch.settings import WatchSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPower:
    """Where the watts go now: the parts sum to the power."""

    parts_w: Mapping[Part, float]
    basis: Basis


class RollingDiagnosis:
    """Keeps the newest diagnosis.

    Args:
        settings: How often.
        curves: Measured neighbours, usually of the store; none by default.
    """

    def __init__(self, settings: WatchSettings, curves: Curves | None = None) -> None:
        self._settings = settings
        self._curves = curves
        self._signature: tuple[float, ...] = ()
        self._deployment: Deployment | None = None
        self.diagnosis: Diagnosis | None = None
        self.made_s: float | None = None
        self.missing = "not enough was measured yet"
        """Why there is no diagnosis."""

    def due(self, now_s: float, signature: tuple[float, ...], deployment: Deployment) -> bool:
        """Return whether a diagnosis is worth its cost; one of another deployment is void."""
        if self.made_s is None or deployment != self._deployment:
            return True
        since_s = now_s - self.made_s
        changed = self.diagnosis is None or moved(self._signature, signature)
        return since_s >= (self._settings.diagnose_s if changed else self._settings.rediagnose_s)

    def make(self, run: Run, signature: tuple[float, ...], now_s: float) -> None:
        """Diagnose the server as it runs."""
        self.made_s, self._signature, self._deployment = now_s, signature, run.deployment
        measured_at = run.provenance.measured_at
        assert measured_at is not None
        if self._curves is None:
            self._curves = Curves(empty_frame())
        try:
            (self.diagnosis,) = diagnose_frame(runs_to_frame([run], stored_at=measured_at), curves=self._curves)
            self.missing = ""
        except (JoulemapError, ArithmeticError, ValueError) as error:
            # A server in a state that no model describes must not end the measuring.
            self.diagnosis, self.missing = None, f"no diagnosis: {str(error).splitlines()[0]}"

    def drop(self, reason: str) -> None:
        """Forget the diagnosis: it no longer describes the server."""
        self.diagnosis, self.made_s, self.missing = None, None, reason

    def ledger(self, power: Quantity | None, *, idle: bool) -> LedgerPower | None:
        """Return the ledger in watts; ``None`` where it is not known.

        Args:
            power: The mean power now.
            idle: Whether no request was under way.
        """
        if power is None:
            return None
        if idle:
            return LedgerPower(parts_w={Part.STATIC_STARVED: power.value}, basis=power.basis)
        if self.diagnosis is None:
            return None
        total = self.diagnosis.total_j_per_output
        parts = {p.part: power.value * p.joules_per_output / total for p in self.diagnosis.ledger}
        return LedgerPower(parts_w=parts, basis=weakest(power.basis, *(p.basis for p in self.diagnosis.ledger)))
