"""Cases that the study does not hold: starved servers, short windows, other GPUs, gaps, and runs of an H200."""

from __future__ import annotations

import json
import math
from typing import Any

import polars as pl
import pytest

from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Bound, Diagnosis, Part
from joulemap.diagnose.series import Curves
from joulemap.records import Basis
from joulemap.store.run_store import RunStore
from joulemap.store.schema import COLUMNS, empty_frame
from joulemap.store.selector import find_run

TYPICAL = (
    "task=lm-arena-chat,model=Qwen/Qwen3-14B,gpu=H100,gpus=1,batch=64",
    "task=gpqa,model=openai/gpt-oss-120b,gpu=H100,gpus=2,batch=256",
    "task=lm-arena-chat,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=128",
)


def diagnosed(row: dict[str, Any], curves: Curves | None = None) -> Diagnosis:
    """Diagnose one row, and check what must hold of any diagnosis."""
    frame = pl.DataFrame([row], schema=COLUMNS, strict=False)
    (diagnosis,) = diagnose_frame(frame, curves=curves or Curves(empty_frame()))
    total = math.fsum(p.joules_per_output for p in diagnosis.ledger)
    assert math.isclose(total, row["energy_per_output_j"], rel_tol=1e-9)
    assert all(0.0 <= p.low <= p.joules_per_output <= p.high for p in diagnosis.ledger)
    assert json.loads(json.dumps(diagnosis.to_json(), allow_nan=False))
    return diagnosis


def typical(store: RunStore, selector: str = TYPICAL[0]) -> dict[str, Any]:
    return dict(find_run(store, selector))


def starved(row: dict[str, Any], times: float) -> dict[str, Any]:
    """Stretch every step: the GPU idles in between, at the power of a loaded GPU that waits."""
    idle_w = {"H100": 115.0, "B200": 195.0}[row["gpu_model"]] * row["num_gpus"]
    power_w = idle_w + (row["power_w"] - idle_w) / times
    throughput = row["output_throughput_per_s"] / times
    slower = {name: row[name] * times for name in row if name.startswith(("itl_", "tpot_")) and row[name]}
    energy = power_w / throughput
    return row | slower | {
        "power_w": power_w,
        "output_throughput_per_s": throughput,
        "energy_per_output_j": energy,
        "energy_per_request_j": energy * row["mean_output_tokens"],
    }  # fmt: skip


@pytest.mark.parametrize("selector", TYPICAL)
@pytest.mark.parametrize("times", [2.5, 5.0])
def test_a_starved_server(study_store: RunStore, study_curves: Curves, selector: str, times: float) -> None:
    row = starved(typical(study_store, selector), times)
    for curves in (study_curves, None):
        diagnosis = diagnosed(row, curves)
        assert diagnosis.bound_by is Bound.HOST
        assert diagnosis.findings[0].name == "starved-by-host"
        shares = {p.part: p.joules_per_output for p in diagnosis.ledger}
        assert shares[Part.STATIC_STARVED] == max(shares.values()) or times < 3
    healthy = diagnosed(typical(study_store, selector), study_curves)
    assert healthy.bound_by is not Bound.HOST
    assert "starved-by-host" not in [f.name for f in healthy.findings]


def test_slower_at_full_power_is_no_waiting(study_store: RunStore) -> None:
    row = typical(study_store)
    row |= {"output_throughput_per_s": row["output_throughput_per_s"] / 2, "energy_per_output_j": row["energy_per_output_j"] * 2}  # fmt: skip  # noqa: E501
    diagnosis = diagnosed(row)
    assert diagnosis.latents["starved_fraction"].value < 0.2
    parts = {p.part: p.joules_per_output for p in diagnosis.ledger}
    assert parts[Part.UNEXPLAINED] > 0.2 * diagnosis.total_j_per_output


def test_counters_bound_the_waiting(study_store: RunStore) -> None:
    row = typical(study_store)
    busy = diagnosed(starved(row, 5.0) | {"sm_utilization": 0.7})
    assert busy.latents["starved_fraction"].value <= 0.3 + 1e-9
    idle = diagnosed(row | {"sm_utilization": 0.1})
    assert idle.latents["starved_fraction"].value >= 0.75 - 1e-9


def test_a_short_window_is_unfit(study_store: RunStore, study_curves: Curves) -> None:
    short = diagnosed(typical(study_store) | {"duration_s": 1.0}, study_curves)
    assert short.findings[0].name == "measurement-unfit"
    assert "1.0 s long" in short.findings[0].evidence[0]


def test_an_invalid_run_is_unfit_and_a_remark_is_not(study_store: RunStore, study_curves: Curves) -> None:
    row = typical(study_store) | {"validity_reasons": ["the transient was not seen to end"]}
    assert "measurement-unfit" not in [f.name for f in diagnosed(row, study_curves).findings]
    invalid = diagnosed(row | {"valid": False}, study_curves)
    assert invalid.findings[0].name == "measurement-unfit"
    assert any("transient" in note for note in invalid.notes)


