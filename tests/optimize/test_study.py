"""From the dataset alone the optimiser finds what the study found by hand."""

from __future__ import annotations

from statistics import median

import polars as pl
import pytest

from joulemap.optimize import Constraints, Scope, frontier, recommend
from joulemap.optimize.candidates import Candidates, candidates
from joulemap.optimize.same_batch import SameBatch, same_batch
from joulemap.optimize.tradeoff import compare
from joulemap.store.run_store import RunStore


def test_gpt_oss_on_h100_needs_two_gpus_for_least_energy(study_store: RunStore) -> None:
    scope = Scope(model="GPT OSS 120B", task="gpqa", gpu_models=("H100",))
    found = recommend(scope, current="gpu=H100,gpus=1,batch=best", store=study_store)
    assert found.choice["num_gpus"] == 2
    assert found.choice["batch_ceiling"] == 2048
    assert found.choice["basis"] == "measured"
    assert found.way is not None
    assert 1 - found.way.energy_ratio == pytest.approx(0.68, abs=0.005)
    assert found.saves_probability == pytest.approx(1.0, abs=1e-6)
    gpus, batch = found.steps
    assert gpus.knob == "gpu_count"
    assert gpus.change.energy_ratio is not None
    assert gpus.change.energy_ratio > 1.0  # at the same batch the second GPU costs energy
    assert batch.knob == "batch"
    assert batch.change.energy_ratio is not None
    assert batch.change.energy_ratio < 0.35


def test_the_second_gpu_is_shown_to_unlock_the_batch(study_store: RunStore) -> None:
    shown = frontier(Scope(model="GPT OSS 120B", task="gpqa", gpu_models=("H100",)), store=study_store)
    (pair,) = shown.same_batch
    assert (pair.fewer_largest_batch, pair.more_largest_batch) == (64, 2048)
    assert pair.energy_ratio is not None
    assert pair.latency_ratio is not None
    assert pair.energy_ratio > 1.0 > pair.latency_ratio
    assert pair.verdict == "unlocks batch 2048: 68 % less at its own best"
    assert set(shown.points.filter(pl.col("basis") == "measured")["num_gpus"]) == {2}


EXCEPTIONS = [
    ("Qwen/Qwen3-30B-A3B-Thinking-2507", "gpqa", (), 0.35, (2, 128), (1, 64)),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "lm-arena-chat", ("fp8",), 0.25, (8, 192), (2, 64)),
]
"""Model, task, precisions, how much less H100 takes, and both sides' GPU count and batch."""


@pytest.mark.parametrize(("model", "task", "precisions", "less", "h100", "b200"), EXCEPTIONS)
def test_h100_beats_b200_at_tight_latency(
    study_store: RunStore,
    model: str,
    task: str,
    precisions: tuple[str, ...],
    less: float,
    h100: tuple[int, int],
    b200: tuple[int, int],
) -> None:
    scope = Scope(model=model, task=task, precisions=precisions, measured_only=True)
    found = candidates(study_store.frame, scope)
    (at,) = compare(found, ["gpu=H100", "gpu=B200"], limits=[0.05]).limits
    assert at.energy_ratio == pytest.approx(1 - less, abs=0.005)
    # The study's rule takes measured values as they are, which is a confidence of one half.
    limits = Constraints(itl_median_s=0.05, confidence=0.5)
    sides = {
        gpu: recommend(
            Scope(model=model, task=task, precisions=precisions, gpu_models=(gpu,), measured_only=True),
            limits,
            store=study_store,
        ).choice
        for gpu in ("H100", "B200")
    }
    assert {(sides["H100"]["num_gpus"], sides["H100"]["batch_ceiling"])} == {h100}
    assert {(sides["B200"]["num_gpus"], sides["B200"]["batch_ceiling"])} == {b200}
    # A careful choice, which leaves room for what a measurement does not repeat to, is H100 too.
    assert recommend(scope, Constraints(itl_median_s=0.05), store=study_store).choice["gpu_model"] == "H100"


def of_task(frame: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """The runs of a scope's task: enough for measured candidates, and quicker than all."""
    return frame.filter(pl.col("task") == scope.task)


@pytest.fixture(scope="module")
def fp8_pairs(study_frame: pl.DataFrame) -> list[SameBatch]:
    """FP8 against BF16 at the same GPU count, for all models that have both; not the 480B Coder, as the study."""
    both = study_frame.filter((pl.col("weight_precision") == "fp8") & ~pl.col("model_id").str.contains("480B"))
    scopes = [
        Scope(model=model, task=task, measured_only=True)
        for model, task in both.select("model_id", "task").unique().iter_rows()
    ]
    pairs = [pair for scope in scopes for pair in same_batch(candidates(of_task(study_frame, scope), scope).table)]
    return [pair for pair in pairs if pair.knob == "weight_precision" and pair.batches]


def test_fp8_pays_from_batch_32(fp8_pairs: list[SameBatch]) -> None:
    ratios: dict[float, list[float]] = {}
    for pair in fp8_pairs:
        for batch, ratio in zip(pair.batches, pair.energy_ratios, strict=True):
            ratios.setdefault(batch, []).append(ratio)
    assert len(ratios[8.0]) == 7
    assert min(*ratios[8.0], *ratios[16.0]) > 1.0  # below 32 it never pays
    assert min(ratios[32.0]) < 1.0  # at 32 it begins to
    assert median(ratios[64.0]) < 1.0
    first = min(p.pays_from_batch for p in fp8_pairs if p.pays_from_batch is not None)
    assert first == 32.0


def test_the_choice_of_precision_follows_the_batch(study_store: RunStore) -> None:
    def precision(least: int) -> str:
        table = found.table.filter((pl.col("batch_ceiling") == least) & (pl.col("num_gpus") == 8))
        return str(table.sort("energy_per_output_j")["weight_precision"][0])

    scope = Scope(
        model="Qwen/Qwen3-235B-A22B-Instruct-2507", task="lm-arena-chat", gpu_models=("H100",), measured_only=True
    )
    found: Candidates = candidates(study_store.frame, scope)
    assert [precision(b) for b in (8, 16, 32, 64, 128)] == ["bfloat16", "bfloat16", "fp8", "fp8", "fp8"]


def test_more_gpus_at_the_same_batch_trade_energy_for_latency(study_frame: pl.DataFrame) -> None:
    text = study_frame.filter(pl.col("task").is_in(["gpqa", "lm-arena-chat"]))
    scopes = [
        Scope(model=model, task=task, measured_only=True)
        for model, task in text.select("model_id", "task").unique().iter_rows()
    ]
    pairs = [
        pair
        for scope in scopes
        for pair in same_batch(candidates(of_task(study_frame, scope), scope).table)
        if pair.knob == "num_gpus" and pair.energy_ratio is not None and pair.latency_ratio is not None
    ]
    assert len(pairs) >= 15
    assert sum((p.energy_ratio or 0.0) > 1.0 for p in pairs) / len(pairs) > 0.9
    assert sum((p.latency_ratio or 9.0) < 1.0 for p in pairs) / len(pairs) > 0.8
    assert any(p.verdict == "trades energy for latency" for p in pairs)
    for pair in pairs:
        if pair.verdict.startswith("unlocks"):
            assert pair.best_energy_ratio < 1.0
