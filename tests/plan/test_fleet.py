"""A fleet plan holds its caps whatever is asked, says what binds, and what to relax where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulemap.errors import InfeasibleError, UsageError
from joulemap.plan.candidates import candidates
from joulemap.plan.fleet import FleetPlan, plan_fleet
from joulemap.plan.peaks import QUANTILES, peak_power_w, variances_w2
from joulemap.plan.plan_file import EXAMPLE, parse_plan
from joulemap.plan.relaxation import smallest_relaxation
from joulemap.plan.spec import Demand, PlanSpec, Pool, Site, Slo
from joulemap.store.run_store import RunStore

QWEN = "Qwen/Qwen3-32B"


def spec(*, cap_kw: float = 20.0, rate: float = 60.0, gpus: int = 32, **changed: object) -> PlanSpec:
    """Return a plan for one site with H100s and B200s, and one chat."""
    site = Site(
        name="north",
        cap_w=(cap_kw * 1e3,),
        pue=1.2,
        pools=(Pool(gpu_model="H100", num_gpus=gpus), Pool(gpu_model="B200", num_gpus=gpus // 4)),
        electricity_usd_per_kwh=(0.1,),
        carbon_g_per_kwh=(300.0,),
    )
    chat = Demand(
        name="chat", task="lm-arena-chat", requests_per_s=(rate,), models={QWEN: 1.0}, slo=Slo(itl_median_s=0.05)
    )
    return replace(PlanSpec(sites=(site,), demands=(chat,)), **changed)  # type: ignore[arg-type]


def check(plan: FleetPlan, asked: PlanSpec) -> None:
    """Check everything that must hold of any plan."""
    for power in plan.site_power:
        assert power.planned_power_w <= power.cap_w * (1 + 1e-9)
        by_hand = sum(a.planned_power_w for a in plan.assignments if (a.site, a.hour) == (power.site, power.hour))
        assert power.planned_power_w == pytest.approx(by_hand)
    for site in asked.sites:
        for pool in site.pools:
            for hour in range(asked.hours):
                own = [
                    a
                    for a in plan.assignments
                    if (a.site, a.gpu_model, a.hour) == (site.name, pool.gpu_model, hour)
                ]
                used = sum(a.replicas * a.num_gpus for a in own)
                assert pool.num_gpus is None or used <= pool.num_gpus
    for service in plan.services:
        capacity = sum(
            a.capacity_per_s for a in plan.assignments if (a.demand, a.hour) == (service.demand, service.hour)
        )
        assert service.served_per_s <= min(capacity, service.asked_per_s) * (1 + 1e-9)
        assert bool(service.reason) == (service.served_per_s < service.asked_per_s * (1 - 1e-6))
    assert plan.bound >= plan.value - 1e-6 or plan.objective != "value"


@settings(max_examples=12)
@given(
    st.floats(0.5, 60.0), st.floats(0.5, 200.0), st.integers(0, 40), st.sampled_from([None, 0.5, 0.9, 0.99]),
    st.sampled_from(["mean", "p95", "p99", "rated"]),
)  # fmt: skip
def test_the_cap_is_never_exceeded(
    study_store: RunStore, cap_kw: float, rate: float, gpus: int, confidence: float | None, power: str
) -> None:
    asked = spec(cap_kw=cap_kw, rate=rate, gpus=gpus, confidence=confidence, power=power)
    plan = plan_fleet(asked, study_store.frame, marginals=False)
    check(plan, asked)


def test_power_is_that_of_facility(study_store: RunStore) -> None:
    plan = plan_fleet(spec(), study_store.frame, marginals=False)
    (a, *_) = [a for a in plan.assignments if a.basis == "measured"]
    run = study_store.row(str(a.run_id))
    beside = {"H100": 350.0, "B200": 787.5}[a.gpu_model]
    top = plan.found.options[0].frame.filter(pl.col("series") == a.series, pl.col("batch_size") <= a.batch_size)
    highest = float(top["power_w"].max())  # type: ignore[arg-type]
    assert highest >= float(str(run["power_w"]))
    assert a.planned_power_w == pytest.approx(a.replicas * (highest + a.num_gpus * beside) * 1.2)


def test_confidence_buys_safety_with_power_or_service(study_store: RunStore) -> None:
    plain, cautious = (
        plan_fleet(spec(cap_kw=10.0, confidence=c), study_store.frame, marginals=False, gap=1e-5)
        for c in (None, 0.9)
    )
    assert cautious.value < plain.value


def test_what_binds_and_what_one_more_is_worth(study_store: RunStore) -> None:
    plan = plan_fleet(spec(cap_kw=10.0, rate=200.0), study_store.frame)
    assert plan.binding == ("the power cap of north is used up",)
    power = next(m for m in plan.marginals if m.resource == "power")
    assert power.value_per_unit is not None
    assert power.value_per_unit_relaxed is not None
    assert power.value_per_unit_relaxed > 0
    more = plan_fleet(spec(cap_kw=11.0, rate=200.0), study_store.frame, gap=1e-6, marginals=False)
    less = plan_fleet(spec(cap_kw=10.0, rate=200.0), study_store.frame, gap=1e-6, marginals=False)
    assert power.value_per_unit == pytest.approx(more.value - less.value, abs=1e-3 * plan.value)
    assert "power cap of north" in plan.services[0].reason

    roomy = plan_fleet(spec(cap_kw=500.0, rate=10.0), study_store.frame)
    assert roomy.binding == ("nothing: everything that is asked is served",)
    assert all(m.value_per_unit == 0 for m in roomy.marginals)


def test_what_the_accepted_gap_leaves_over_is_no_limit(study_store: RunStore) -> None:
    asked = spec(cap_kw=1000.0, rate=4000.0, headroom_fraction=0.05)
    (site,) = asked.sites
    only = replace(asked, sites=(replace(site, pools=(Pool(gpu_model="B200", num_gpus=600),)),))
    plan = plan_fleet(only, study_store.frame, marginals=False)
    (service,) = plan.services
    assert service.asked_per_s * (1.0 - plan.gap_fraction) <= service.served_per_s < service.asked_per_s
    assert plan.binding[0].startswith("nothing: all but ")


def test_gpus_bind_where_power_does_not(study_store: RunStore) -> None:
    plan = plan_fleet(spec(cap_kw=1000.0, rate=500.0, gpus=8), study_store.frame)
    assert any("H100 at north is in use" in b for b in plan.binding)
    assert next(m for m in plan.marginals if m.resource == "B200").value_per_unit > 0  # type: ignore[operator]
    assert next(m for m in plan.marginals if m.resource == "power").value_per_unit == 0


@pytest.mark.parametrize("objective", ["energy", "cost", "carbon"])
def test_full_service_at_least_cost(study_store: RunStore, objective: str) -> None:
    asked = spec(objective=objective)
    plan = plan_fleet(asked, study_store.frame, marginals=False)
    check(plan, asked)
    assert plan.services[0].served_per_s == pytest.approx(60.0)
    kwh = plan.facility_energy_j.value / 3.6e6
    assert plan.value == pytest.approx(kwh * {"energy": 1.0, "cost": 0.1, "carbon": 0.3}[objective])


def test_what_to_relax_is_enough_and_no_less_will_do(study_store: RunStore) -> None:
    asked = spec(cap_kw=8.0, objective="energy")
    with pytest.raises(InfeasibleError, match="raise cap_kw of north by") as caught:
        plan_fleet(asked, study_store.frame)
    assert "ask" not in caught.value.message
    problem = candidates(asked, study_store.frame).problem
    (relaxed,) = smallest_relaxation(problem, may_drop_demand=False) or []
    assert relaxed.kind == "power"
    enough = spec(cap_kw=8.0 + relaxed.value / 1e3 + 1e-6, objective="energy")
    assert plan_fleet(enough, study_store.frame, marginals=False).gap_fraction < 0.02
    with pytest.raises(InfeasibleError):
        plan_fleet(spec(cap_kw=8.0 + relaxed.value / 1e3 * 0.95, objective="energy"), study_store.frame)


def test_power_and_gpus_are_relaxed_together_where_both_lack(study_store: RunStore) -> None:
    asked = spec(cap_kw=3.0, gpus=4, rate=300.0, objective="energy")
    problem = candidates(asked, study_store.frame).problem
    kinds = {r.kind for r in smallest_relaxation(problem, may_drop_demand=False) or []}
    assert kinds == {"power", "gpus"}
    assert {r.kind for r in smallest_relaxation(problem, may_drop_demand=True) or []} == {"demand"}


def test_a_limit_that_no_configuration_holds(study_store: RunStore) -> None:
    tight = spec()
    tight = replace(tight, demands=(replace(tight.demands[0], slo=Slo(itl_median_s=1e-4)),))
    plan = plan_fleet(tight, study_store.frame)
    assert "no option holds itl_median_s ≤ 0.0001 s" in plan.services[0].reason
    with pytest.raises(InfeasibleError, match="the least is"):
        plan_fleet(replace(tight, objective="energy"), study_store.frame)


def test_a_percentile_of_peaks_is_held(study_store: RunStore) -> None:
    asked = spec(cap_kw=25.0, rate=500.0, power="p99")
    plan = plan_fleet(asked, study_store.frame, marginals=False)
    problem = plan.found.problem
    replicas = np.zeros((problem.placements, 1))
    rows = list(plan.found.placements.select("series", "batch_size", "gpu_model").iter_rows())
    for a in plan.assignments:
        replicas[rows.index((a.series, a.batch_size, a.gpu_model)), 0] = a.replicas
    peak = peak_power_w(problem, variances_w2(plan.found), replicas, QUANTILES["p99"])
    assert plan.site_power[0].planned_power_w < peak[0, 0] <= 25_000.0
    by_mean = plan_fleet(replace(asked, power="mean"), study_store.frame, marginals=False)
    by_rating = plan_fleet(replace(asked, power="rated"), study_store.frame, marginals=False)
    assert plan.value <= by_mean.value * 1.01
    assert by_rating.value <= by_mean.value * 1.01


def test_unused_gpus_count_against_the_cap(study_store: RunStore) -> None:
    asked = spec(cap_kw=10.0, rate=200.0)
    pools = tuple(replace(p, unused_power_w=100.0) for p in asked.sites[0].pools)
    idling = replace(asked, sites=(replace(asked.sites[0], pools=pools),))
    plan = plan_fleet(idling, study_store.frame, marginals=False)
    assert plan.site_power[0].planned_power_w <= 10_000.0
    assert plan.value < plan_fleet(asked, study_store.frame, marginals=False).value


def test_quality_and_precision_narrow_the_choice(study_store: RunStore) -> None:
    asked = spec(qualities={QWEN: 1})
    chat = replace(asked.demands[0], min_quality=2)
    assert "quality" in plan_fleet(replace(asked, demands=(chat,)), study_store.frame).services[0].reason
    chat = replace(asked.demands[0], precisions=("fp8",))
    assert "fp8" in plan_fleet(replace(asked, demands=(chat,)), study_store.frame).services[0].reason


def test_higher_priority_first(study_store: RunStore) -> None:
    asked = spec(cap_kw=6.0)
    hard = Demand(name="hard", task="gpqa", requests_per_s=(50.0,), models={"openai/gpt-oss-20b": 1.0}, priority=2)
    both = replace(asked, demands=(asked.demands[0], hard))
    served = {s.demand: s.served_per_s for s in plan_fleet(both, study_store.frame, marginals=False).services}
    alone = plan_fleet(replace(asked, demands=(hard,)), study_store.frame, marginals=False)
    assert served["hard"] == pytest.approx(alone.services[0].served_per_s, rel=0.02)


def test_a_site_without_price_cannot_be_planned_by_cost(study_store: RunStore) -> None:
    with pytest.raises(UsageError, match="electricity_usd_per_kwh"):
        plan_fleet(replace(parse_plan(EXAMPLE), objective="cost"), study_store.frame)


def test_json_says_everything(study_store: RunStore) -> None:
    plan = plan_fleet(spec(), study_store.frame)
    payload = plan.to_json()
    assert {
        "value",
        "bound",
        "gap_fraction",
        "assignments",
        "services",
        "site_power",
        "binding",
        "marginals",
    } <= set(payload)
    assert payload["site_power"][0]["expected_power_w"]["basis"] == "assumed"  # the B200's server is not measured
    assert {"low", "high"} <= set(payload["facility_energy_j"])
