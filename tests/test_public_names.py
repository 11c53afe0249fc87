"""The names of ``import joulemap`` exist, are documented, and agree with the command line's and JSON's."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import joulemap
from joulemap.cli.app import VERBS
from joulemap.records import Measured
from joulemap.store.schema import COLUMNS
from tests.layering import modules_of

PACKAGE = Path(joulemap.__file__).parent
PUBLIC = [name for name in joulemap.__all__ if name != "__version__"]

VERBS_IN_PYTHON = {
    "doctor": "examine_machine",
    "import": "import_path",  # "import" is a keyword
    "runs": "open_store",
    "show": "find_run",
    "publish": "publish_dataset",
    "compact": "RunStore",  # its method
    "study": "reproduce",
    "breakdown": "breakdown",
    "predict": "predict",
    "calibrate": "calibrate",
    "backtest": "backtest",
    "diagnose": "diagnose",
    "sensitivity": "sensitivity",
    "explain": "explain",
    "report": "report",
    "plan": "plan_fleet",
    "simulate": "simulate_plan",
    "compare-gpus": "compare_gpus",
    "budget": "energy_budget",
    "frontier": "frontier",
    "recommend": "recommend",
    "next": "next_measurements",
}
"""The public function behind each verb that has one; a new verb must be named here, or below."""

ONLY_COMMANDS = dict.fromkeys(
    ("measure", "record", "sweep", "serve", "watch", "export"),
    "they start processes, draw on the terminal, obey Ctrl-C",
)
"""Verbs without a public function, with the reason."""


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(joulemap, name)
    assert inspect.getdoc(value), f"joulemap.{name} has no docstring"
    assert value.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        _ = joulemap.explian  # type: ignore[attr-defined]


def test_what_type_checkers_see_is_what_runs() -> None:
    tree = ast.parse(Path(joulemap.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(seen) == sorted(PUBLIC)
    assert seen == joulemap._HOME_OF


@pytest.mark.parametrize("name", sorted(name for name in PUBLIC if name in modules_of(PACKAGE)))
def test_a_package_does_not_hide_the_function_of_its_name(name: str) -> None:
    program = (
        f"import joulemap.{name}, joulemap as jm, types; from joulemap.{name} import __doc__ as doc\n"
        f"assert doc and isinstance(jm.{name}, types.FunctionType), jm.{name}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_dir_lists_the_public_names() -> None:
    assert dir(joulemap) == sorted(joulemap.__all__)


def test_importing_loads_nothing_else() -> None:
    program = "import sys; before = set(sys.modules); import joulemap; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {"numpy", "polars", "scipy", "pydantic", "rich", "cyclopts"} & loaded
    assert {name for name in loaded if name.startswith("joulemap")} == {"joulemap"}


def test_each_verb_has_its_function() -> None:
    lacking = set(VERBS) - set(VERBS_IN_PYTHON) - set(ONLY_COMMANDS)
    assert not lacking, f"name the public function behind {lacking}, or the reason why there is none"
    assert set(VERBS_IN_PYTHON.values()) <= set(joulemap.__all__)


def test_measured_quantities_have_one_name_in_records_tables_and_json() -> None:
    assert {f.name for f in fields(Measured)} <= set(COLUMNS)


def test_json_names_are_the_fields_names() -> None:
    factor = joulemap.Factor(name="x", cause="y", ratio=2.0, basis=joulemap.Basis.MEASURED, evidence=("ab",))
    explanation = joulemap.Explanation(
        a="a",
        b="b",
        a_label="A",
        b_label="B",
        quantity="power_w",
        unit="W",
        a_value=2.0,
        b_value=1.0,
        ratio=2.0,
        factors=(factor,),
        unexplained_ratio=1.0,
    )
    quantity = joulemap.Quantity(value=1.0, unit="W", basis=joulemap.Basis.MEASURED)
    for record in (factor, explanation, quantity):
        assert is_dataclass(record)
        assert set(record.to_json()) == {f.name for f in fields(record)}
        json.dumps(record.to_json(), allow_nan=False)
