"""What the study found by hand is found, with the right cause first; and every ledger is conserved."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest

from joulemap.diagnose.diagnosis import Bound, Diagnosis, Part
from joulemap.diagnose.explain import explain
from joulemap.diagnose.findings.registry import registered_findings
from joulemap.store.run_store import RunStore
from joulemap.store.selector import find_run

Diagnoses = Mapping[str, Diagnosis]


def of(store: RunStore, diagnoses: Diagnoses, selector: str) -> Diagnosis:
    return diagnoses[find_run(store, selector)["run_id"]]


def names(diagnosis: Diagnosis) -> list[str]:
    return [finding.name for finding in diagnosis.findings]


def unexplained(diagnosis: Diagnosis) -> float:
    (part,) = [p for p in diagnosis.ledger if p.part is Part.UNEXPLAINED]
    return part.joules_per_output / diagnosis.total_j_per_output


def test_every_run_is_diagnosed_and_every_ledger_conserved(
    study_store: RunStore, study_diagnoses: Diagnoses
) -> None:
    energies = dict(study_store.frame.select("run_id", "energy_per_output_j").iter_rows())
    assert len(study_diagnoses) == study_store.frame.height == 1858
    for run_id, diagnosis in study_diagnoses.items():
        total = math.fsum(part.joules_per_output for part in diagnosis.ledger)
        assert math.isclose(total, energies[run_id], rel_tol=1e-9)
        for part in diagnosis.ledger:
            assert 0.0 <= part.low <= part.joules_per_output <= part.high
        assert diagnosis.ideal_j_per_output > 0.0
        above = math.prod(f.ratio for f in diagnosis.above_ideal)
        assert math.isclose(above * diagnosis.ideal_j_per_output, total, rel_tol=1e-9)
        scores = [f.confidence for f in diagnosis.findings]
        assert all(0.0 <= s <= 1.0 for s in scores)
        assert all(f.evidence and f.falsified_by for f in diagnosis.findings)


def test_little_is_unexplained(study_diagnoses: Diagnoses) -> None:
    shares = np.array([unexplained(d) for d in study_diagnoses.values()])
    assert np.median(shares) <= 0.10
    assert np.quantile(shares, 0.9) <= 0.15


def test_1_problem_solving_against_conversation(study_store: RunStore, study_diagnoses: Diagnoses) -> None:
    system = "model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max"
    explanation = explain(f"task=gpqa,{system}", f"task=lm-arena-chat,{system}", store=study_store)
    ratios = {f.name: f.ratio for f in explanation.factors}
    assert max(ratios, key=ratios.__getitem__) == "output_tokens"
    assert set(ratios) == {"output_tokens", "task_at_same_batch", "batch"}
    solving = of(study_store, study_diagnoses, f"task=gpqa,{system}")
    assert solving.bound_by is Bound.MEMORY_CAPACITY
    assert names(solving)[0] == "batch-ceiling-by-kv-memory"
    assert "long-context" in names(solving)


def test_2_video_starves_the_gpu(study_store: RunStore, study_diagnoses: Diagnoses) -> None:
    video = of(
        study_store,
        study_diagnoses,
        "task=video-chat,model=Qwen/Qwen3-VL-8B-Instruct,gpu=B200,gpus=1,batch=max",
    )
    assert video.bound_by is Bound.HOST
    assert names(video)[0] == "starved-by-host"
    assert video.latents["kv_cache_utilization"].value < 0.5
    text = " ".join(video.findings[0].evidence)
    assert "KV cache is mostly empty" in text
    assert "video" in text


def test_3_one_curve_ends_unsaturated_the_other_flattens(study_store: RunStore, study_diagnoses: Diagnoses) -> None:
    unsaturated = of(study_store, study_diagnoses, "task=gpqa,model=DeepSeek R1,gpu=B200,gpus=8,batch=max")
    assert unsaturated.bound_by is Bound.MEMORY_CAPACITY
    assert names(unsaturated)[0] == "batch-ceiling-by-kv-memory"
    assert "not-saturated-at-largest-batch" in names(unsaturated)
    flat = "task=sourcegraph-fim,model=Qwen/Qwen3-Coder-30B-A3B-Instruct,gpu=B200,gpus=1,batch="
    for batch in ("512", "max"):
        diagnosis = of(study_store, study_diagnoses, flat + batch)
        assert diagnosis.bound_by is Bound.COMPUTE
        assert "not-saturated-at-largest-batch" not in names(diagnosis)
    early = of(study_store, study_diagnoses, flat + "32")
    assert early.bound_by is Bound.APPLICATION_LIMIT


def test_4_a_second_gpu_unlocks_batch(study_store: RunStore, study_diagnoses: Diagnoses) -> None:
    model = "task=gpqa,model=openai/gpt-oss-120b,gpu=H100"
    one = of(study_store, study_diagnoses, f"{model},gpus=1,batch=max")
    assert one.bound_by is Bound.MEMORY_CAPACITY
    assert names(one)[0] == "more-gpus-would-unlock-batch"
    assert one.findings[0].change.energy_ratio == pytest.approx(0.32, abs=0.01)
    two = of(study_store, study_diagnoses, f"{model},gpus=2,batch=64")
    assert names(two)[0] == "more-gpus-only-add-communication"


def test_5_fp8_costs_at_small_batch_and_pays_at_large(study_store: RunStore, study_diagnoses: Diagnoses) -> None:
    frame = study_store.frame.filter(pl.col("data_parallel").fill_null(1) == 1)
    paired = {i: names(study_diagnoses[i]) for i in frame["run_id"]}
    small = frame.filter((pl.col("weight_precision") == "fp8") & pl.col("max_num_seqs").is_between(8, 16))
    costly = [i for i in small["run_id"] if "quantisation-overhead-at-small-batch" in paired[i]]
    assert len(costly) >= 7
    assert all(paired[i][0] == "quantisation-overhead-at-small-batch" for i in costly)
    large = frame.filter((pl.col("weight_precision") == "bfloat16") & (pl.col("max_num_seqs") >= 65))
    assert sum("fp8-pays-from-batch" in paired[i] for i in large["run_id"]) >= 7
    wide_small = frame.filter((pl.col("weight_precision") == "bfloat16") & (pl.col("max_num_seqs") <= 16))
    assert not any("fp8-pays-from-batch" in paired[i] for i in wide_small["run_id"])


def test_6_attention_replicas_wait_for_each_other(study_store: RunStore, study_diagnoses: Diagnoses) -> None:
    replicated = study_store.frame.filter(pl.col("data_parallel") > 1)["run_id"]
    assert len(replicated) == 16
    for run_id in replicated:
        assert names(study_diagnoses[run_id])[0] == "attention-data-parallel-imbalance"


def test_7_more_gpus_at_the_same_batch(study_store: RunStore, study_diagnoses: Diagnoses) -> None:
    found = [d for d in study_diagnoses.values() if "more-gpus-only-add-communication" in names(d)]
    text = [d for d in found if d.output_unit == "token"]
    assert len(text) > 60
    assert all((f.change.energy_ratio or 1) < 1 for d in found for f in d.findings if "more-gpus" in f.name)
    model = "task=gpqa,model=openai/gpt-oss-120b,gpu=H100"
    explanation = explain(f"{model},gpus=2,batch=64", f"{model},gpus=1,batch=64", store=study_store)
    factors = {f.name: f for f in explanation.factors}
    assert factors["gpu_count"].ratio > 1.0
    assert "communication" in factors["gpu_count"].cause


def test_8_diffusion(study_store: RunStore, study_diagnoses: Diagnoses) -> None:
    small = of(
        study_store, study_diagnoses, "task=text-to-image,model=Stable Diffusion 3.5 Medium,gpu=B200,gpus=1,batch=1"
    )
    assert names(small)[0] == "gpu-too-large-for-the-model"
    assert "older-gpu-is-more-efficient-here" in names(small)
    explanation = explain(
        "task=text-to-image,model=Hunyuan-DiT 1.2,gpu=B200,batch=best",
        "task=text-to-image,model=Stable Diffusion 3.5 Large,gpu=B200,batch=best",
        store=study_store,
    )
    ratios = {f.name: f.ratio for f in explanation.factors}
    assert max(ratios, key=ratios.__getitem__) == "steps"
    video = of(study_store, study_diagnoses, "task=text-to-video,model=HunyuanVideo,gpu=B200,gpus=1,batch=best")
    assert names(video)[0] == "diffusion-steps-resolution-frames-dominate"
    assert "frames" in video.findings[0].evidence[0]
    assert "pixels" in video.findings[0].evidence[0]


def test_9_active_parameters_set_the_work_total_ones_the_memory(study_store: RunStore) -> None:
    dense = "task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=best"
    explanation = explain(dense, "task=gpqa,model=Qwen 3 30B A3B Thinking,gpu=B200,gpus=1,batch=best",
                          store=study_store)  # fmt: skip
    factors = {f.name: f for f in explanation.factors}
    assert factors["model"].ratio > 1.3
    assert "active parameters" in factors["model"].cause
    larger = explain("task=gpqa,model=Qwen 3 235B A22B Thinking,gpu=B200,gpus=4,batch=64",
                     "task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=64", store=study_store)  # fmt: skip
    assert any("total" in f.cause and "memory" in f.cause for f in larger.factors)


def test_every_finding_fires_somewhere_and_not_on_a_run_beside_it(
    study_store: RunStore, study_diagnoses: Diagnoses
) -> None:
    """A neighbour has the same task, and shares the model or the GPU."""
    rows = {row["run_id"]: row for row in study_store.frame.iter_rows(named=True)}
    fired = {i: set(names(d)) for i, d in study_diagnoses.items()}
    planted_elsewhere = {"under-filled", "measurement-unfit", "held-by-front-end"}  # the study has no such run
    for name in {f.NAME for f in registered_findings()} - planted_elsewhere:
        seen = [i for i, found in fired.items() if name in found]
        assert seen, name
        spared = {
            (rows[i]["task"], rows[i][k], k)
            for i, found in fired.items()
            if name not in found
            for k in ("model_id", "gpu_model")
        }
        assert any((rows[i]["task"], rows[i][k], k) in spared for i in seen for k in ("model_id", "gpu_model")), (
            name
        )