def test_too_little_demand(study_store: RunStore, study_curves: Curves) -> None:
    row = typical(study_store, "task=lm-arena-chat,model=Qwen/Qwen3-14B,gpu=H100,gpus=1,batch=8")
    diagnosis = diagnosed(row | {"max_num_seqs": 256, "requests_waiting": 0.0})
    assert diagnosis.bound_by is Bound.UNDER_FILLED
    assert diagnosis.findings[0].name == "under-filled"
    assert diagnosed(row).bound_by is Bound.APPLICATION_LIMIT


@pytest.mark.parametrize("gpu", ["A100", "H200", "L40S", "MI300X"])
@pytest.mark.parametrize("engine", ["vllm", "tgi", "sglang", None])
def test_other_gpus_and_engines(study_store: RunStore, study_curves: Curves, gpu: str, engine: str | None) -> None:
    row = typical(study_store) | {"gpu_model": gpu, "engine": engine, "engine_version": "0.4"}
    diagnosis = diagnosed(row, study_curves)
    assert "batch_ceiling" in diagnosis.latents
    own = diagnosed(typical(study_store), study_curves)

    def width(d: Diagnosis) -> float:
        return sum(p.high - p.low for p in d.ledger) / d.total_j_per_output

    assert gpu == "H200" or width(diagnosis) > width(own)


GAPS: tuple[dict[str, Any], ...] = (
    {"power_w": None},
    {"output_throughput_per_s": None},
    {"power_w": None, "output_throughput_per_s": None},
    {"batch_size": None},
    {"batch_size": None, "itl_median_s": None, "itl_mean_s": None, "tpot_mean_s": None},
    {"batch_size": None, "max_num_seqs": None, "output_throughput_per_s": None, "power_w": None},
    {"itl_median_s": None, "itl_mean_s": None},
    {"model_id": "someone/unknown-7b", "nickname": None},
    {"gpu_model": "Unobtainium 9000"},
    {"gpu_model": None, "num_gpus": None},
    {"num_gpus": 0},
    {"mean_output_tokens": None},
    {"task": None},
    {"weight_precision": None, "tensor_parallel": None, "engine": None},
    {"max_num_seqs": None, "batch_size": 0.4},
    {"valid": None, "validity_reasons": None},
    {"loaded_idle_power_w": 90.0, "model_id": "someone/unknown-7b"},
)


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: "+".join(gap))
def test_gaps_are_borne_and_told(study_store: RunStore, study_curves: Curves, gap: dict[str, Any]) -> None:
    diagnosis = diagnosed(typical(study_store) | gap, study_curves)
    if gap.get("batch_size", 1) is None and "batch_size" in diagnosis.latents:
        assert diagnosis.latents["batch_size"].basis is Basis.MODELLED  # Little's law
    if any("from measurements alone" in note for note in diagnosis.notes):
        assert "memory_footprint_bytes" in diagnosis.missing_latents
        assert {p.part for p in diagnosis.ledger} <= {
            Part.STATIC_WORKING, Part.STATIC_STARVED, Part.DYNAMIC, Part.UNEXPLAINED
        }  # fmt: skip


def test_a_cpu_with_assumed_energy(study_store: RunStore) -> None:
    row = typical(study_store) | {
        "model_id": "bartowski/tiny-gguf", "gpu_model": None, "num_gpus": None, "engine": "llama.cpp",
        "annotations": json.dumps({"basis": {"energy_per_output_j": "assumed", "power_w": "assumed"}}),
    }  # fmt: skip
    diagnosis = diagnosed(row)
    assert diagnosis.total_basis is Basis.ASSUMED
    assert all(p.basis is Basis.ASSUMED for p in diagnosis.ledger)
    assert diagnosis.bound_by is None
    assert any("cannot be told" in note for note in diagnosis.notes)


def test_a_repeated_step_reads_no_prompt(study_store: RunStore) -> None:
    row = typical(study_store) | {
        "task": "static-decode", "mean_input_tokens": 200.0, "mean_output_tokens": 600.0,
        "sm_utilization": 0.6, "memory_bandwidth_utilization": 0.5,
    }  # fmt: skip
    diagnosis = diagnosed(row)
    (prefill,) = [p for p in diagnosis.ledger if p.part is Part.PREFILL]
    assert prefill.joules_per_output < 1e-6 * diagnosis.total_j_per_output
    assert diagnosis.latents["context_tokens"].value == pytest.approx(500.0)
    assert diagnosis.latents["memory_bandwidth_utilization"].basis is Basis.MEASURED


def test_a_pipeline_has_no_kv_cache(study_store: RunStore) -> None:
    row = dict(find_run(study_store, "task=text-to-image,model=Stable Diffusion 3.5 Large,gpu=H100,gpus=1,batch=1"))
    diagnosis = diagnosed(row)
    assert diagnosis.missing_latents["kv_cache_utilization"] == "a diffusion pipeline has no KV cache"
    assert diagnosis.to_json()["latents"]["kv_cache_utilization"]["value"] is None
