"""What a killed process leaves behind is whole, and enough to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from joulemap.errors import StoreError, UnknownNameError
from joulemap.measure.session.journal import Journal, read_journal
from joulemap.measure.session.recording import Baselines
from joulemap.measure.session.recovery import facts_of, recover, recovered_run
from joulemap.records import Basis, Deployment, Workload
from joulemap.store.run_store import open_store
from tests.measure.session.scripted import Bench
from tests.measure.session.test_windows import window

OPTIONS = {"url": "http://127.0.0.1:8000"}


def facts(**changes: Any) -> dict[str, Any]:
    told = facts_of(
        Workload(task="synthetic", max_concurrency=8),
        Deployment(model_id="org/model-8b", gpu_model="H100", num_gpus=1),
        Bench().instruments,
        Baselines(loaded_idle_power_w=90.0),
        ("a note",),
    )
    return {**told, **changes}


def write(folder: Path, windows: int) -> str:
    journal = Journal(folder)
    journal.begin(OPTIONS)
    journal.level("concurrency 8", facts())
    for number in range(windows):
        journal.window("concurrency 8", window(500.0 + number, 100.0))
    journal.close()
    return journal.session_id


def test_a_journal_comes_back_as_it_was_written(tmp_path: Path) -> None:
    session_id = write(tmp_path, 3)
    told = read_journal(tmp_path, session_id)
    assert told.options == OPTIONS
    assert not told.finished
    assert told.levels["concurrency 8"].windows == [window(500.0 + n, 100.0) for n in range(3)]


def test_half_a_line_at_the_end_is_left_out_and_mended(tmp_path: Path) -> None:
    session_id = write(tmp_path, 3)
    file = tmp_path / f"{session_id}.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert len(read_journal(tmp_path, session_id).levels["concurrency 8"].windows) == 2
    journal = Journal(tmp_path, session_id)
    journal.window("concurrency 8", window(700.0, 100.0))
    journal.close()
    assert [w.energy_j for w in read_journal(tmp_path, session_id).levels["concurrency 8"].windows] == [
        500.0,
        501.0,
        700.0,
    ]


def test_a_level_begun_again_starts_afresh(tmp_path: Path) -> None:
    session_id = write(tmp_path, 2)
    journal = Journal(tmp_path, session_id)
    journal.level("concurrency 8", facts())
    journal.window("concurrency 8", window(700.0, 100.0))
    journal.close()
    assert len(read_journal(tmp_path, session_id).levels["concurrency 8"].windows) == 1


def test_an_unknown_session_and_a_broken_journal_are_named(tmp_path: Path) -> None:
    session_id = write(tmp_path, 1)
    with pytest.raises(UnknownNameError, match="session"):
        read_journal(tmp_path, "nonsense")
    (tmp_path / f"{session_id}.jsonl").write_text("{}\n")
    with pytest.raises(StoreError, match="line 1"):
        read_journal(tmp_path, session_id)


def test_enough_complete_windows_become_a_run_and_fewer_do_not(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    journaled = read_journal(tmp_path, write(tmp_path, 2))
    assert recover(store, journaled) == ([], set())
    journaled = read_journal(tmp_path, write(tmp_path, 4))
    runs, done = recover(store, journaled)
    assert done == {"concurrency 8"}
    (run,) = runs
    assert store.get(run.run_id).measured.energy_per_output_j == pytest.approx(2006.0 / 400.0)
    assert run.measured.loaded_idle_power_w == 90.0
    assert run.measured.gpu_energy_j == pytest.approx(2006.0)
    assert "killed" in run.annotations.missing["itl_median_s"]
    assert "killed" in run.validity.reasons[0]


def test_a_level_that_is_in_the_store_is_done(tmp_path: Path) -> None:
    session_id = write(tmp_path, 4)
    journal = Journal(tmp_path, session_id)
    journal.run("concurrency 8", "abc")
    journal.close()
    store = open_store(tmp_path / "store")
    assert recover(store, read_journal(tmp_path, session_id)) == ([], {"concurrency 8"})
    assert not (tmp_path / "store").exists()


def test_what_was_assumed_stays_assumed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin(OPTIONS)
    journal.level("concurrency 8", facts(kind="cpu", basis="assumed", relative_interval=[0.5, 2.0]))
    for _ in range(3):
        journal.window("concurrency 8", window(500.0, 100.0))
    journal.close()
    run = recovered_run(read_journal(tmp_path, journal.session_id).levels["concurrency 8"])
    assert run is not None
    for name in ("energy_per_output_j", "power_w", "cpu_energy_j", "loaded_idle_power_w"):
        assert run.annotations.basis[name] is Basis.ASSUMED
    assert run.annotations.intervals["energy_per_output_j"] == pytest.approx((2.5, 10.0))
    assert run.measured.gpu_energy_j is None


def test_windows_that_drift_are_not_recovered_as_valid(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin(OPTIONS)
    journal.level("concurrency 8", facts())
    for number in range(8):
        journal.window("concurrency 8", window(500.0, 100.0 + 20.0 * number))
    journal.close()
    run = recovered_run(read_journal(tmp_path, journal.session_id).levels["concurrency 8"])
    assert run is not None
    assert not run.validity.valid
    assert any("not steady" in reason for reason in run.validity.reasons)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_ends_the_journal_with_a_named_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    journal._out = Path("/dev/full").open("a")  # noqa: SIM115
    with pytest.raises(StoreError, match="cannot be written: No space left"):
        journal.begin(OPTIONS)
    journal.close()
