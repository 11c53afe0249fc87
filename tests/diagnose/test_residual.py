"""What the knobs leave of a ratio: settings that are no knob, and GPUs that waited."""

from __future__ import annotations

import math

import polars as pl
import pytest

from joulemap.diagnose.explain import explain_rows
from joulemap.diagnose.explanation import Explanation
from joulemap.diagnose.series import Curves
from joulemap.records import Basis
from joulemap.store.schema import COLUMNS
from tests.diagnose.synthetic import Row, run, scaled, starved

CHAT = "lm-arena-chat"
MODEL = "Qwen/Qwen3-14B"


def explained(a: Row, b: Row, *, measured_only: bool = False) -> Explanation:
    a, b = a | {"run_id": "a" * 12}, b | {"run_id": "b" * 12}
    curves = Curves(pl.DataFrame([a, b], schema=COLUMNS, strict=False))
    found = explain_rows(a, b, curves=curves, quantity="energy_per_output_j", measured_only=measured_only)
    product = math.prod(f.ratio for f in found.factors) * found.unexplained_ratio
    assert product == pytest.approx(found.ratio, rel=1e-9)
    return found


def plain(**lengths: float) -> Row:
    return run(MODEL, "H200", 1, CHAT, 64, ceiling=64, **lengths)


@pytest.mark.parametrize("times", [2.5, 4.0])
def test_a_starved_run_of_one_configuration(times: float) -> None:
    found = explained(starved(plain(), times), plain())
    (waiting,) = found.factors
    assert waiting.name == "waiting"
    assert waiting.basis is Basis.MODELLED
    assert 1.1 < waiting.ratio <= found.ratio
    other_way = explained(plain(), starved(plain(), times)).factors[0]
    assert other_way.name == "waiting"
    assert other_way.ratio < 1.0
    assert explained(starved(plain(), times), plain(), measured_only=True).factors == ()


def test_longer_prompts_and_replies() -> None:
    found = explained(plain(prompt=8000, reply=200), plain(prompt=200, reply=200))
    assert [f.name for f in found.factors] == ["prompt_length"]
    assert found.unexplained_ratio == pytest.approx(1.0, abs=0.02)
    longer = explained(plain(prompt=200, reply=20_000), plain(prompt=200, reply=200))
    assert [f.name for f in longer.factors] == ["context"]


def test_a_cache_in_half_the_bytes() -> None:
    wide = plain(prompt=20_000, reply=2_000) | {"kv_cache_precision": "bfloat16"}
    narrow = run(MODEL, "H200", 1, CHAT, 64, ceiling=64, prompt=20_000, reply=2_000, kv_cache_precision="fp8")
    assert [f.name for f in explained(narrow, wide).factors] == ["kv_cache_precision"]


def test_what_nothing_tells_is_left_and_said() -> None:
    found = explained(scaled(plain(), power=0.6), plain())
    assert found.factors == ()
    assert found.unexplained_ratio == pytest.approx(found.ratio)
    assert "nothing that the runs state tells why" in found.notes[-1]


def test_waiting_that_a_knob_may_hold_is_noted() -> None:
    older = starved(run(MODEL, "A100", 1, CHAT, 64, ceiling=64), 3.0)
    found = explained(older, plain())
    assert [f.name for f in found.factors] == ["gpu_generation"]
    assert any("may be the host's" in note for note in found.notes)
