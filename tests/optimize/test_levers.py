"""Levers: their contract, the registry, and the direction of what they do."""

from __future__ import annotations

from types import ModuleType

import polars as pl
import pytest

from joulemap.errors import UnknownNameError
from joulemap.optimize.advice import advice_on
from joulemap.optimize.candidates import Candidates, candidates
from joulemap.optimize.levers import power_limit
from joulemap.optimize.levers.registry import checked, lever_named, registered_levers
from joulemap.optimize.scope import Scope

OWN = {
    *("batch", "precision", "gpu_count", "parallelism", "gpu_generation", "kv_cache_precision"),
    *("memory_share", "host_parallelism", "power_limit", "diffusion_work"),
}


@pytest.fixture(scope="module")
def rows(study_frame: pl.DataFrame) -> pl.DataFrame:
    """Measured candidates of several kinds, on one GPU and on more."""
    scopes = [
        Scope(model="GPT OSS 120B", task="gpqa", measured_only=True),
        Scope(model="Qwen/Qwen3-VL-8B-Instruct", task="video-chat", measured_only=True),
        Scope(model="FLUX.1-dev", task="text-to-image", measured_only=True),
        Scope(model="FLUX.1-dev", task="text-to-image", measured_only=True, gpu_counts=(4,)),
        Scope(model="Qwen/Qwen3-8B", task="gpqa", measured_only=True),
        Scope(model="Qwen/Qwen3-235B-A22B-Thinking-2507", task="gpqa", measured_only=True),
    ]
    tables = [candidates(study_frame, scope).table for scope in scopes]
    return pl.concat([table.sort("energy_per_output_j")[:1] for table in tables])


def test_the_registry_holds_our_own_levers() -> None:
    assert set(registered_levers()) >= OWN
    assert all(name == lever.NAME for name, lever in registered_levers().items())
    with pytest.raises(UnknownNameError, match="batch"):
        lever_named("bacth")


@pytest.mark.parametrize("name", sorted(OWN))
def test_options_change_rows_to_which_the_lever_applies_and_keep_their_columns(
    name: str, rows: pl.DataFrame
) -> None:
    lever = lever_named(name)
    assert any(lever.applies(row) for row in rows.iter_rows(named=True))
    numbered = rows.with_row_index("_case")
    options = lever.options(numbered)
    assert options.height
    assert set(options.columns) == set(numbered.columns)
    applicable = {i for i, row in enumerate(rows.iter_rows(named=True)) if lever.applies(row)}
    assert set(options["_case"]) <= applicable
    changes = lever.change(options) if lever.change is not None else None
    if changes is not None:
        assert len(changes) == options.height
    elif name != "batch":
        before = numbered[options["_case"].to_list()]
        settings = [c for c in options.columns if c in before.columns and c != "_case"]
        unchanged = pl.Series([True] * options.height)
        for column in settings:
            unchanged &= options[column].eq_missing(before[column]) if options.height else unchanged
        assert not unchanged.any()


def test_a_module_without_the_parts_of_a_lever_is_refused() -> None:
    module = ModuleType("incomplete")
    module.NAME = "incomplete"  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="incomplete lacks"):
        checked(module)


def test_a_power_limit_costs_time_and_saves_clocked_energy() -> None:
    # Half the time and none of the static energy is clocked: at clock f, time is 0.5 + 0.5 / f.
    energies = {"static": 0.0, "weights": 50.0, "compute": 50.0}
    found = power_limit._at_limit(energies, 0.5, 70.0, 100.0, 1.0)
    assert found is not None
    energy, time = found
    assert time > 1.0 > energy
    assert 100.0 * energy / time <= 70.0
    assert power_limit._at_limit(energies, 0.5, 200.0, 100.0, 1.0) is None  # does not bind
    assert power_limit._at_limit(energies, 0.5, 1.0, 100.0, 1.0) is None  # out of reach
    all_static = power_limit._at_limit({"static": 100.0, "compute": 0.0}, 0.5, 90.0, 100.0, 1.0)
    assert all_static is None or all_static[0] > 1.0  # waiting longer costs static energy


def test_advice_leaves_out_what_was_searched_and_what_does_not_pay(gpt_oss: Candidates, flux: Candidates) -> None:
    text = gpt_oss.table.filter((pl.col("gpu_model") == "H100") & (pl.col("batch_ceiling") == 384.0))[:1]
    told = advice_on(text, gpt_oss.model, gpt_oss.scope.levers)
    assert {a.lever for a in told} <= {"kv_cache_precision", "power_limit", "memory_share", "parallelism"}
    assert all(a.change.energy_ratio is not None and a.change.energy_ratio < 0.99 for a in told)
    assert all(a.costs and a.evidence for a in told)
    assert [a.change.energy_ratio for a in told] == sorted(a.change.energy_ratio or 0.0 for a in told)
    picture = advice_on(flux.table[:1], flux.model, flux.scope.levers)
    fewer = next(a for a in picture if a.option == "inference_steps=25")
    assert fewer.change.energy_ratio == pytest.approx(0.5, abs=0.05)


def test_a_waiting_gpu_is_helped_by_the_host(study_frame: pl.DataFrame) -> None:
    found = candidates(
        study_frame, Scope(model="Qwen/Qwen3-VL-8B-Instruct", task="video-chat", gpu_models=("B200",))
    )
    row = found.table.filter(pl.col("basis") == "measured").sort("batch_ceiling")[-1:]
    told = {a.lever: a for a in advice_on(row, found.model, found.scope.levers)}
    saved = told["host_parallelism"].change.energy_ratio
    assert saved is not None
    assert saved < 0.9
