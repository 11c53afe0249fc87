"""A simulated fleet shows the measured steady states, holds the cap where replicas stay, and replays traces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from joulemap.errors import InputError
from joulemap.plan.fleet import plan_fleet
from joulemap.plan.options import OptionRequest, find_options
from joulemap.plan.plan_file import parse_plan
from joulemap.plan.simulate.arrivals import lengths_like, read_load_curve, read_trace, replayed
from joulemap.plan.simulate.queue import simulate_queue
from joulemap.plan.simulate.replica import Replica, batch_curve
from joulemap.plan.simulate.simulate import Load, simulate_plan
from joulemap.store.run_store import RunStore

PLAN = """
[plan]
replicas = "fixed"
headroom = 0.1

[[sites]]
name = "north"
cap_kw = 12
pue = 1.2
pools = [{ gpu = "B200", count = 4 }, { gpu = "H100", count = 8 }]

[[demands]]
name = "chat"
task = "lm-arena-chat"
requests_per_s = [4, 12]
models = ["Qwen/Qwen3-32B"]
slo = { itl_median_s = 0.05, ttft_median_s = 1.0, latency_s = 60 }
"""


@pytest.mark.parametrize(
    ("task", "model", "gpu"),
    [("lm-arena-chat", "Qwen/Qwen3-32B", "B200"), ("gpqa", "openai/gpt-oss-120b", "H100")],
)
def test_a_saturated_replica_shows_the_measured_steady_state(
    study_store: RunStore, task: str, model: str, gpu: str
) -> None:
    found = find_options(study_store.frame, OptionRequest(task=task, models=(model,), gpu_models=(gpu,)))
    points = found.frame.filter(pl.col("num_gpus") == pl.col("num_gpus").min())
    for run in points.filter(pl.col("basis") == "measured").iter_rows(named=True):
        curve = batch_curve(points, run["batch_size"], 100.0)
        replica = Replica(curve=curve, site=0, facility_power_w=curve.power_w, on_s=((0.0, float("inf")),))
        count = curve.ceiling * 12
        work = lengths_like(found.lengths[model], count, np.random.default_rng(1))
        done = simulate_queue(np.zeros(count), work, [replica])
        times = done.occupancy_s[0]
        # The steady state: all places taken.
        steady_s, rate = float(times[-1]), curve.ceiling * float(curve.rate_per_s[-1])
        assert steady_s > 0.5 * times.sum()
        assert rate == pytest.approx(run["request_throughput_per_s"], rel=0.02)
        finished = int((done.finish_s <= steady_s).sum())
        assert finished / steady_s == pytest.approx(run["request_throughput_per_s"] / work.mean(), rel=0.15)
        assert curve.power_w[-1] / rate == pytest.approx(run["energy_per_request_j"], rel=0.02)
        # Little: a stay at the ceiling is the ceiling over the rate.
        assert curve.ceiling / rate == pytest.approx(run["batch_size"] / run["request_throughput_per_s"], rel=0.02)


def test_replicas_that_stay_hold_the_cap(study_store: RunStore) -> None:
    spec = parse_plan(PLAN)
    plan = plan_fleet(spec, study_store.frame, marginals=False)
    done = simulate_plan(spec, plan)
    (power,) = done.power
    assert power.over_cap_fraction == 0.0
    assert power.most_w <= plan.site_power[0].planned_power_w * (1 + 1e-9)
    assert power.facility_energy_j <= plan.facility_energy_j.value * (1 + 1e-6)
    assert power.bin_mean_w.mean() == pytest.approx(power.mean_w)
    (chat,) = done.demands
    assert chat.unserved_requests == 0
    assert chat.requests == pytest.approx((4 + 12) * 3600, rel=0.03)
    assert chat.held["itl_median_s"] == 1.0
    assert chat.held["ttft_median_s"] > 0.9
    assert chat.held["latency_s"] > 0.8
    assert done.basis in ("modelled", "assumed")


def test_bursts_make_requests_wait(study_store: RunStore) -> None:
    spec = parse_plan(PLAN)
    plan = plan_fleet(spec, study_store.frame, marginals=False)
    even, bursty = (simulate_plan(spec, plan, Load(variation=v)).demands[0] for v in (0.0, 8.0))
    assert (even.wait_p99_s or 0) <= (bursty.wait_p99_s or 0)
    assert even.longest_queue_requests < bursty.longest_queue_requests
    again = simulate_plan(spec, plan, Load(variation=8.0)).demands[0]
    assert again == bursty  # the same seed, the same requests
    assert simulate_plan(spec, plan, Load(variation=8.0, seed=1)).demands[0] != bursty


def test_refused_requests_are_not_simulated(study_store: RunStore) -> None:
    spec = parse_plan(PLAN.replace("[4, 12]", "[4, 60]").replace("cap_kw = 12", "cap_kw = 4"))
    plan = plan_fleet(spec, study_store.frame, marginals=False)
    done = simulate_plan(spec, plan)
    served = sum(s.served_per_s for s in plan.services) * 3600
    assert done.requests == pytest.approx(served, rel=0.02)
    assert any("refused" in n for n in done.notes)


def test_hours_that_change_the_fleet(study_store: RunStore) -> None:
    spec = replace(parse_plan(PLAN), fixed_replicas=False)
    plan = plan_fleet(spec, study_store.frame, marginals=False)
    done = simulate_plan(spec, plan)
    assert done.demands[0].unserved_requests == 0
    half = done.power[0].bin_mean_w.size // 2
    assert done.power[0].bin_mean_w[half + 60 :].mean() > 1.2 * done.power[0].bin_mean_w[60:half].mean()


@pytest.mark.parametrize(("name", "requests"), [("conv", 19_366), ("code", 8_819)])
def test_recorded_traces_are_replayed(study_store: RunStore, study_data: Path, name: str, requests: int) -> None:
    trace = read_trace(study_data / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.csv")
    assert trace.arrival_s.size in (requests, requests - 1)
    assert (np.diff(trace.arrival_s) >= 0).all()
    twice = replayed(trace, np.array([2.0, 8.0]), 3600.0)
    # A recorded trace has bursts of its own, so that its parts hold the rate only roughly.
    assert (twice.arrival_s < 3600).sum() == pytest.approx(7200, rel=0.15)
    assert twice.arrival_s.size == pytest.approx(36_000, rel=0.1)
    spec = parse_plan(PLAN)
    plan = plan_fleet(spec, study_store.frame, marginals=False)
    done = simulate_plan(spec, plan, Load(trace=trace))
    assert done.demands[0].requests == pytest.approx(16 * 3600, rel=0.1)
    assert done.power[0].over_cap_fraction == 0.0


def test_load_curves(study_data: Path) -> None:
    curve = read_load_curve(study_data / "servegen_load_curves.csv", "language/m-mid")
    assert curve.step_s == 600.0
    assert curve.rate_ratio.mean() == pytest.approx(1.0)
    with pytest.raises(InputError, match="no workload"):
        read_load_curve(study_data / "servegen_load_curves.csv", "nothing")


def test_files_that_are_no_traces(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="lacks the column 'TIMESTAMP'"):
        read_trace(path)
    path.write_text("TIMESTAMP,GeneratedTokens\nyesterday,2\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(path)
    with pytest.raises(InputError, match="lacks the column 't_s'"):
        read_load_curve(path)
