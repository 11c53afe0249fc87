"""What is common to all that can be measured: baselines around the start of the engine, then level after level."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from joulemap.clock import Clock, SystemClock
from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.journal import Journal
from joulemap.measure.session.level import Pace
from joulemap.measure.session.opening import MeterRequest, instruments
from joulemap.measure.session.recording import Baselines
from joulemap.measure.session.session import Level, Observer, Session, SessionResult
from joulemap.store.run_store import RunStore

GPU_IDLE_S = 3.0
"""Time over which a GPU's power without work is measured."""
CPU_IDLE_S = 1.0
GPU_WINDOW_S = 5.0
"""Shortest window for a GPU, whose energy counter is brought up to date every 20–100 ms."""
CPU_WINDOW_S = 1.0


class Campaign(Protocol):
    """Something to measure: a server, an engine started for the purpose, a model in this process."""

    starts_engine: bool
    """Whether nothing of the engine runs before ``start``, so that bare idle can be measured."""

    def meter_request(self, request: MeterRequest) -> MeterRequest:
        """Return the meters' request, narrowed to the devices that will do the work."""
        ...

    def start(self, instruments: Instruments, tell: Callable[[str], None]) -> None:
        """Start the engine, or make sure that it answers.

        Raises:
            JoulemapError: It does not.
        """
        ...

    def levels(self, instruments: Instruments) -> Sequence[Level]:
        """Return what is to be measured."""
        ...

    def close(self) -> None:
        """Stop what ``start`` started; a second call does nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """How to conduct a campaign."""

    store: RunStore
    pace: Pace
    meters: MeterRequest
    journal: Journal
    window_stated: bool
    """Whether the user stated the windows' length; otherwise it follows from the devices."""
    skip: Collection[str] = ()
    """Levels that are in the store already."""
    clock: Clock | None = None


def conduct(
    campaign: Campaign,
    orders: Orders,
    make_observer: Callable[[Instruments], Observer],
    tell: Callable[[str], None],
) -> SessionResult:
    """Measure a campaign from bare idle to its last level.

    Raises:
        JoulemapError: A meter or the engine cannot be started, or the store cannot be written.
    """
    clock = orders.clock or SystemClock()
    request = campaign.meter_request(orders.meters)
    with instruments(request, clock=clock) as (watching, explanation):
        for line in explanation:
            tell(f"meter {line}")
        observer = make_observer(watching)
        pace = orders.pace if orders.window_stated else replace(orders.pace, window_s=_window_s(watching))
        session = Session(orders.store, watching, pace, observer, orders.journal, clock=clock)
        idle_s = GPU_IDLE_S if watching.work_kind is DeviceKind.GPU else CPU_IDLE_S
        try:
            idle = session.baseline_power_w(idle_s) if campaign.starts_engine else None
            campaign.start(watching, tell)
            loaded = session.baseline_power_w(idle_s)
            levels = [level for level in campaign.levels(watching) if level.name not in orders.skip]
            return session.measure(levels, Baselines(idle_power_w=idle, loaded_idle_power_w=loaded))
        finally:
            campaign.close()


def _window_s(watching: Instruments) -> float:
    return GPU_WINDOW_S if watching.work_kind is DeviceKind.GPU else CPU_WINDOW_S
