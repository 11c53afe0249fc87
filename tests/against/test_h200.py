"""The model and the diagnosis against our own measurements on one NVIDIA H200, on which nothing was fitted."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest

from benchmarks.gpu.compare_h200 import FOLDER, decode_only, runs, zero_shot
from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Bound
from joulemap.diagnose.series import Curves
from joulemap.store.schema import frame_to_runs


def test_the_runs_are_whole() -> None:
    table = runs()
    assert [run.run_id for run in frame_to_runs(table)] == table["run_id"].to_list()
    assert table["valid"].all()
    assert set(table["gpu_model"]) == {"H200"}
    assert set(table["meter"]) == {"nvidia"}


def test_counter_and_integrated_power_agree_over_a_minute() -> None:
    phases = json.loads((FOLDER / "meters.json").read_text())["phases"]
    assert set(phases) == {"bare_idle", "copy", "matmul_bf16", "loaded_idle"}
    for phase in phases.values():
        assert phase["seconds"] > 59.0
        assert abs(phase["disagreement"]) < 0.005


def test_the_memory_counter_tells_the_bytes_that_were_copied() -> None:
    copy = json.loads((FOLDER / "meters.json").read_text())["phases"]["copy"]
    told = copy["gpm"]["memory_bandwidth_utilization"] * 4.8e12
    assert told == pytest.approx(copy["known"]["bytes_per_s"], rel=0.02)


def test_the_modelled_traffic_is_what_the_memory_counter_saw() -> None:
    for case in decode_only():
        # Activations, which the model leaves out, grow with the batch.
        tolerance = 0.02 if case["batch_size"] <= 8 else 0.12
        assert case["modelled_bandwidth_share"] == pytest.approx(case["measured_bandwidth_share"], rel=tolerance)


def test_the_modelled_decode_step_is_near_and_never_far_above() -> None:
    ratios = [case["modelled_s"] / case["measured_s"] for case in decode_only()]
    assert min(ratios) > 0.65
    assert max(ratios) < 1.15


def test_power_was_predicted_within_its_interval() -> None:
    assert sum(zero_shot()["covered_power_w"].to_list()) >= 16  # of 17


def test_serving_by_an_idle_gpu_is_diagnosed_as_such() -> None:
    table = runs()
    served = table.filter(pl.col("task") == "synthetic")
    (diagnosis,) = diagnose_frame(served, curves=Curves(table))
    assert diagnosis.bound_by is Bound.HOST
    assert diagnosis.findings[0].name == "starved-by-host"
    # The counters saw a warp on 14.5 % of the multiprocessors, averaged over time.
    assert served["sm_utilization"].item() == pytest.approx(0.145, abs=0.005)
    assert diagnosis.latents["starved_fraction"].value > 0.6


def test_every_ledger_is_conserved() -> None:
    table = runs()
    for diagnosis in diagnose_frame(table, curves=Curves(table)):
        total = math.fsum(part.joules_per_output for part in diagnosis.ledger)
        assert total == pytest.approx(diagnosis.total_j_per_output, rel=1e-9)
