"""A plan file is read into internal units; what is wrong in one is told with line, field, expectation, example."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.errors import InputError
from joulemap.plan.plan_file import EXAMPLE, parse_plan, read_plan
from joulemap.toml_file import line_of


def test_the_example_in_internal_units() -> None:
    spec = parse_plan(EXAMPLE)
    assert spec.sites[0].cap_w == (40_000.0,)
    assert spec.sites[0].pools[0].gpu_model == "H100"
    assert spec.demands[0].slo.itl_median_s == 0.05
    assert spec.hours == 1


def test_names_are_those_of_the_catalog() -> None:
    spec = parse_plan(EXAMPLE.replace("Qwen/Qwen3-32B", "qwen 3 32b").replace("H100", "NVIDIA H100 80GB HBM3"))
    assert dict(spec.demands[0].models) == {"Qwen/Qwen3-32B": 1.0}
    assert spec.sites[0].pools[0].gpu_model == "H100"


def test_hours_and_facility() -> None:
    text = EXAMPLE.replace("requests_per_s = 40", "requests_per_s = [1, 2, 3]").replace(
        "pue = 1.2", 'facility = "google"'
    )
    spec = parse_plan(text)
    assert spec.hours == 3
    assert spec.sites[0].pue == 1.09


MALFORMED = {
    "a text for a number": ("cap_kw = 40", 'cap_kw = "a lot"', 6, "sites[0].cap_kw", "cap_kw = 40"),
    "a mistyped name": ("cap_kw", "cap_kv", 6, "did you mean 'cap_kw'", "cap_kw = 40"),
    "a negative count": ("count = 32", "count = -1", 8, "count is -1", "count = 32"),
    "a missing field": ('task = "lm-arena-chat"\n', "", 10, "demands[0].task is missing", 'task = "lm-arena-chat"'),
    "an unknown objective": ('"value"', '"valu"', 2, "plan.objective", 'objective = "value"'),
    "an unknown GPU": ("H100", "H1000", 8, "did you mean 'H100'", 'gpu = "H100"'),
    "no PUE": ("pue = 1.2\n", "", 4, "give either pue, or the facility", "a complete plan file"),
    "a negative rate among several": (
        "requests_per_s = 40",
        "requests_per_s = [1, -2]",
        13,
        "requests_per_s[1] is -2",
        "requests_per_s = 40",
    ),
    "a negative limit": ("0.05", "-1", 15, "itl_median_s is -1", "itl_median_s = 0.05"),
    "a table for an array of tables": ("[[sites]]", "[sites]", 4, "sites", "[[sites]]"),
    "a truth value for a number": (
        "cap_kw = 40",
        "cap_kw = true",
        6,
        "cap_kw is True; expected: a number",
        "cap_kw = 40",
    ),
    "a number beyond meaning": ("cap_kw = 40", "cap_kw = 1e300", 6, "sites[0].cap_kw is 1e+300", "cap_kw = 40"),
    "no valid TOML": ("pue = 1.2", "pue = = 1.2", 7, "no valid TOML", "[[sites]]"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_told_with_line_field_and_example(name: str) -> None:
    old, new, line, words, example = MALFORMED[name]
    assert old in EXAMPLE
    with pytest.raises(InputError) as caught:
        parse_plan(EXAMPLE.replace(old, new, 1), name="PLAN.toml")
    said = str(caught.value)
    assert f"line {line}" in said
    assert words in said
    assert example in said


def test_a_file_nested_too_deeply() -> None:
    with pytest.raises(InputError, match="nested too deeply"):
        parse_plan("a = " + "[" * 5000 + "]" * 5000)


def test_hours_that_do_not_agree() -> None:
    text = EXAMPLE.replace("cap_kw = 40", "cap_kw = [40, 50]").replace(
        "requests_per_s = 40", "requests_per_s = [1, 2, 3]"
    )
    with pytest.raises(InputError, match=r"line 6: sites\[0\].cap_kw has 2 values; expected: one value, or 3"):
        parse_plan(text)


def test_names_given_twice() -> None:
    second = EXAMPLE[EXAMPLE.index("[[demands]]") :]
    with pytest.raises(InputError, match=r"demands\[1\].name 'chat' is given twice"):
        parse_plan(EXAMPLE + second)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path / "none.toml")


@given(st.integers(0, len(EXAMPLE) - 1), st.text(max_size=6))
def test_no_slip_of_the_pen_ends_in_a_traceback(place: int, inserted: str) -> None:
    with contextlib.suppress(InputError):
        parse_plan(EXAMPLE[:place] + inserted + EXAMPLE[place:])


def test_lines_of_nested_tables() -> None:
    text = "[[a]]\nx = 1\n[[a.b]]\ny = 1\n[[a.b]]\ny = 2\n[[a]]\n[[a.b]]\ny = 3\n"
    assert line_of(text, ("a", 0, "b", 1, "y")) == 6
    assert line_of(text, ("a", 1, "b", 0, "y")) == 9
    assert line_of(text, ("a", 1, "z")) == 7
    assert line_of(text, ("c",)) is None
