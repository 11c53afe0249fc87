"""The agent under a clock moved by hand: what it knows, and that it is never wrong when something fails."""

from __future__ import annotations

import json
import math

import pytest

from joulemap.errors import ServerError
from joulemap.records import Basis
from joulemap.watch.settings import WatchSettings
from joulemap.watch.snapshot import Snapshot, Totals
from tests.watch.conftest import MakeRig
from tests.watch.rig import Request, steady


def balance(totals: Totals) -> float:
    """What the parts of the bill sum to."""
    accounts = (total.energy_j for _, total in totals.accounts)
    return math.fsum((totals.pending_energy_j, totals.idle_energy_j, totals.unattributed_energy_j, *accounts))


def joules(snapshot: Snapshot) -> dict[str, float]:
    return {account.tenant: total.energy_j for account, total in snapshot.totals.accounts}


def test_a_steady_server_is_metered_diagnosed_and_billed(make_rig: MakeRig) -> None:
    rig = make_rig(steady(300))
    told = rig.run(200)
    now, totals = told.now, told.totals
    assert now.power is not None
    assert now.power.value == pytest.approx(400.0, rel=1e-3)
    # One request of 200 tokens a second.
    assert now.energy_per_output is not None
    assert now.energy_per_output.value == pytest.approx(2.0, rel=0.02)
    assert now.energy_per_output.basis is Basis.MEASURED
    assert now.output_throughput_per_s == pytest.approx(200.0, rel=0.02)
    assert now.batch_size == 10
    assert told.devices[0].power_w == pytest.approx(400.0)
    assert all(state.up for state in told.sources.values())
    # The ledger is in watts, and sums to the power.
    assert now.ledger is not None
    assert math.fsum(now.ledger.parts_w.values()) == pytest.approx(now.power.value, rel=1e-9)
    assert now.ledger.basis is Basis.MODELLED
    assert now.bound_by is not None
    assert now.starved_power is not None
    assert balance(totals) == pytest.approx(totals.work_energy_j, rel=1e-9)
    assert totals.work_energy_j == pytest.approx(rig.truth_j(0, totals.work_energy_j / 400.0), rel=1e-3)
    bill = joules(told)
    assert bill["red"] == pytest.approx(bill["blue"], rel=0.1)
    assert totals.unattributed_energy_j < 0.02 * totals.work_energy_j
    json.dumps(told.to_json(), allow_nan=False)


def test_nothing_pends_after_the_end(make_rig: MakeRig) -> None:
    rig = make_rig(steady(60))
    assert rig.run(100).totals.pending_energy_j > 0
    rig.agent.close()
    totals = rig.agent.snapshot.totals
    assert totals.pending_energy_j == 0
    assert balance(totals) == pytest.approx(totals.work_energy_j, rel=1e-9)


def test_an_idle_server_costs_idle_energy_and_is_all_starved(make_rig: MakeRig) -> None:
    rig = make_rig(power=lambda _t: 90.0)
    told = rig.run(60)
    rig.agent.close()
    assert told.now.idle
    assert told.now.energy_per_output is None
    assert "no output" in told.now.missing["energy_per_output_j"]
    assert told.now.starved_power is not None
    assert told.now.starved_power.value == pytest.approx(90.0)
    assert told.now.bound_by is None
    totals = rig.agent.snapshot.totals
    assert totals.idle_energy_j == pytest.approx(totals.work_energy_j, rel=1e-9)
    assert totals.work_energy_j == pytest.approx(90.0 * 55, rel=0.1)
    assert rig.agent.idle_power_w == pytest.approx(90.0)


def test_idle_time_beside_work_is_charged_at_idle_power(make_rig: MakeRig) -> None:
    """Idle until 30 s at 100 W; then a request of 2.5 s in an interval of 5 s, at 500 W."""
    rig = make_rig(
        [Request(begin_s=32.0, first_s=32.0, end_s=34.5)],
        power=lambda t: 500.0 if 32.0 <= t < 34.5 else 100.0,
        step_s=0.1,
    )
    rig.run(31)
    before_j = rig.agent.bill.energy_j
    rig.run(60)
    rig.agent.close()
    totals = rig.agent.snapshot.totals
    assert before_j > 0
    # 2.5 s at 500 W are the request's, with what the idle power (100 W) leaves of them.
    assert joules(rig.agent.snapshot)["red"] == pytest.approx(1250.0, rel=0.02)
    assert totals.idle_energy_j + totals.unattributed_energy_j == pytest.approx(
        totals.work_energy_j - 1250.0, rel=0.02
    )


def test_without_a_log_nothing_is_attributed_but_idle_is_told(make_rig: MakeRig) -> None:
    rig = make_rig(steady(30), logged=False)
    totals = rig.run(90).totals
    assert totals.accounts == ()
    assert totals.unattributed_energy_j > 0
    assert totals.idle_energy_j > 0
    assert balance(totals) == pytest.approx(totals.work_energy_j, rel=1e-9)


def test_unlogged_work_is_unattributed(make_rig: MakeRig) -> None:
    rig = make_rig(steady(200))
    rig.unwritten = [r for r in rig.unwritten if r.tenant == "red"]  # the other gateway logs nothing
    rig.run(150)
    totals = rig.agent.snapshot.totals
    settled_j = totals.work_energy_j - totals.pending_energy_j
    assert totals.unattributed_energy_j == pytest.approx(settled_j / 2, rel=0.1)
    assert joules(rig.agent.snapshot)["red"] == pytest.approx(settled_j / 2, rel=0.1)


