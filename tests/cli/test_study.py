"""``joulemap study`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from joulemap.cli.app import run
from joulemap.store.run_store import RunStore, open_store
from tests.builders import llm_run
from tests.study.test_claims import DIFFERING, IDS

Captured = pytest.CaptureFixture[str]


def test_json_contract(study_store: RunStore, capsys: Captured) -> None:
    assert run(["study", "--json", "--store", str(study_store.folder)]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert list(payload) == ["claims"]
    assert [claim["id"] for claim in payload["claims"]] == IDS
    for claim in payload["claims"]:
        assert list(claim) == ["id", "published", "computed", "match", "note"]
        assert claim["match"] is (claim["id"] not in DIFFERING)
        assert isinstance(claim["published"], str)
        assert isinstance(claim["computed"], str)


def test_table_and_summary(study_store: RunStore, capsys: Captured) -> None:
    assert run(["study", "--store", str(study_store.folder)]) == 0
    printed = capsys.readouterr()
    for claim_id in IDS:
        assert f" {claim_id} " in printed.out
    assert "21 of 24 claims match; 3 differ in the released data, as known" in printed.err
    for claim_id in DIFFERING:
        assert f"{claim_id}: differs in the released data, as known" in printed.err


def test_figures_are_written_and_named(study_store: RunStore, tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "figures"
    assert run(["study", "--store", str(study_store.folder), "--figures", str(folder), "--format", "svg"]) == 0
    written = [line.removeprefix("Wrote ") for line in capsys.readouterr().err.splitlines() if "Wrote" in line]
    assert sorted(written) == sorted(str(path) for path in folder.iterdir())
    assert str(folder / "gpu-generation.svg") in written


def test_figures_do_not_disturb_json(tmp_path: Path, capsys: Captured) -> None:
    open_store(tmp_path / "store").add([llm_run(task="lm-arena-chat")])
    words = ["study", "--json", "--store", str(tmp_path / "store"), "--figures", str(tmp_path / "f")]
    assert run(words) == 0
    printed = capsys.readouterr()
    claims = {claim["id"]: claim for claim in json.loads(printed.out)["claims"]}
    assert claims["moe"]["computed"] is None
    assert claims["moe"]["match"] is False
    assert "Qwen/Qwen3-32B" in claims["moe"]["note"]
    assert "batch-deepseek-r1: not drawn, there is no run with task gpqa" in printed.err


def test_an_empty_store_says_what_to_do(tmp_path: Path, capsys: Captured) -> None:
    assert run(["study", "--store", str(tmp_path)]) == 3
    assert "joulemap import study" in capsys.readouterr().err


def test_bad_use(tmp_path: Path, capsys: Captured) -> None:
    open_store(tmp_path / "store").add([llm_run()])
    (tmp_path / "file").write_text("")
    store = ["--store", str(tmp_path / "store")]
    assert run(["study", *store, "--figures", str(tmp_path / "file")]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
    assert run(["study", *store, "--format", "bmp"]) == 2
