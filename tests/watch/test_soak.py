"""A day of watching, compressed by a clock moved by hand: memory stays flat, and no joule goes astray."""

from __future__ import annotations

import gc
import math
import os
import random

import psutil
import pytest

from joulemap.errors import ServerError
from joulemap.units import S_PER_DAY, S_PER_HOUR
from joulemap.watch.settings import WatchSettings
from tests.watch.conftest import MakeRig
from tests.watch.rig import Request, Rig

STEP_S = 20.0
TENANTS = 150
GROWTH_BYTES = 6e6
"""Of the process, over a day less its first hours: allocators keep some of what they were given back."""
GROWTH_OBJECTS = 1000
"""Likewise of Python's objects; an agent that kept its scrapes would have 2,400 more."""


def a_day(seed: int = 3) -> list[Request]:
    """Busy by day, nobody from 2 to 5 o'clock; more tenants than have accounts of their own."""
    chance = random.Random(seed)
    requests = []
    t = 0.0
    while t < S_PER_DAY - 600:
        hour = t / S_PER_HOUR
        if 2.0 <= hour < 5.0:
            t = 5.0 * S_PER_HOUR
        t += chance.expovariate(1 / (15.0 if 8.0 <= hour < 20.0 else 60.0))
        first = t + chance.uniform(0.05, 3.0)
        prompt = chance.randint(10, 8000)
        requests.append(
            Request(
                begin_s=t,
                first_s=first,
                end_s=first + chance.uniform(1.0, 90.0),
                prompt_tokens=prompt,
                cached_tokens=chance.choice([0, prompt // 2]),
                output_tokens=chance.randint(1, 4000),
                tenant=f"tenant {int(chance.paretovariate(0.7)) % TENANTS}",
                route=chance.choice(["/chat", "/complete"]),
            )
        )
    return requests


def counter_j(rig: Rig) -> float:
    """The GPU's own energy counter."""
    return float(rig.nvml.nvmlDeviceGetTotalEnergyConsumption(rig.gpu)) / 1e3


def memory_bytes() -> int:
    gc.collect()
    return int(psutil.Process(os.getpid()).memory_info().rss)


def test_a_day_of_watching_is_billed_to_the_joule_in_flat_memory(make_rig: MakeRig) -> None:
    rig = make_rig(
        a_day(),
        settings=WatchSettings(
            interval_s=60.0,
            rolling_s=180.0,
            settle_s=300.0,
            max_accounts=40,
            diagnose_s=7200.0,
            rediagnose_s=7200.0,
        ),
        power=lambda t: 90.0 + 300.0 * abs(math.sin(t / 977.0)) + 17.0 * math.sin(t / 13.0),
        step_s=STEP_S,
    )
    rig.run(STEP_S)  # the first scrape: what was before is nobody's
    before_j = counter_j(rig)
    rig.run(4 * S_PER_HOUR)
    early, objects = memory_bytes(), len(gc.get_objects())
    rig.run(2 * S_PER_HOUR)
    rig.engine.error = ServerError("hung")
    rig.run(600)
    rig.engine.error = None
    rig.run(2 * S_PER_HOUR)
    rig.engine.restart()
    rig.log.rename(rig.log.with_suffix(".1"))
    rig.run(S_PER_DAY - rig.engine.since_s())
    assert memory_bytes() - early < GROWTH_BYTES
    assert len(gc.get_objects()) - objects < GROWTH_OBJECTS
    # On to the next scrape, which is the edge of the last interval.
    while rig.agent._begin_s != rig.clock.monotonic_s():
        rig.run(STEP_S)
    metered_j = counter_j(rig) - before_j
    rig.agent.close()
    bill, totals = rig.agent.bill, rig.agent.snapshot.totals
    assert totals.unmetered_s == 0
    assert bill.energy_j == pytest.approx(metered_j, rel=1e-6)
    attributed_j = math.fsum(total.energy_j for _, total in totals.accounts)
    parts = (totals.idle_energy_j, totals.unattributed_energy_j, totals.pending_energy_j, attributed_j)
    assert math.fsum(parts) == pytest.approx(metered_j, rel=1e-6)
    assert totals.pending_energy_j == 0
    # Most of the day's energy found its payer, and the night's was nobody's.
    assert attributed_j > 0.4 * metered_j
    assert totals.idle_energy_j > 0.1 * metered_j
    assert totals.unattributed_energy_j < 0.1 * metered_j
    assert len(totals.accounts) == 40 + 1
    assert totals.engine_restarts == 1
    # The hung hour apart, every request was billed once.
    billed = sum(total.requests for _, total in totals.accounts)
    assert billed + totals.late_requests == len(rig.requests) - len(rig.unwritten)
