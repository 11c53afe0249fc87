"""What holds for every formula: arrays give what floats give, results are finite, and move the right way."""

from __future__ import annotations

import inspect
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulemap.physics import communication, compute_volume, diffusion, host, memory, power, step_time
from tests.physics.formulas import FORMULAS, Formula

MODULES = (communication, compute_volume, diffusion, host, memory, power, step_time)
NOT_ELEMENT_WISE = {"diffusion_volume", "latent_tokens"}
IDS = [f.function.__name__ for f in FORMULAS]


def drawn(formula: Formula, seed: int, count: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.uniform(low, high, count) for name, (low, high) in formula.ranges.items()}


def public_functions(module: ModuleType) -> set[str]:
    own = inspect.getmembers(module, inspect.isfunction)
    return {n for n, f in own if f.__module__ == module.__name__ and not n.startswith("_")}


def test_every_public_formula_is_listed() -> None:
    assert {n for m in MODULES for n in public_functions(m)} - NOT_ELEMENT_WISE == set(IDS)


@pytest.mark.parametrize("formula", FORMULAS, ids=IDS)
def test_an_array_gives_what_floats_give(formula: Formula) -> None:
    arrays = drawn(formula, seed=1, count=25)
    together = np.broadcast_to(formula.function(**arrays, **formula.fixed), 25)
    alone = [
        float(formula.function(**{n: float(a[i]) for n, a in arrays.items()}, **formula.fixed)) for i in range(25)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    assert np.isfinite(together).all()
    assert (together >= 0).all()


@pytest.mark.parametrize(
    "formula", [f for f in FORMULAS if f.rising or f.falling], ids=lambda f: f.function.__name__
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_it_moves_the_right_way(formula: Formula, data: st.DataObject) -> None:
    base = {n: data.draw(st.floats(low, high), label=n) for n, (low, high) in formula.ranges.items()}
    for sign, names in ((1.0, formula.rising), (-1.0, formula.falling)):
        for name in names:
            more = data.draw(st.floats(base[name], formula.ranges[name][1]), label=f"more {name}")
            before = float(formula.function(**base, **formula.fixed))
            after = float(formula.function(**{**base, name: more}, **formula.fixed))
            assert sign * (after - before) >= -1e-9 * max(abs(before), abs(after), 1e-300)


@pytest.mark.parametrize("function", [f.function for f in FORMULAS], ids=IDS)
def test_its_docstring_has_equation_validity_reference_and_example(function: object) -> None:
    text = inspect.getdoc(function) or ""
    assert "``" in text.split("Args:")[0]
    assert "Args:" in text
    assert "Reference:" in text
    assert ">>>" in text
    assert any(word in text for word in ("Valid", "Exact", "valid", "Leaves out"))
