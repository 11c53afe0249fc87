"""From the dataset alone, the comparison of GPUs finds what the study found."""

from __future__ import annotations

import pytest

from joulemap.errors import UsageError
from joulemap.plan.plan_file import parse_plan
from joulemap.plan.procurement import Comparison, compare_gpus
from joulemap.store.run_store import RunStore
from joulemap.study.comparisons import gpu_generations
from joulemap.study.runs import study_runs

PLAN = """
[[sites]]
name = "north"
cap_kw = 15
pue = 1.2
electricity_usd_per_kwh = 0.1
pools = [{ gpu = "H100", count = 8, price_usd = 25000 }, { gpu = "B200", count = 8, price_usd = 45000 }]

[[demands]]
name = "chat"
task = "lm-arena-chat"
requests_per_s = 300
models = ["Qwen/Qwen3-32B"]
slo = { itl_median_s = 0.05 }
"""


@pytest.fixture(scope="module")
def text(study_store: RunStore) -> Comparison:
    return compare_gpus(study_store.frame, ["H100", "B200"], tasks=["gpqa", "lm-arena-chat"])


def test_b200_wins_63_of_72(text: Comparison) -> None:
    assert sum(d.wins for d in text.duels) == 63
    assert sum(d.pairs for d in text.duels) == 72
    assert min(d.least_change_ratio for d in text.duels) == pytest.approx(-0.82, abs=0.005)
    assert max(d.most_change_ratio for d in text.duels) == pytest.approx(0.53, abs=0.005)


@pytest.mark.parametrize(
    ("kind", "tasks", "wins", "pairs"),
    [("image", ["text-to-image"], 18, 21), ("video", ["text-to-video"], 11, 14)],
)
def test_images_and_videos(study_store: RunStore, kind: str, tasks: list[str], wins: int, pairs: int) -> None:
    (duel,) = compare_gpus(study_store.frame, ["H100", "B200"], tasks=tasks).duels
    assert (duel.wins, duel.pairs) == (wins, pairs)
    assert gpu_generations(study_runs(study_store.frame), kind).height == pairs


def test_every_match_is_the_studys(text: Comparison, study_store: RunStore) -> None:
    theirs = {
        (r["task"], r["model_id"], r["weight_precision"], r["limit_s"]): (r["H100"], r["B200"])
        for r in gpu_generations(study_runs(study_store.frame), "text").iter_rows(named=True)
    }
    ours = {
        (m.task, m.model_id, m.weight_precision, m.limit_s): tuple(s.energy_per_output_j for s in m.sides)
        for m in text.matches
    }
    assert ours.keys() == theirs.keys()
    for key, energies in ours.items():
        assert energies == pytest.approx(theirs[key], rel=1e-4)


def test_h100_wins_at_tight_latency_for_the_two_named_models(text: Comparison) -> None:
    named = {"Qwen/Qwen3-30B-A3B-Thinking-2507", "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8"}
    tight = {m.model_id: m for m in text.matches if m.best == "H100" and m.limit_s == 0.05 and m.model_id in named}
    assert tight.keys() == named
    thinking, instruct = (
        {s.gpu_model: (s.num_gpus, s.batch_ceiling) for s in tight[name].sides}
        for name in sorted(named, reverse=True)
    )
    assert thinking == {"H100": (2, 128), "B200": (1, 64)}
    assert instruct == {"H100": (8, 192), "B200": (2, 64)}


def test_gpt_oss_120b_needs_two_h100s(text: Comparison) -> None:
    (advice,) = [c for c in text.counts if c.model_id == "openai/gpt-oss-120b" and c.gpu_model == "H100"]
    assert (advice.task, advice.num_gpus, advice.fewest_gpus) == ("gpqa", 2, 1)
    assert advice.saved_fraction == pytest.approx(0.68, abs=0.005)


def test_fp8_pays_from_batch_32(study_store: RunStore) -> None:
    found = compare_gpus(study_store.frame, ["H100", "B200"])
    assert found.fp8_first_wins_at_batch == 32
    assert found.fp8_wins_most_from_batch == 64
    below = [p for p in found.precisions if p.batch <= 16]
    assert [p.wins for p in below] == [0, 0]


def test_a_gpu_without_runs_is_predicted_and_marked(study_store: RunStore) -> None:
    found = compare_gpus(study_store.frame, ["H100", "H200"], tasks=["lm-arena-chat"])
    (duel,) = found.duels
    assert duel.pairs > 20
    assert {s.basis.value for m in found.matches for s in m.sides if s.gpu_model == "H200"} == {"modelled"}
    assert any("H200 was not measured" in n for n in found.notes)


def test_fleets_of_one_gpu_model(study_store: RunStore) -> None:
    found = compare_gpus(
        study_store.frame,
        ["H100", "B200"],
        tasks=["lm-arena-chat"],
        spec=parse_plan(PLAN),
        slo_scales=(1.0, 0.3),
    )
    by_gpu = {(f.gpu_model, f.slo_scale): f for f in found.fleets}
    assert by_gpu["B200", 1.0].served_fraction > by_gpu["H100", 1.0].served_fraction
    for gpu in ("H100", "B200"):
        assert by_gpu[gpu, 0.3].value < by_gpu[gpu, 1.0].value
    h100 = by_gpu["H100", 1.0]
    assert h100.capital_usd == h100.gpus * 25_000
    assert h100.ownership_usd_per_year is not None
    assert h100.electricity_usd_per_year is not None
    assert h100.ownership_usd_per_year == pytest.approx(h100.capital_usd / 4 + h100.electricity_usd_per_year)


def test_a_comparison_needs_two(study_store: RunStore) -> None:
    with pytest.raises(UsageError, match="two GPU models"):
        compare_gpus(study_store.frame, ["H100", "NVIDIA H100 80GB HBM3"])