def test_a_restarted_engine_is_told_and_its_totals_go_on(make_rig: MakeRig) -> None:
    rig = make_rig(steady(300))
    before = rig.run(100).totals.output_tokens
    rig.engine.restart()
    told = rig.run(3)
    assert told.totals.engine_restarts == 1
    assert told.now.energy_per_output is None  # the interval of the restart tells no tokens
    assert told.now.missing["energy_per_output_j"]
    told = rig.run(60)
    assert before is not None
    assert told.totals.output_tokens is not None
    assert told.totals.output_tokens > before
    assert told.totals.engine_restarts == 1
    assert told.now.energy_per_output is not None
    assert balance(told.totals) == pytest.approx(told.totals.work_energy_j, rel=1e-9)


def test_a_hung_engine_is_told_and_leaves_no_hole_in_tokens(make_rig: MakeRig) -> None:
    rig = make_rig(steady(400))
    before = rig.run(100).totals
    rig.engine.error = ServerError("127.0.0.1:8000 did not answer within 2 s")
    told = rig.run(70)
    assert not told.sources["engine"].up
    assert "did not answer" in told.sources["engine"].reason
    assert told.now.energy_per_output is None
    assert "did not answer" in told.now.missing["batch_size"]
    assert told.now.power is not None  # the meter goes on
    assert told.totals.failed_scrapes >= 10
    rig.engine.error = None
    after = rig.run(30).totals
    assert before.output_tokens is not None
    assert after.output_tokens is not None
    assert after.output_tokens - before.output_tokens == pytest.approx(100 * 200, rel=0.06)
    assert balance(after) == pytest.approx(after.work_energy_j, rel=1e-9)


def test_a_meter_that_stops_is_opened_again_and_its_time_is_unmetered(make_rig: MakeRig) -> None:
    rig = make_rig(steady(400))
    before = rig.run(100)
    rig.gpu.lost = True
    told = rig.run(40)
    assert not told.sources["meter"].up
    assert told.totals.meter_failures == 1
    assert told.totals.work_energy_j <= before.totals.work_energy_j + 6 * 400.0
    assert told.totals.unmetered_s == pytest.approx(35.0, abs=6.0)
    assert told.devices[0].power_w is None
    rig.gpu.lost = False
    told = rig.run(100)
    assert rig.opened >= 2
    assert told.sources["meter"].up
    assert told.now.power is not None
    assert told.now.power.value == pytest.approx(400.0, rel=1e-3)
    metered_s = told.totals.work_energy_j / 400.0
    assert metered_s + told.totals.unmetered_s == pytest.approx(240.0, abs=12.0)
    assert balance(told.totals) == pytest.approx(told.totals.work_energy_j, rel=1e-9)


def test_a_gap_in_the_readings_is_bridged_by_the_energy_counter(make_rig: MakeRig) -> None:
    rig = make_rig(steady(400))
    rig.run(100)
    rig.reads = False  # the sampling thread is starved of CPU
    rig.run(8)
    rig.reads = True
    totals = rig.run(60).totals
    assert totals.unmetered_s == 0
    assert totals.work_energy_j == pytest.approx(400.0 * 165, rel=0.04)


def test_a_gap_is_not_bridged_by_power_alone(make_rig: MakeRig) -> None:
    rig = make_rig(steady(400), counts=False)
    rig.run(50)
    rig.reads = False
    rig.run(8)
    rig.reads = True
    totals = rig.run(60).totals
    assert 5.0 <= totals.unmetered_s <= 15.0


def test_the_wall_clock_may_be_set_while_watching(make_rig: MakeRig) -> None:
    rig = make_rig(steady(300))
    rig.run(50)
    rig.clock.wall_offset_s = 7200.0
    told = rig.run(100)
    assert told.totals.work_energy_j == pytest.approx(400.0 * 145, rel=0.05)
    assert balance(told.totals) == pytest.approx(told.totals.work_energy_j, rel=1e-9)


def test_an_unknown_model_is_diagnosed_from_measurements_alone(make_rig: MakeRig) -> None:
    rig = make_rig(steady(200), deployment={"model_id": "somebody/private"})
    told = rig.run(120)
    assert told.now.energy_per_output is not None
    assert told.now.starved_power is None
    assert told.now.missing["starved_power_w"]
    assert rig.agent.weights.basis is Basis.ASSUMED


def test_the_weights_of_a_known_model_are_modelled(make_rig: MakeRig) -> None:
    rig = make_rig(steady(200))
    rig.run(120)
    weights = rig.agent.weights
    assert weights.basis is Basis.MODELLED
    assert 0 < weights.prompt_weight < weights.output_weight


def test_a_diagnosis_is_made_anew_only_when_the_server_has_moved(make_rig: MakeRig) -> None:
    rig = make_rig(steady(500), settings=WatchSettings(settle_s=20.0, diagnose_s=30.0))
    rig.run(150)
    made_s = rig.agent.rolling.made_s
    rig.run(100)
    assert rig.agent.rolling.made_s == made_s
    rig.power = lambda _t: 600.0
    rig.run(100)
    assert rig.agent.rolling.made_s != made_s
