"""The model and the diagnosis against our own measurements on two NVIDIA H100s, on which nothing was fitted."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

from benchmarks.gpu.compare_h100 import (
    CHAT,
    CODE,
    PICTURES,
    STATIC,
    TEXT,
    as_committed,
    errors,
    few_shot,
    present,
    runs,
    study_beside,
)
from benchmarks.gpu.compare_h200 import decode_steps
from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.explain import explain
from joulemap.diagnose.series import Curves
from joulemap.optimize.candidates import candidates
from joulemap.optimize.scope import Scope
from joulemap.store.run_store import open_store
from joulemap.store.schema import frame_to_runs
from joulemap.store.selector import select

HELD = "held-by-front-end"


def test_the_runs_are_whole() -> None:
    table = runs()
    assert sorted(run.run_id for run in frame_to_runs(table)) == sorted(table["run_id"])
    assert set(table["gpu_model"]) == {"H100"}
    assert set(table["meter"]) == {"nvidia"}
    # Two batches of pictures took longer than the time that they were given; the rest is valid.
    assert set(table.filter(~pl.col("valid"))["task"]) == {PICTURES}
    assert table.filter(~pl.col("valid")).height == 2
    assert table.group_by("task").len().sort("task")["len"].to_list() == [20, 3, 10, 5]


def test_every_run_had_been_predicted_before() -> None:
    for kind, task, count in (("served", CHAT, 20), ("static", STATIC, 10), ("pictures", PICTURES, 5)):
        measured, told = as_committed(kind, task)
        assert measured.height == count
        assert told["energy_per_output_j"].null_count() == 0


def test_what_was_committed_took_the_engine_for_the_studys() -> None:
    """Newer engines do not sort: large batches were predicted far too slow, and their intervals too narrow."""
    found = errors(*as_committed("served", CHAT), TEXT)
    assert found["itl_median_s"][0] > 0.2
    assert found["energy_per_output_j"][2] < 0.9
    assert found["power_w"][2] == 1.0


def test_a_served_run_is_predicted_from_its_engines_version() -> None:
    served = runs(CHAT, CODE)
    found = errors(served, present(served), TEXT)
    assert found["energy_per_output_j"][0] < 0.04
    assert found["energy_per_output_j"][1] < 0.11
    assert all(inside >= 0.9 for _, _, inside in found.values())
    unversioned = present(served.with_columns(pl.lit(None, pl.String).alias("engine_version")))
    assert errors(served, unversioned, TEXT)["energy_per_output_j"][0] > 2 * found["energy_per_output_j"][0]


def test_given_runs_do_not_spoil_what_is_right_without_them() -> None:
    told = few_shot()
    assert told["three given"][0] < 1.1 * told["none given"][0]
    assert told["three given"][1] < 0.1
    assert told["three given"][2] >= 0.9


def test_the_cache_is_as_full_as_the_engine_said() -> None:
    served = runs(CHAT, CODE)
    ratios = present(served)["kv_cache_utilization"] / served["kv_cache_utilization"]
    on_a_full_card = ((served["model_id"] == "Qwen/Qwen3-32B") & (served["num_gpus"] == 1)).to_list()
    for ratio, full in zip(ratios, on_a_full_card, strict=True):
        assert ratio == pytest.approx(1.0, abs=0.25 if full else 0.12)


def test_the_modelled_traffic_is_what_the_memory_counter_saw() -> None:
    for case in decode_steps(runs(STATIC)):
        tolerance = 0.02 if case["batch_size"] <= 8 else 0.12
        assert case["modelled_bandwidth_share"] == pytest.approx(case["measured_bandwidth_share"], rel=tolerance)


def test_a_second_gpu_saves_by_the_batch_that_it_unlocks(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store.add(frame_to_runs(runs()))
    large = runs(CHAT).filter(pl.col("model_id") == "Qwen/Qwen3-32B").sort("batch_size")
    one, two = (large.filter(pl.col("num_gpus") == n).row(-1, named=True) for n in (1, 2))
    assert one["energy_per_output_j"] > 2.5 * two["energy_per_output_j"]
    told = explain(one["run_id"], two["run_id"], store=store)
    factors = {f.name: f.ratio for f in told.factors}
    assert factors["batch"] > 2.5
    assert factors["gpu_count"] < 1.0
    ratio = one["energy_per_request_j"] / two["energy_per_request_j"]
    assert math.prod(factors.values()) == pytest.approx(ratio, rel=1e-6)


def test_a_front_end_that_holds_requests_is_found_where_it_did() -> None:
    served = runs(CHAT, CODE)
    diagnoses = diagnose_frame(served, curves=Curves(runs()))
    for row, diagnosis in zip(served.iter_rows(named=True), diagnoses, strict=True):
        names = [f.name for f in diagnosis.findings]
        # The engine ran 165–226 of 256 requests, queued none, and first tokens took 1.7–5.4 s in place of 0.1.
        assert (HELD in names) == (row["ttft_median_s"] > 1.0)
        assert not (HELD in names and "under-filled" in names)
    assert sum(HELD in [f.name for f in d.findings] for d in diagnoses) == 3


def test_each_concurrency_is_a_batch_of_its_own() -> None:
    """The server's ceiling was 512 throughout; what the clients kept in flight tells the runs apart."""
    table = runs()
    asked = "task=lm-arena-chat,model=Qwen/Qwen3-8B,precision=bfloat16"
    assert select(table, f"{asked},batch=64").item(0, "max_concurrency") == 64
    assert select(table, f"{asked},batch=max").item(0, "max_concurrency") == 256
    found = candidates(table, Scope(model="Qwen/Qwen3-8B", task=CHAT, precisions=("fp8",), measured_only=True))
    assert found.table.sort("batch_ceiling")["batch_ceiling"].to_list() == [8.0, 64.0, 256.0]


def test_every_ledger_is_conserved() -> None:
    table = runs()
    for diagnosis in diagnose_frame(table, curves=Curves(table)):
        total = math.fsum(part.joules_per_output for part in diagnosis.ledger)
        assert total == pytest.approx(diagnosis.total_j_per_output, rel=1e-9)


def test_the_study_is_met_again_where_its_sampler_costs_little(study_data: Path) -> None:
    """Another host, another year and random weights: at small batches energies are within 10 % of the study's."""
    beside = study_beside(study_data / "mlenergy-v3").filter(pl.col("asked_batch") <= 16)
    ratios = (beside["energy_per_output_j"] / beside["study_energy_per_output_j"]).to_list()
    assert len(ratios) == 6
    assert all(0.85 < ratio < 1.10 for ratio in ratios)
