"""Energy budgets: what fits is what the runs say, and the change that is named would make the others fit."""

from __future__ import annotations

import polars as pl
import pytest

from joulemap.errors import UsageError
from joulemap.plan.budget import EnergyBudget, energy_budget
from joulemap.store.run_store import RunStore


def test_what_fits_is_what_the_runs_say(study_store: RunStore) -> None:
    report = energy_budget(study_store.frame, EnergyBudget(energy_j=200.0), tasks=["lm-arena-chat"])
    least = (
        study_store.frame.filter(task="lm-arena-chat")
        .group_by("model_id")
        .agg(pl.col("energy_per_request_j").min())
    )
    fitting = set(least.filter(pl.col("energy_per_request_j") <= 200.0)["model_id"])
    assert {p.model_id for p in report.pairings if p.fits} == fitting
    assert 0 < len(fitting) < len(report.pairings)
    energies = [p.energy_per_request_j.value for p in report.pairings]
    assert energies == sorted(energies)
    for p in report.pairings:
        assert bool(p.changes) != p.fits
        low, high = p.energy_per_request_j.low, p.energy_per_request_j.high
        assert low is not None
        assert high is not None
        assert low < p.energy_per_request_j.value < high


def test_a_relaxed_limit_that_is_named_would_do(study_store: RunStore) -> None:
    budget = EnergyBudget(energy_j=200.0, itl_limit_s=0.03)
    report = energy_budget(study_store.frame, budget, tasks=["lm-arena-chat"])
    (scout,) = [p for p in report.pairings if "Scout" in p.label]
    assert not scout.fits
    (allow,) = [c for c in scout.changes if c.startswith("allow ")]
    needed = float(allow.split()[1])
    relaxed = EnergyBudget(energy_j=200.0, itl_limit_s=needed * 1.01)
    again = energy_budget(study_store.frame, relaxed, tasks=["lm-arena-chat"])
    assert next(p for p in again.pairings if p.label == scout.label).fits


def test_facility_scope_counts_server_and_pue(study_store: RunStore) -> None:
    gpu, facility = (
        energy_budget(study_store.frame, budget, tasks=["gpqa"])
        for budget in (EnergyBudget(energy_j=1e9), EnergyBudget(energy_j=1e9, scope="facility", pue=1.2))
    )
    by_gpu = {p.model_id: p for p in gpu.pairings}
    for p in facility.pairings:
        assert p.energy_per_request_j.value > 1.2 * by_gpu[p.model_id].energy_per_request_j.value
    assert any("W counted beside each H100" in n for n in facility.notes)


def test_images(study_store: RunStore) -> None:
    report = energy_budget(study_store.frame, EnergyBudget(energy_j=1000.0), tasks=["text-to-image"])
    over = [p for p in report.pairings if not p.fits]
    assert any("denoising steps instead of" in c for p in over for c in p.changes)


def test_runs_without_a_task_are_told(study_store: RunStore) -> None:
    nameless = study_store.frame.head(3).with_columns(task=pl.lit(None, pl.String))
    with pytest.raises(UsageError, match="states its task"):
        energy_budget(nameless, EnergyBudget(energy_j=200.0))


def test_a_budget_is_positive(study_store: RunStore) -> None:
    with pytest.raises(UsageError, match="must be positive"):
        energy_budget(study_store.frame, EnergyBudget(energy_j=0.0))
