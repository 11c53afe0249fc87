"""Everything that a report on two runs rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from joulemap.diagnose.diagnosis import Diagnosis
from joulemap.diagnose.explain import explain_rows
from joulemap.diagnose.explanation import Explanation
from joulemap.diagnose.series import Curves
from joulemap.report.payloads.run import run_payload
from joulemap.store.run_store import RunStore
from joulemap.store.selector import find_run


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationPayload:
    """Why A costs more than B, and where the joules of each went."""

    explanation: Explanation
    diagnoses: tuple[Diagnosis | None, Diagnosis | None]
    """Of A and of B; ``None`` where a run has no energy per output."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "explanation": self.explanation.to_json(),
            "diagnoses": [None if d is None else d.to_json() for d in self.diagnoses],
        }


def explanation_payload(
    a: str, b: str, *, store: RunStore, quantity: str | None = None, measured_only: bool = False
) -> ExplanationPayload:
    """Compute what a report on two runs rests on.

    Args:
        a: The run to explain, an id or a selector.
        b: The run to compare with, likewise.
        store: The run store.
        quantity: What to compare; energy per response by default.
        measured_only: Let no model take part.

    Raises:
        UsageError: The runs have no such quantity in common.
        SelectorError: A selector matches no run, or several.
    """
    row_a, row_b = find_run(store, a), find_run(store, b)
    curves = Curves(store.non_empty_frame())
    return ExplanationPayload(
        explanation=explain_rows(row_a, row_b, curves=curves, quantity=quantity, measured_only=measured_only),
        diagnoses=(
            run_payload(row_a, store=store, curves=curves).diagnosis,
            run_payload(row_b, store=store, curves=curves).diagnosis,
        ),
    )
