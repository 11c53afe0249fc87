"""An engine's counters, added up over its restarts and over scrapes that failed."""

from __future__ import annotations

from joulemap.measure.telemetry.sample import COUNTERS, TelemetrySample
from joulemap.measure.telemetry.window import ROUNDING

ADDED_UP = ("prompt_tokens", "generation_tokens", "requests_finished", "preemptions")


class EngineCounters:
    """What the engine has counted since the agent began.

    A counter that falls means that the engine was restarted: it then counts from zero. What it had counted between
    the last scrape and its end is lost, so that totals are too low by at most one interval's work a restart.
    """

    def __init__(self) -> None:
        self._last: TelemetrySample | None = None
        self.totals = dict.fromkeys(ADDED_UP, 0.0)
        self.known: set[str] = set()
        """Counters that the engine has told at least twice, so that a total exists."""
        self.restarts = 0

    def add(self, sample: TelemetrySample) -> bool:
        """Take note of a scrape that succeeded; return whether the engine was restarted since the last."""
        last, self._last = self._last, sample
        if last is None:
            return False
        restarted = any(_fell(getattr(last, name), getattr(sample, name)) for name in COUNTERS)
        self.restarts += restarted
        for name in ADDED_UP:
            before, now = getattr(last, name), getattr(sample, name)
            if now is None or before is None:
                continue
            self.known.add(name)
            self.totals[name] += now if restarted else max(0.0, now - before)
        return restarted


def _fell(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now < before * (1.0 - ROUNDING)
