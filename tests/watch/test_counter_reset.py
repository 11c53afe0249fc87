"""An energy counter that goes backwards while a server is watched, as it does when a driver is loaded again."""

from __future__ import annotations

import pynvml
import pytest

from tests.watch.conftest import MakeRig
from tests.watch.rig import steady
from tests.watch.test_agent import balance

POWER_W = 400.0


def test_power_fills_the_step_of_a_reset(make_rig: MakeRig) -> None:
    rig = make_rig(steady(400))
    before = rig.run(102)  # amid an interval
    rig.nvml.reset_counter(0)
    for _ in range(70):
        told = rig.run(1)
        assert told.totals.work_energy_j >= before.totals.work_energy_j
        assert told.now.power is None or told.now.power.value == pytest.approx(POWER_W, rel=0.02)
        before = told
    totals = told.totals
    assert totals.unmetered_s == 0
    metered_s = totals.work_energy_j / POWER_W
    assert 165.0 <= metered_s <= 172.0
    assert told.devices[0].energy_j == pytest.approx(totals.work_energy_j)
    assert balance(totals) == pytest.approx(totals.work_energy_j, rel=1e-9)


def test_several_resets_within_one_interval(make_rig: MakeRig) -> None:
    rig = make_rig(steady(400))
    rig.run(101)
    for _ in range(3):
        rig.nvml.reset_counter(0)
        rig.run(1)
    totals = rig.run(60).totals
    assert totals.unmetered_s == 0
    assert 155.0 <= totals.work_energy_j / POWER_W <= 164.0


def test_without_power_the_interval_of_a_reset_is_unmetered(make_rig: MakeRig) -> None:
    rig = make_rig(steady(400))
    rig.gpu.unsupported |= {
        "nvmlDeviceGetPowerUsage",
        pynvml.NVML_FI_DEV_POWER_INSTANT,
        pynvml.NVML_FI_DEV_POWER_AVERAGE,
    }
    rig.run(102)
    rig.nvml.reset_counter(0)
    told = rig.run(70)
    assert 0 < told.totals.unmetered_s <= 10.0
    metered_s = told.totals.work_energy_j / POWER_W
    assert metered_s + told.totals.unmetered_s == pytest.approx(169.0, abs=4.0)
    assert balance(told.totals) == pytest.approx(told.totals.work_energy_j, rel=1e-9)


def test_a_counter_that_begins_anew_with_its_meter_is_no_negative_energy(make_rig: MakeRig) -> None:
    rig = make_rig(steady(400))
    before = rig.run(100)
    rig.gpu.lost = True
    rig.run(3)
    rig.nvml.reset_counter(0)
    rig.gpu.lost = False
    told = rig.run(100)
    assert rig.opened == 2
    assert told.totals.work_energy_j > before.totals.work_energy_j
    metered_s = told.totals.work_energy_j / POWER_W
    assert metered_s + told.totals.unmetered_s == pytest.approx(200.0, abs=6.0)
