"""The registry checks findings, and no rule names a model or a run."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from joulemap.catalog import load_catalog
from joulemap.diagnose import bounds
from joulemap.diagnose.findings.registry import _checked, registered_findings

FOLDER = Path(bounds.__file__).parent
RULES = [*FOLDER.glob("findings/*.py"), FOLDER / "bounds.py", FOLDER / "ledger.py", FOLDER / "unmodelled.py"]


def test_every_finding_of_the_folder_is_registered_once() -> None:
    names = [f.NAME for f in registered_findings()]
    files = {p.stem for p in (FOLDER / "findings").glob("*.py")} - {"__init__", "registry", "wording"}
    assert len(names) == len(set(names)) == len(files) == 18


def test_a_module_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match="no NAME"):
        _checked(ModuleType("empty"))


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_no_rule_names_a_model_or_a_run(path: Path) -> None:
    text = path.read_text(encoding="utf-8").casefold()
    models = load_catalog().models
    words = {w.casefold() for i, m in models.items() for w in (i, i.split("/")[-1], m.nickname) if w}
    families = {"qwen", "llama", "deepseek", "gpt-oss", "hunyuan", "stable diffusion", "flux", "mixtral", "gemma"}
    assert not [w for w in words | families if w in text]
    assert not re.search(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12}\b", text)
