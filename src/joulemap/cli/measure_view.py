"""How a measurement shows itself while it runs: a live line on a terminal, plain lines elsewhere; all on stderr."""

from __future__ import annotations

import time

from joulemap.cli.live import LiveLines
from joulemap.cli.output import figure, note
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.level import LevelState
from joulemap.records import Basis, Run

LINE_EVERY_S = 5.0
"""Time between two plain lines where there is no terminal."""


class View(LiveLines):
    """Shows a session's progress."""

    def __init__(self) -> None:
        super().__init__()
        self._unit = "output"
        self._mark = ""
        self._instruments: Instruments | None = None
        self._last_s = 0.0

    def watching(self, instruments: Instruments) -> View:
        """Take note of the instruments, and return itself."""
        self._instruments = instruments
        self._mark = "" if instruments.basis is Basis.MEASURED else f" ({instruments.basis})"
        return self

    def level_begins(self, name: str, unit: str) -> None:
        """Say that a level begins."""
        self._unit = unit
        self._last_s = time.monotonic()
        if self._live is None:
            note(f"{name}: begins")

    def state(self, name: str, state: LevelState) -> None:
        """Show how a level goes on."""
        line = self._line(name, state)
        if not self.show(line) and time.monotonic() - self._last_s >= LINE_EVERY_S:
            self._last_s = time.monotonic()
            note(line)

    def _line(self, name: str, state: LevelState) -> str:
        parts = [
            f"{name}: {state.phase}, {state.elapsed_s:.0f} s",
            f"{figure(state.power_w)} W{self._mark}",
            f"{figure(state.output_throughput_per_s)} {self._unit}/s",
            f"{state.in_flight:.0f} in flight",
        ]
        told = state.estimate
        if told is not None and told.energy_per_output_j is not None:
            width = told.half_width_fraction
            spread = "" if width is None else f" ±{width:.1%}"
            parts.append(f"{figure(told.energy_per_output_j.value)} J/{self._unit}{self._mark}{spread}")
        if (used := self._kv_cache()) is not None:
            parts.append(f"KV cache {used:.0%}")
        return " · ".join(parts)

    def _kv_cache(self) -> float | None:
        """Return the share of the KV cache that the engine uses, ``None`` where it does not tell."""
        return None if self._instruments is None else self._instruments.kv_cache_utilization()

    def level_ends(self, name: str, run: Run | None, why: str) -> None:
        """Say what became of a level."""
        if run is None:
            self.tell(f"{name}: no run: {why}")
            return
        told = run.quantity("energy_per_output_j")
        cost = "no output" if told is None else f"{figure(told.value)} {told.unit}{self._mark}"
        verdict = "valid" if run.validity.valid else "INVALID: " + "; ".join(run.validity.reasons)
        self.tell(f"{name}: {cost}, {figure(run.measured.power_w)} W{self._mark}, {verdict}")
