"""The study's claims on its own data, on planted faults, and on what is only a part of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from joulemap.store.schema import empty_frame, runs_to_frame
from joulemap.study import Claim, reproduce
from joulemap.study.claim import KNOWN_DIFFERENCE, less_or_more, signed_percent
from joulemap.study.claims import CLAIMS
from tests.builders import llm_run

Fault = Callable[[pl.DataFrame], pl.DataFrame]

IDS = [
    *("size", "task.tokens", "task.energy", "case.qwen32b", "modality.image", "modality.video", "t2i.range"),
    *("t2i.steps", "t2v.range", "batch.r1", "batch.coder", "moe", "gpu.llm", "gpu.image", "gpu.video", "fp8.8-16"),
    *("fp8.17-64", "fp8.65-256", "fp8.coder480b", "gpus.b200", "gpus.h100", "unlock", "wins.h100", "tpw"),
]
DIFFERING = {
    "modality.video": "1.3x – 14.8x",
    "fp8.65-256": "energy: wins 11/12, −29…0%, −11%; ITL: wins 11/12, −18…+3%, −12%",
    "wins.h100": (
        "Qwen 3 30B A3B Thinking 35% less (2x H100 batch 128 vs 1x B200 batch 64); "
        "Qwen 3 235B A22B Instruct FP8 25% less (8x H100 batch 192 vs 2x B200 batch 64)"
    ),
}
"""The claims that the released data is known to differ in, with what it gives."""


def by_id(frame: pl.DataFrame) -> dict[str, Claim]:
    return {claim.id: claim for claim in reproduce(frame)}


def test_the_claims_are_the_published_ones_in_order() -> None:
    assert [claim.id for claim in CLAIMS] == IDS


@pytest.mark.parametrize("claim_id", [i for i in IDS if i not in DIFFERING])
def test_each_claim_is_reproduced(study_frame: pl.DataFrame, claim_id: str) -> None:
    claim = by_id(study_frame)[claim_id]
    assert claim.computed == claim.published
    assert claim.match


@pytest.mark.parametrize("claim_id", DIFFERING)
def test_known_differences_are_reported_as_such(study_frame: pl.DataFrame, claim_id: str) -> None:
    claim = by_id(study_frame)[claim_id]
    assert claim.computed == DIFFERING[claim_id]
    assert not claim.match
    assert claim.is_known_difference
    assert claim.note.startswith(KNOWN_DIFFERENCE)


def test_values_before_rounding(study_frame: pl.DataFrame) -> None:
    """Figures read off the dataset by hand."""
    claims = by_id(study_frame)
    assert claims["task.energy"].values["gpqa_j"] == pytest.approx(4624.57, abs=0.01)
    assert claims["batch.r1"].values["ratio"] == pytest.approx(7.121824 / 2.376152, rel=1e-6)
    assert claims["unlock"].values["saved"] == pytest.approx(1 - 0.08604 / 0.267571, abs=1e-5)
    assert claims["gpus.b200"].values["pairs"] == 37
    assert claims["gpus.h100"].values["pairs"] == 42
    assert claims["fp8.8-16"].values["energy_median"] == pytest.approx(0.30, abs=0.005)


def scaled(column: str, factor: float, *conditions: pl.Expr) -> Fault:
    """Return the fault of one quantity being wrong by a factor in some runs."""

    def plant(frame: pl.DataFrame) -> pl.DataFrame:
        hit = pl.all_horizontal(*conditions) if conditions else pl.lit(value=True)
        assert frame.filter(hit).height, "the fault hits nothing"
        return frame.with_columns(
            pl.when(hit).then(pl.col(column) * factor).otherwise(pl.col(column)).alias(column)
        )

    return plant


def without(*conditions: pl.Expr) -> Fault:
    """Return the fault of some runs being missing."""

    def plant(frame: pl.DataFrame) -> pl.DataFrame:
        left = frame.filter(~pl.all_horizontal(*conditions))
        assert left.height < frame.height, "the fault hits nothing"
        return left

    return plant


def model(name: str) -> pl.Expr:
    return pl.col("model_id").str.ends_with(name)


def task(name: str) -> pl.Expr:
    return pl.col("task") == name


B200, H100 = pl.col("gpu_model") == "B200", pl.col("gpu_model") == "H100"
FP8 = pl.col("weight_precision") == "fp8"
ENERGY = "energy_per_output_j"
FAULTS: dict[str, Fault] = {
    "size": without(pl.col("source_row") == 3, task("gpqa")),
    "task.tokens": scaled("mean_output_tokens", 1.1, task("gpqa"), B200),
    "task.energy": scaled("energy_per_request_j", 1.1, task("lm-arena-chat"), B200),
    "case.qwen32b": without(model("Qwen3-32B"), pl.col("max_num_seqs") == 512),
    "modality.image": scaled(ENERGY, 1.5, task("image-chat")),
    "modality.video": scaled(ENERGY, 1.5, task("video-chat")),
    "t2i.range": scaled(ENERGY, 2.0, model("FLUX.1-dev")),
    "t2i.steps": scaled(ENERGY, 0.5, model("HunyuanDiT-v1.2-Diffusers")),
    "t2v.range": scaled(ENERGY, 1.1, model("HunyuanVideo")),
    "batch.r1": scaled(ENERGY, 0.5, model("DeepSeek-R1-0528"), pl.col("max_num_seqs") == 128),
    "batch.coder": without(model("Qwen3-Coder-30B-A3B-Instruct"), pl.col("max_num_seqs") == 1024),
    "moe": scaled(ENERGY, 1.05, model("Qwen3-32B")),
    "gpu.llm": scaled(ENERGY, 1.3, B200),
    "gpu.image": scaled(ENERGY, 1.1, B200),
    "gpu.video": scaled("latency_median_s", 3.0, H100),
    "fp8.8-16": scaled(ENERGY, 1.05, FP8),
    "fp8.17-64": scaled("itl_median_s", 1.1, FP8),
    "fp8.65-256": scaled(ENERGY, 1.05, FP8),
    "fp8.coder480b": scaled(ENERGY, 0.1, FP8),
    "gpus.b200": scaled(ENERGY, 0.6, pl.col("num_gpus") > 1),
    "gpus.h100": scaled("itl_median_s", 2.0, pl.col("num_gpus") > 1),
    "unlock": scaled(ENERGY, 1.1, model("gpt-oss-120b"), pl.col("num_gpus") == 2),
    "wins.h100": scaled(ENERGY, 1.1, H100),
    "tpw": scaled("power_w", 1.001, pl.col("source_row") == 3, task("gpqa")),
}


@pytest.mark.parametrize("claim_id", IDS)
def test_a_planted_fault_is_seen(study_frame: pl.DataFrame, claim_id: str) -> None:
    claim = by_id(FAULTS[claim_id](study_frame))[claim_id]
    assert claim.computed is not None
    assert not claim.match
    assert not claim.is_known_difference
    if claim_id in DIFFERING:
        assert claim.computed != DIFFERING[claim_id]
        assert claim.note.startswith("differs from what was published and from the released data")


def test_other_runs_in_the_store_change_nothing(study_frame: pl.DataFrame) -> None:
    own = [
        llm_run(task="gpqa", model_id="Qwen/Qwen3-32B", batch=b, energy_j=0.001, gpu_model="B200") for b in (8, 16)
    ]
    mixed = pl.concat([study_frame, runs_to_frame(own, stored_at=datetime.now(UTC))])
    assert reproduce(mixed) == reproduce(study_frame)


def test_invalid_runs_do_not_count(study_frame: pl.DataFrame) -> None:
    wrong = study_frame.filter(model("Qwen3-32B")).with_columns(
        pl.lit(value=False).alias("valid"),
        pl.lit(0.001).alias(ENERGY),
        pl.lit(99_999, pl.Int64).alias("source_row"),
    )
    assert reproduce(pl.concat([study_frame, wrong])) == reproduce(study_frame)


def test_the_later_of_two_rows_counts_in_whichever_order_they_are_stored(study_frame: pl.DataFrame) -> None:
    last = (model("Qwen3-Coder-30B-A3B-Instruct"), B200, pl.col("num_gpus") == 1, pl.col("max_num_seqs") == 1024)
    later = study_frame.filter(*last).with_columns(pl.col(ENERGY) / 2, source_row=pl.col("source_row") + 10_000)
    assert later.height == 1
    for both in ([study_frame, later], [later, study_frame]):
        assert by_id(pl.concat(both))["batch.coder"].values["ratio"] == pytest.approx(2 * 5.443988748)


@pytest.mark.parametrize("missing", ["gpqa", "lm-arena-chat", "image-chat", "text-to-image", "text-to-video"])
def test_a_missing_task_is_named(study_frame: pl.DataFrame, missing: str) -> None:
    claims = by_id(study_frame.filter(pl.col("task") != missing))
    without_value = [claim for claim in claims.values() if claim.computed is None]
    assert without_value
    for claim in without_value:
        assert not claim.match
        assert missing in claim.note
    assert not claims["size"].match


def test_a_missing_model_is_named(study_frame: pl.DataFrame) -> None:
    claims = by_id(study_frame.filter(~model("Qwen3-VL-8B-Instruct")))
    assert claims["modality.image"].computed is None
    assert "Qwen/Qwen3-VL-8B-Instruct on image-chat" in claims["modality.image"].note
    assert "from 1,834 runs" in claims["size"].note


def test_a_mismatch_on_part_of_the_data_says_so(study_frame: pl.DataFrame) -> None:
    part = study_frame.filter(pl.col("max_num_seqs").is_null() | (pl.col("max_num_seqs") <= 64))
    claim = by_id(part)["task.energy"]
    assert claim.computed is not None
    assert "of the study's release, which has 1,858" in claim.note


@pytest.mark.parametrize("seed", range(4))
def test_parts_of_the_data_never_fail(study_frame: pl.DataFrame, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for count in (1, 10, 100, 1000):
        rows = draw.choice(study_frame.height, count, replace=False)
        for claim in reproduce(study_frame[sorted(rows.tolist())]):
            assert claim.computed is not None or claim.note
            assert isinstance(claim.match, bool)


@pytest.mark.parametrize(
    "column",
    [
        *("task", "nickname", "gpu_model", "num_gpus", "weight_precision", "max_num_seqs", "mean_output_tokens"),
        *("energy_per_output_j", "energy_per_request_j", "power_w", "batch_size", "output_throughput_per_s"),
        *("itl_median_s", "latency_median_s", "inference_steps", "total_params_billions", "source_row"),
    ],
)
def test_data_without_a_quantity_never_fails(study_frame: pl.DataFrame, column: str) -> None:
    blank = study_frame.with_columns(pl.lit(None).cast(study_frame.schema[column]).alias(column))
    for claim in reproduce(blank):
        assert claim.computed is not None or claim.note


def test_other_peoples_runs_lack_everything() -> None:
    runs = [llm_run(batch=b, energy_j=1 / b) for b in (8.0, 16.0)]
    for frame in (runs_to_frame(runs, stored_at=datetime.now(UTC)), empty_frame()):
        claims = by_id(frame)
        assert list(claims) == IDS
        assert not any(claim.match for claim in claims.values() if claim.id != "tpw")
        assert all(claim.note for claim in claims.values())
        assert claims["moe"].computed is None
        assert "Qwen/Qwen3-32B" in claims["moe"].note


@pytest.mark.parametrize(
    ("change", "text"), [(0.128, "+13"), (-0.05, "−5"), (0.0015, "0"), (-0.004, "0"), (1.0, "+100"), (-0.006, "−1")]
)
def test_signed_percent(change: float, text: str) -> None:
    assert signed_percent(change) == text


@pytest.mark.parametrize(("change", "text"), [(-0.349, "35% less"), (0.532, "53% more")])
def test_less_or_more(change: float, text: str) -> None:
    assert less_or_more(change) == text
