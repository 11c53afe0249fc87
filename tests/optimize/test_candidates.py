"""Candidates: measured first, then between, then modelled; each number with basis and interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from joulemap.errors import InfeasibleError, UnknownNameError, UsageError
from joulemap.optimize.candidates import CANDIDATE_COLUMNS, Candidates, candidates
from joulemap.optimize.quantities import OUTCOMES
from joulemap.optimize.scope import Scope
from joulemap.store.run_store import open_store
from tests.builders import llm_run


def test_every_measured_configuration_is_a_candidate_as_it_was_measured(
    gpt_oss: Candidates, study_frame: pl.DataFrame
) -> None:
    runs = study_frame.filter((pl.col("nickname") == "GPT OSS 120B") & (pl.col("task") == "gpqa"))
    measured = gpt_oss.table.filter(pl.col("basis") == "measured").with_columns(
        run_id=pl.col("run_ids").list.first()
    )
    joined = measured.join(runs, on="run_id", suffix="_run")
    assert joined.height == runs.height
    for quantity in ("energy_per_output_j", "itl_median_s", "itl_p99_s", "power_w", "batch_size"):
        assert joined[quantity].to_list() == joined[f"{quantity}_run"].to_list()


def test_the_columns_are_those_promised(gpt_oss: Candidates, flux: Candidates) -> None:
    for found in (gpt_oss, flux):
        assert tuple(found.table.columns) == CANDIDATE_COLUMNS
        assert found.table["candidate"].to_list() == list(range(found.table.height))
    assert gpt_oss.latency == "latency_mean_s"
    assert flux.latency == "latency_median_s"


@pytest.mark.parametrize("name", ["gpt_oss", "flux"])
def test_every_number_has_basis_and_interval(name: str, request: pytest.FixtureRequest) -> None:
    table = request.getfixturevalue(name).table
    for quantity in OUTCOMES:
        known = table.filter(pl.col(quantity).is_not_null())
        assert known[f"{quantity}_basis"].null_count() == 0
        assert (known[f"{quantity}_low"] < known[quantity]).all()
        assert (known[quantity] < known[f"{quantity}_high"]).all()
    assert set(table["basis"].unique()) == {"measured", "interpolated", "modelled"}


def test_what_the_study_did_not_measure_is_modelled_in_measured_rows(gpt_oss: Candidates) -> None:
    measured = gpt_oss.table.filter(pl.col("basis") == "measured")
    assert set(measured["ttft_median_s_basis"]) == {"modelled"}
    assert set(measured["energy_per_output_j_basis"]) == {"measured"}


def test_between_two_batches_lies_what_the_logarithms_say(gpt_oss: Candidates) -> None:
    one = gpt_oss.table.filter((pl.col("gpu_model") == "B200") & (pl.col("num_gpus") == 1))
    by_batch = {row["batch_ceiling"]: row for row in one.iter_rows(named=True)}
    low, middle, high = (by_batch[b] for b in (512.0, 768.0, 1024.0))
    share = np.log(768 / 512) / np.log(1024 / 512)
    expected = np.exp(
        (1 - share) * np.log(low["energy_per_output_j"]) + share * np.log(high["energy_per_output_j"])
    )
    assert middle["basis"] == "interpolated"
    assert middle["energy_per_output_j"] == pytest.approx(expected)
    assert set(middle["run_ids"]) == {low["run_ids"][0], high["run_ids"][0]}
    assert middle["max_num_seqs"] == 768


def test_intervals_widen_from_measured_to_modelled(gpt_oss: Candidates) -> None:
    width = pl.col("energy_per_output_j_high") / pl.col("energy_per_output_j")
    widths = dict(gpt_oss.table.group_by("basis").agg(width.median()).iter_rows())
    assert widths["measured"] < widths["interpolated"] < widths["modelled"]


def test_nothing_is_modelled_at_or_between_measured_batches(gpt_oss: Candidates) -> None:
    one = gpt_oss.table.filter((pl.col("gpu_model") == "H100") & (pl.col("num_gpus") == 2))
    measured = one.filter(pl.col("basis") == "measured")["batch_ceiling"]
    modelled = one.filter(pl.col("basis") == "modelled")["batch_ceiling"]
    assert not modelled.is_between(measured.min(), measured.max()).any()


def test_modelled_batches_fit_into_memory(gpt_oss: Candidates) -> None:
    modelled = gpt_oss.table.filter(pl.col("basis") == "modelled")
    assert (modelled["batch_size"] <= modelled["memory_batch_ceiling"]).all()
    assert modelled["fits_probability"].is_between(0.5, 1.0).all()
    one = modelled.filter((pl.col("gpu_model") == "H100") & (pl.col("num_gpus") == 1))
    # One H100 holds little beside the weights: the study stopped at 64.
    assert one["batch_ceiling"].max() < 200  # type: ignore[operator]


def test_siblings_in_other_precisions_belong_together(study_frame: pl.DataFrame) -> None:
    scope = Scope(model="Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", task="lm-arena-chat", measured_only=True)
    table = candidates(study_frame, scope).table
    assert set(table["weight_precision"]) == {"fp8", "bfloat16"}
    assert set(table["basis"]) == {"measured"}
    narrow = candidates(study_frame, Scope(model=scope.model, task=scope.task, precisions=("bf16",))).table
    assert set(narrow["weight_precision"]) == {"bfloat16"}


def test_the_scope_limits_what_is_listed(study_frame: pl.DataFrame) -> None:
    scope = Scope(model="GPT OSS 120B", task="gpqa", gpu_models=("h200",), gpu_counts=(2, 4))
    table = candidates(study_frame, scope).table
    assert set(table["gpu_model"]) == {"H200"}
    assert set(table["num_gpus"]) == {2, 4}
    assert set(table["basis"]) == {"modelled"}


def test_without_any_run_everything_is_modelled_from_the_catalog(study_frame: pl.DataFrame) -> None:
    table = candidates(study_frame.clear(), Scope(model="Qwen/Qwen3-8B", task="gpqa")).table
    assert set(table["basis"]) == {"modelled"}
    assert set(table["gpu_model"]) == {"B200", "H100"}
    assert table["itl_p99_s"].null_count() == table.height  # no run tells how p99 relates to the median


def test_a_model_that_the_catalog_does_not_know_has_its_measured_runs(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add([llm_run(batch=8.0, energy_j=2.0), llm_run(batch=32.0, energy_j=1.0)])
    found = candidates(store.frame, Scope(model="org/model-8b", task="chat"))
    assert dict(found.table["basis"].value_counts().iter_rows()) == {"measured": 2, "interpolated": 3}
    assert any("not modelled" in text for text in found.notes)
    assert found.table["ttft_median_s"].null_count() == 5


def test_a_batch_that_did_not_fill_is_not_raised_further(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    model, task = "Qwen/Qwen3-8B", "lm-arena-chat"
    store.add(
        [
            llm_run(model_id=model, task=task, batch=8.0),
            llm_run(model_id=model, task=task, batch=20.0, ceiling=64, energy_j=0.5),
        ]
    )
    scope = Scope(model=model, task=task, gpu_counts=(1,), precisions=("bf16",))
    table = candidates(store.frame, scope).table
    assert table["batch_ceiling"].max() == 64


@pytest.mark.parametrize(
    ("scope", "error", "message"),
    [
        (Scope(model="GPT OSS 121B", task="gpqa"), UnknownNameError, "GPT OSS 120B"),
        (Scope(model="GPT OSS 120B", task="gpqb"), UnknownNameError, "gpqa"),
        (Scope(model="GPT OSS 120B", task="gpqa", gpu_models=("H1000",)), UnknownNameError, "H100"),
        (Scope(model="GPT OSS 120B", task="gpqa", levers=("bach",)), UnknownNameError, "batch"),
        (Scope(model="GPT OSS 120B", task="text-to-video"), UsageError, "does not make"),
        (
            Scope(model="GPT OSS 120B", task="gpqa", measured_only=True, gpu_counts=(8,)),
            InfeasibleError,
            "GPU count 8",
        ),
    ],
)
def test_bad_scopes(study_frame: pl.DataFrame, scope: Scope, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        candidates(study_frame, scope)


def test_left_out_batches_lie_in_the_intervals_of_what_takes_their_place(study_frame: pl.DataFrame) -> None:
    """Every second measured batch is left out and interpolated: 90 % intervals have to hold most of them."""
    hits: dict[str, list[bool]] = {"energy_per_output_j": [], "power_w": [], "itl_median_s": []}
    for model, task in (("openai/gpt-oss-120b", "gpqa"), ("Qwen/Qwen3-14B", "lm-arena-chat")):
        own = study_frame.filter((pl.col("model_id") == model) & (pl.col("task") == task))
        own = own.sort("gpu_model", "num_gpus", "max_num_seqs")
        position = pl.int_range(pl.len()).over("gpu_model", "num_gpus")
        out = own.filter(position % 2 == 1)
        rest = study_frame.filter(~pl.col("run_id").is_in(out["run_id"].to_list()))
        asked = tuple(float(b) for b in out["max_num_seqs"].unique())
        table = candidates(rest, Scope(model=model, task=task, batches=asked)).table
        both = table.filter(pl.col("basis") == "interpolated").join(
            out.with_columns(batch_ceiling=pl.col("max_num_seqs").cast(pl.Float64)),
            on=["model_id", "gpu_model", "num_gpus", "batch_ceiling"],
            suffix="_run",
        )
        for quantity, held in hits.items():
            held += both[f"{quantity}_run"].is_between(both[f"{quantity}_low"], both[f"{quantity}_high"]).to_list()
    assert len(hits["energy_per_output_j"]) > 20
    assert np.mean(hits["energy_per_output_j"]) >= 0.9
    assert np.mean(hits["power_w"]) >= 0.9
    # The gaps are twice those between true neighbours, and latency jumps more than energy from batch to batch.
    assert np.mean(hits["itl_median_s"]) >= 0.75
