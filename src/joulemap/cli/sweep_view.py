"""How a sweep shows itself while it runs: a live table on a terminal, plain lines elsewhere; all on stderr."""

from __future__ import annotations

import time
from collections.abc import Sequence

from joulemap.cli.live import LiveLines
from joulemap.cli.output import figure, note
from joulemap.measure.sweep.conduct import Attempt, SweepResult
from joulemap.measure.sweep.job import State
from joulemap.measure.sweep.spec import Configuration, SweepSpec
from joulemap.records import Run

LINE_EVERY_S = 30.0
"""Time between two summary lines where there is no terminal."""


class SweepView(LiveLines):
    """Shows a sweep's progress over all nodes."""

    def __init__(self, spec: SweepSpec) -> None:
        super().__init__()
        self._words = {c.configuration_id: c.words for c in spec.configurations}
        self._last_s = time.monotonic()

    def begun(self, configuration: Configuration, number: int) -> None:
        """Say that an attempt begins."""
        if self._live is None or number > 1:
            again = f", attempt {number}" if number > 1 else ""
            self.tell(f"begins: {configuration.words}{again}")

    def ended(self, configuration: Configuration, attempt: Attempt, run: Run | None) -> None:
        """Say what an attempt brought."""
        where = f" on {attempt.node}" if attempt.node else ""
        if run is None:
            self.tell(f"{attempt.end}{where}: {configuration.words}: {attempt.reason}")
            return
        told = run.quantity("energy_per_output_j")
        cost = "no output" if told is None else f"{figure(told.value)} {told.unit} ({told.basis})"
        verdict = "valid" if run.validity.valid else f"INVALID: {'; '.join(run.validity.reasons)}"
        self.tell(f"measured{where}: {configuration.words}: {cost}, {verdict}")

    def goes_on(self, result: SweepResult, states: Sequence[State], nodes: int) -> None:
        """Show how far the sweep is, and what runs where."""
        summary = (
            f"{result.name}: {result.measured} of {result.total} measured, {len(result.failures)} without a run, "
            f"{len(states)} running on {nodes} node{'s' if nodes != 1 else ''}"
        )
        lines = [f"  {s.node or '…'}: {self._words[s.configuration_id]}: {s.text}" for s in states]
        if not self.show("\n".join([summary, *lines])) and time.monotonic() - self._last_s >= LINE_EVERY_S:
            self._last_s = time.monotonic()
            note("\n".join([summary, *lines]))
