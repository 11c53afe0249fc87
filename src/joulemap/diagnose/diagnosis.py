"""What a diagnosis is: latents, a ledger of joules, the distance to the ideal, the bound, and findings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from joulemap.notebook import ShownInNotebooks
from joulemap.records import Basis, Quantity

LEDGER_TOLERANCE = 1e-9


class Part(StrEnum):
    """Where joules can go; the parts of a ledger."""

    STATIC_WORKING = "static_working"
    """Static power (leakage, memory refresh, idle units) while the GPU worked."""
    STATIC_STARVED = "static_starved"
    """Static power while the GPU waited: for the host, for launches, for other GPUs, for requests."""
    WEIGHT_TRAFFIC = "weight_traffic"
    """Reading weights from GPU memory."""
    KV_TRAFFIC = "kv_traffic"
    """Reading and writing the KV cache, and recurrent states."""
    COMPUTE = "compute"
    """Arithmetic of decoding, or of denoising."""
    COMMUNICATION = "communication"
    """Moving activations between GPUs."""
    DYNAMIC = "dynamic"
    """Traffic, arithmetic and communication together, where nothing tells them apart."""
    PREFILL = "prefill"
    """Everything dynamic that reading the prompt costs, encoders included."""
    UNEXPLAINED = "unexplained"
    """What the parts above do not account for."""


class Bound(StrEnum):
    """What holds a configuration back."""

    MEMORY_CAPACITY = "memory-capacity"
    MEMORY_BANDWIDTH = "memory-bandwidth"
    COMPUTE = "compute"
    COMMUNICATION = "communication"
    HOST = "host"
    APPLICATION_LIMIT = "application-limit"
    UNDER_FILLED = "under-filled"
    IMBALANCE = "imbalance"
    LAUNCH_OVERHEAD = "launch-overhead"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPart:
    """One part of a ledger, in joules per output."""

    part: Part
    joules_per_output: float
    low: float
    """Lower end of the 90 % interval."""
    high: float
    basis: Basis

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "part": self.part.value,
            "joules_per_output": self.joules_per_output,
            "low": self.low,
            "high": self.high,
            "basis": self.basis.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AboveIdeal:
    """One factor of the distance between a run and the best that its hardware could do."""

    name: str
    ratio: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"name": self.name, "ratio": self.ratio}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What pulling a lever is predicted to do: ratios of new to old, with 90 % intervals."""

    energy_ratio: float | None = None
    energy_ratio_min: float | None = None
    energy_ratio_max: float | None = None
    latency_ratio: float | None = None
    """Of the inter-token latency; for diffusion, of the batch latency."""
    throughput_ratio: float | None = None
    basis: Basis = Basis.MODELLED

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "energy_per_output_ratio": self.energy_ratio,
            "low": self.energy_ratio_min,
            "high": self.energy_ratio_max,
            "latency_ratio": self.latency_ratio,
            "throughput_ratio": self.throughput_ratio,
            "basis": self.basis.value,
        }


class FindingKind(StrEnum):
    """Whether a finding doubts the measurement, is a defect of how work is served, or a choice somebody made."""

    MEASUREMENT = "measurement"
    DEFECT = "defect"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A cause that was found, what shows it, what to do about it and what that would buy."""

    name: str
    """The finding's name, which is that of its file."""
    cause: str
    evidence: tuple[str, ...]
    """Numbers, and the ids of the runs that show them."""
    lever: str
    """What to change; empty where nothing should be."""
    change: Change
    confidence: float
    """Between 0 and 1: how sure it is that this cause, not another, is at work."""
    weight: float
    """Logarithm of the energy at stake; findings are ordered by it times the confidence."""
    falsified_by: str
    """What observation would show the finding to be wrong."""
    kind: FindingKind = FindingKind.DEFECT
    """A ceiling, a number of steps or a context length is set by those who know why; a defect is not."""
    shows: Bound | None = None
    """The bound whose cause this is; where that binds, it comes before other defects."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "cause": self.cause,
            "evidence": list(self.evidence),
            "lever": self.lever,
            "change": self.change.to_json(),
            "confidence": self.confidence,
            "falsified_by": self.falsified_by,
            "kind": self.kind.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis(ShownInNotebooks):
    """Where a run's joules went, what bound it, and what to change.

    Raises:
        ArithmeticError: The parts do not sum to the total, a part is negative, or the factors above the ideal do
            not multiply to the distance.
    """

    run_id: str | None
    """``None`` for a configuration that nobody ran."""
    label: str
    output_unit: str
    latents: dict[str, Quantity]
    missing_latents: dict[str, str]
    """Reason why a latent is not there."""
    ledger: tuple[LedgerPart, ...]
    total_j_per_output: float
    total_basis: Basis
    ideal_j_per_output: float
    above_ideal: tuple[AboveIdeal, ...]
    """Factors whose product is ``total_j_per_output / ideal_j_per_output``."""
    bound_by: Bound | None
    """``None`` where nothing shows it; a note then says so."""
    bound_margin: float
    """How many times more a twofold relief of this bound saves than one of the next; 1 is a tie."""
    next_bound: Bound | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        total = math.fsum(part.joules_per_output for part in self.ledger)
        if not math.isclose(total, self.total_j_per_output, rel_tol=LEDGER_TOLERANCE):
            msg = f"the ledger of {self.run_id} sums to {total!r} J, not to {self.total_j_per_output!r} J"
            raise ArithmeticError(msg)
        if any(part.joules_per_output < 0 for part in self.ledger):
            msg = f"the ledger of {self.run_id} has a negative part"
            raise ArithmeticError(msg)
        distance = math.prod(factor.ratio for factor in self.above_ideal) * self.ideal_j_per_output
        if not math.isclose(distance, self.total_j_per_output, rel_tol=LEDGER_TOLERANCE):
            msg = f"the factors above the ideal of {self.run_id} do not multiply to the distance"
            raise ArithmeticError(msg)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "run_id": self.run_id,
            "label": self.label,
            "latents": {
                **{name: quantity.to_json() for name, quantity in self.latents.items()},
                **{name: {"value": None, "note": reason} for name, reason in self.missing_latents.items()},
            },
            "ledger": [part.to_json() for part in self.ledger],
            "total_j_per_output": self.total_j_per_output,
            "total_basis": self.total_basis.value,
            "unit": f"J/{self.output_unit}",
            "ideal_j_per_output": self.ideal_j_per_output,
            "above_ideal": [factor.to_json() for factor in self.above_ideal],
            "bound_by": self.bound_by.value if self.bound_by else None,
            "bound_margin": self.bound_margin,
            "next_bound": self.next_bound.value if self.next_bound else None,
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
        }
