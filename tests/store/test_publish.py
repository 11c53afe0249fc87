"""Published datasets: whole, checkable, read back under the same ids, and usable for the study's claims."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml

from joulemap.cli.app import run
from joulemap.errors import StoreError, UsageError
from joulemap.records import Annotations, Basis, LengthDistribution, Provenance, Run
from joulemap.store import dataset
from joulemap.store.data_card import DatasetDescription
from joulemap.store.dataset import Published, publish_dataset
from joulemap.store.importers import ImportHints, read_path
from joulemap.store.mlenergy_tables import COLUMNS_KEPT
from joulemap.store.run_store import RunStore, open_store
from joulemap.store.schema import runs_to_frame
from tests.builders import image_run, llm_run

ABOUT = DatasetDescription(
    title="Joules | <b>bold</b> [link](x)",
    authors=("Doe, Jane", "A Lab"),
    licence="CC-BY-4.0",
    released=date(2026, 1, 2),
)
Captured = pytest.CaptureFixture[str]


def every_kind_of_run() -> list[Run]:
    """A full run, an image, an assumed energy, an invalid one, one without a GPU."""
    full = llm_run(batch=12.0, task="gpqa", nickname="Model 8B", architecture="Dense", total_params_billions=8.0)
    full = replace(
        full,
        workload=replace(full.workload, output_lengths=LengthDistribution(edges=(0.0, 10.0, 20.5), counts=(3, 4))),
        measured=replace(
            full.measured,
            itl_mean_s=0.02,
            itl_p99_s=0.1,
            ttft_median_s=0.3,
            completed_requests=7,
            gpu_energy_j=900.0,
        ),
        provenance=Provenance(
            source="my lab | 2026",
            measured_at=datetime(2026, 1, 1, 12, 30, 0, 250, tzinfo=UTC),
            meter="NVML",
            notes=("as is", "überprüft"),
        ),
        annotations=Annotations(
            intervals={"energy_per_output_j": (0.9, 1.1)}, missing={"mean_input_tokens": "nobody | counted"}
        ),
    )
    assumed = replace(llm_run(batch=3.0), annotations=Annotations(basis={"energy_per_output_j": Basis.ASSUMED}))
    return [full, image_run(batch=4), assumed, llm_run(batch=5.0, valid=False), llm_run(batch=6.0, gpu_model=None)]


def published(folder: Path, runs: list[Run]) -> Published:
    store = open_store(folder / "store")
    store.add(runs)
    return publish_dataset(store, store.run_ids, folder / "dataset", ABOUT)


def test_a_dataset_is_read_back_as_it_was(tmp_path: Path) -> None:
    runs = every_kind_of_run()
    made = published(tmp_path, runs)
    read = read_path(made.folder)
    assert read.problems == ()
    assert read.formats == {"joulemap": 5}  # and not once more from the ML.ENERGY layout inside
    assert list(read.runs) == runs
    assert [r.run_id for r in read.runs] == [r.run_id for r in runs]


def test_its_checksums_hold(tmp_path: Path) -> None:
    made = published(tmp_path, every_kind_of_run())
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=made.folder, check=True)
    listed = {line.split("  ")[1] for line in (made.folder / "SHA256SUMS").read_text().splitlines()}
    there = {f.relative_to(made.folder).as_posix() for f in made.folder.rglob("*") if f.is_file()}
    assert listed == there - {"SHA256SUMS"}
    assert made.files.keys() == listed


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    made = published(tmp_path, every_kind_of_run())
    file = made.folder / "data" / "runs.parquet"
    table = pl.read_parquet(file)
    file.write_bytes(file.read_bytes() + b" ")
    read = read_path(made.folder)
    assert read.runs == ()
    assert "checksum" in str(read.problems[0])
    # Whoever forges the checksum too is found out by the ids.
    table.with_columns(power_w=pl.col("power_w") * 0.5).write_parquet(file)
    dataset._seal(made.folder)
    read = read_path(made.folder)
    assert read.runs == ()
    assert len(read.problems) == 5
    assert "is not that of its content" in str(read.problems[0])


@pytest.mark.parametrize(
    "change",
    [
        {"power_w": pl.lit(-1.0)},
        {"power_w": pl.lit("much")},
        {"num_gpus": pl.lit("x")},
        {"valid": pl.lit(None, pl.Boolean)},
        {"measured_at": pl.lit("yesterday")},
        {"measured_at": pl.lit("2026-01-01")},
        {"annotations": pl.lit("[]")},
        {"annotations": pl.lit('{"basis": {"power_w": "sure"}}')},
        {"output_unit": pl.lit("joke")},
        {"output_length_edges": pl.lit(["a", "b"]), "output_length_counts": pl.lit([1])},
        {"model_id": pl.lit(None, pl.String)},
    ],
    ids=str,
)
def test_impossible_rows_are_refused(
    tmp_path: Path, change: dict[str, pl.Expr], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = published(tmp_path, [llm_run()])
    file = made.folder / "data" / "runs.parquet"
    pl.read_parquet(file).with_columns(**change).write_parquet(file)
    dataset._seal(made.folder)
    # As if the id had been forged as well.
    monkeypatch.setattr(Run, "run_id", pl.read_parquet(file)["run_id"][0])
    read = read_path(made.folder)
    assert read.runs == ()
    (problem,) = read.problems
    assert "row 0" in str(problem)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format_version": 2}, "newer joulemap"),
        ({"run_schema": 99}, "newer joulemap"),
        ({"data": ["../../etc/passwd"]}, "should be the name of a file"),
        ({"data": ["data/../../x.parquet"]}, "should be the name of a file"),
        ({"data": ["data/none.parquet"]}, "cannot be read"),
        ({"data": 3}, "data"),
    ],
)
def test_bad_manifests(tmp_path: Path, change: dict[str, object], told: str) -> None:
    made = published(tmp_path, [llm_run()])
    manifest = json.loads((made.folder / "dataset.json").read_text())
    (made.folder / "dataset.json").write_text(json.dumps(manifest | change))
    read = read_path(made.folder)
    assert read.runs == ()
    assert told in str(read.problems[0])


def test_a_dataset_takes_no_hints(tmp_path: Path) -> None:
    made = published(tmp_path, [llm_run()])
    read = read_path(made.folder, hints=ImportHints(gpu_model="H100"))
    assert read.runs == ()
    assert "takes no gpu_model" in str(read.problems[0])


def test_the_mlenergy_layout_is_read_back_as_far_as_it_can(tmp_path: Path) -> None:
    runs = every_kind_of_run()
    made = published(tmp_path, runs)
    assert made.not_in_mlenergy == {"its energy is assumed, not measured": 1, "it lacks gpu_model": 1}
    read = read_path(made.folder / "mlenergy")
    assert read.formats == {"mlenergy-parquet": 3}
    assert read.problems == ()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    back = runs_to_frame(read.runs, stored_at=now).sort("batch_size")
    sent = runs_to_frame([runs[1], runs[3], runs[0]], stored_at=now).sort("batch_size")
    for name in COLUMNS_KEPT:
        for theirs, ours in zip(back[name].to_list(), sent[name].to_list(), strict=True):
            if name == "latency_mean_s" or (ours is None and name == "request_throughput_per_s"):
                continue  # what the tables tell of an image that our own run did not state
            assert theirs == (pytest.approx(ours, rel=1e-12) if isinstance(ours, float) else ours), name
    assert back["latency_mean_s"].to_list()[0] == runs[1].measured.latency_median_s


def test_the_card_says_what_is_there_and_shows_names_as_they_are(tmp_path: Path) -> None:
    made = published(tmp_path, [*every_kind_of_run(), llm_run(model_id="evil|</td><script>`x`")])
    card = (made.folder / "README.md").read_text()
    assert card.startswith("---\n")
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["pretty_name"] == ABOUT.title
    for line in (
        "| gpqa | 1 |",
        "| my lab \\| 2026 | measured by joulemap | NVML | 2026-01-01 – 2026-01-01 | 1 |",
        "| planted | 1 |",
        "| `mean_input_tokens` | nobody \\| counted | 1 |",
        "measured 5, assumed 1",
        "For 1 of 6 runs its 90 % interval is known",
        "1 runs are invalid",
        "1: it lacks gpu\\_model",
    ):
        assert line in card, line
    assert "<script>" not in card
    assert "<b>" not in card.split("---", 2)[2]
    cited = yaml.safe_load((made.folder / "CITATION.cff").read_text())
    assert cited["title"] == ABOUT.title
    assert cited["authors"] == [{"family-names": "Doe", "given-names": "Jane"}, {"name": "A Lab"}]
    assert cited["type"] == "dataset"


def test_many_runs_lie_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "RUNS_PER_FILE", 2)
    runs = every_kind_of_run()
    made = published(tmp_path, runs)
    assert sorted(f.name for f in (made.folder / "data").iterdir()) == [
        f"runs-0000{i}-of-00003.parquet" for i in range(3)
    ]
    assert list(read_path(made.folder).runs) == runs


def test_nothing_half_written_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = published(tmp_path, [llm_run()])
    before = first.files

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, "citation_file", full)
    store = open_store(tmp_path / "store")
    with pytest.raises(StoreError, match="No space left"):
        publish_dataset(store, store.run_ids, tmp_path / "dataset", ABOUT, force=True)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["dataset", "store"]
    assert dataset._seal(first.folder) | {"SHA256SUMS": ""} == before | {"SHA256SUMS": ""}


def test_only_a_dataset_is_replaced(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store.add([llm_run()])
    with pytest.raises(UsageError, match="is no dataset of joulemap"):
        publish_dataset(store, store.run_ids, tmp_path / "store", ABOUT, force=True)
    made = publish_dataset(store, store.run_ids, tmp_path / "dataset", ABOUT)
    with pytest.raises(UsageError, match="--force"):
        publish_dataset(store, store.run_ids, made.folder, ABOUT)
    store.add([llm_run(batch=2.0)])
    publish_dataset(store, store.run_ids, made.folder, ABOUT, force=True)
    assert len(read_path(made.folder).runs) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "d"],
        ["-o", "d", "--title", "T", "--author", "A", "--license", "as you like"],
        ["-o", "d", "--title", " ", "--author", "A", "--license", "MIT"],
        ["task=nothing", "-o", "d", "--title", "T", "--author", "A", "--license", "MIT"],
    ],
)
def test_bad_use(tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("store").add([llm_run()])
    assert run(["publish", *words, "--store", "store"]) == 2
    assert not (tmp_path / "d").exists()


def test_the_study_is_reproduced_from_its_dataset(study_store: RunStore, tmp_path: Path, capsys: Captured) -> None:
    words = ["--title", "The study", "--author", "A", "--license", "Apache-2.0", "--store", str(study_store.folder)]
    assert run(["publish", "-o", str(tmp_path / "whole"), *words]) == 0
    assert run(["study", str(tmp_path / "whole")]) == 0
    assert "21 of 24 claims match; 3 differ in the released data, as known" in capsys.readouterr().err
    assert run(["study", str(tmp_path / "whole" / "mlenergy")]) == 0
    assert "21 of 24 claims match; 3 differ in the released data, as known" in capsys.readouterr().err
    assert run(["publish", "gpu=B200", "-o", str(tmp_path / "b200"), *words]) == 0
    assert run(["study", str(tmp_path / "b200")]) == 0
    told = capsys.readouterr().err
    assert "cannot be tested on these runs" in told
    assert "wins.h100: cannot be tested: " in told
    assert run(["import", str(tmp_path / "whole"), "--store", str(study_store.folder)]) == 0
    assert "0 added, 1,858 already there" in capsys.readouterr().out


def test_claims_are_tested_on_the_runs_of_others_too(tmp_path: Path, capsys: Captured) -> None:
    mine = [llm_run(task=task, gpu_model="B200", energy_j=e) for task, e in (("gpqa", 1.0), ("lm-arena-chat", 0.5))]
    made = published(tmp_path, mine)
    assert run(["study", str(made.folder), "--json"]) == 0
    claims = {claim["id"]: claim for claim in json.loads(capsys.readouterr().out)["claims"]}
    assert claims["task.energy"]["computed"] == "100 J vs 50 J (2x)"
    assert claims["moe"]["computed"] is None
    assert "there is no run with" in claims["moe"]["note"]
