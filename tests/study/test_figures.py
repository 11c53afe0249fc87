"""The study's figures: drawn from its data, with titles computed, and saved as files that stand alone."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from joulemap.errors import InputError
from joulemap.store.schema import runs_to_frame
from joulemap.study.figures import FIGURES, draw, save_chart, save_figures
from joulemap.study.figures.theme import batch_axis, log_axis
from joulemap.study.runs import MissingRunsError
from tests.builders import llm_run

GOLDEN = Path(__file__).with_name("golden")
FINDINGS = {
    "output-length": "Problem Solving responses are 10x as long as those of Text Conversation",
    "energy-per-response": "Problem Solving responses take 25x the energy of those of Text Conversation",
    "modality": "Images raise the energy per token 1.1x to 5.2x, videos 1.3x to 14.8x",
    "text-to-image": "Energy per image spans 20x on B200, from SANA 1.5 1.6B to FLUX.1 Dev",
    "text-to-video": "Energy per video spans 44x on B200, from CogVideoX 2B to HunyuanVideo",
    "batch-deepseek-r1": (
        "DeepSeek R1: from batch 16 to 128, energy per token falls 3.0x, throughput grows 4.3x and latency 1.9x"
    ),
    "batch-qwen-coder-30b": (
        "Qwen 3 Coder 30B A3B: from batch 16 to 1024, energy per token falls 5.4x, throughput grows 6.8x and "
        "latency 9.3x"
    ),
    "model-size": (
        "With 3 of 30 billion parameters active, Qwen 3 30B A3B takes 3.6x less energy per token than Qwen 3 32B"
    ),
    "gpu-generation": (
        "At matched latency, B200 takes less energy than H100 in 63 of 72 language-model, 18 of 21 image and "
        "11 of 14 video comparisons"
    ),
    "precision": "FP8 took less energy than BF16 in 0 of 14 pairs up to batch 16, but in 13 of 17 above batch 64",
    "gpu-count": (
        "At the same batch, more GPUs raise the energy per token in 37 of 37 pairs on B200 and 39 of 42 pairs "
        "on H100"
    ),
    "unlocked-batch": (
        "GPT OSS 120B: a second H100 lifts the largest batch from 64 to 2,048 and cuts the lowest energy per token "
        "by 68%"
    ),
    "throughput-per-watt": (
        "Throughput per watt spans 44x, from Llama 3.1 405B Instruct FP8 on H100 to Llama 3.1 8B Instruct on B200"
    ),
}


def test_every_panel_has_a_finding() -> None:
    assert list(FIGURES) == list(FINDINGS)


@pytest.mark.parametrize("name", FINDINGS)
def test_titles_state_what_the_data_shows(study_frame: pl.DataFrame, name: str) -> None:
    spec = draw(study_frame, name).to_dict()
    assert " ".join(spec["title"]["text"]) == FINDINGS[name]
    assert spec["title"]["subtitle"]


@pytest.mark.parametrize("name", FINDINGS)
def test_every_drawn_axis_says_its_unit_or_ratio(study_frame: pl.DataFrame, name: str) -> None:
    titles = set(_axis_titles(draw(study_frame, name).to_dict()))
    words = ("(J)", "token", "÷", "billion", "Change", "sequences", "(W)", "(ms)")
    assert titles
    assert all(any(word in title for word in words) for title in titles), titles


def test_titles_follow_the_data(study_frame: pl.DataFrame) -> None:
    energy = pl.col("energy_per_output_j")
    dearer = pl.when(pl.col("model_id").str.ends_with("FLUX.1-dev")).then(2 * energy).otherwise(energy)
    spec = draw(study_frame.with_columns(energy_per_output_j=dearer), "text-to-image").to_dict()
    assert "40x" in " ".join(spec["title"]["text"])


def test_a_small_chart_is_the_golden_one() -> None:
    runs = [
        llm_run(task="lm-arena-chat", model_id=f"org/{name}", gpu_model=gpu, energy_j=energy)
        for name, gpu, energy in (("small", "B200", 0.1), ("small", "H100", 0.2), ("large", "B200", 2.0))
    ]
    spec = draw(runs_to_frame(runs, stored_at=datetime(2026, 1, 1, tzinfo=UTC)), "throughput-per-watt").to_dict()
    (rows,) = spec.pop("datasets").values()
    spec["data"] = rows  # under no name, which is a hash of altair's
    del spec["$schema"], spec["config"]
    golden = json.loads((GOLDEN / "throughput-per-watt.json").read_text())
    assert spec == golden, json.dumps(spec, indent=1)


def test_figures_are_saved_under_their_names(study_frame: pl.DataFrame, tmp_path: Path) -> None:
    saved = save_figures(study_frame, tmp_path / "new" / "folder")
    assert [path.name for path in saved.written] == [f"{name}.svg" for name in FIGURES]
    assert saved.left_out == {}
    for path in saved.written:
        text = path.read_text()
        assert text.startswith("<svg")
        assert "NaN" not in text


@pytest.mark.parametrize(
    ("format", "begins"), [("png", b"\x89PNG"), ("html", b"<!DOCTYPE html>"), ("svg", b"<svg")]
)
def test_every_format(study_frame: pl.DataFrame, tmp_path: Path, format: str, begins: bytes) -> None:
    path = save_chart(draw(study_frame, "unlocked-batch"), tmp_path / f"figure.{format}")
    content = path.read_bytes()
    assert content.lstrip().startswith(begins)
    assert b'src="http' not in content  # opens offline


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    frame = runs_to_frame([llm_run(task="lm-arena-chat")], stored_at=datetime.now(UTC))
    saved = save_figures(frame, tmp_path)
    assert [path.name for path in saved.written] == ["throughput-per-watt.svg"]
    assert set(saved.left_out) == set(FIGURES) - {"throughput-per-watt"}
    assert all("there is no" in reason for reason in saved.left_out.values())
    with pytest.raises(MissingRunsError, match="DeepSeek-R1"):
        draw(frame, "batch-deepseek-r1")


def test_unknown_endings_and_unwritable_folders_are_refused(study_frame: pl.DataFrame, tmp_path: Path) -> None:
    chart = draw(study_frame, "unlocked-batch")
    with pytest.raises(InputError, match=r"does not end in \.svg, \.png, \.html"):
        save_chart(chart, tmp_path / "figure.bmp")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_chart(chart, tmp_path / "file" / "figure.svg")


@pytest.mark.parametrize("module", ["altair", "vl_convert"])
def test_without_the_extra_the_message_names_it(module: str) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from joulemap.errors import MissingExtraError\n"
        "try:\n    import joulemap.study.figures\n"
        "except MissingExtraError as error:\n    print(error); sys.exit(error.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert module in done.stdout
    assert "joulemap[plots]" in done.stdout


def test_logarithmic_axes_hold_all_values_and_few_ticks() -> None:
    for low, high in ((1.0, 1.0), (0.6, 3.5), (0.03, 2.4), (18.0, 1.2e6), (1e-3, 1e9)):
        options = log_axis([low, high], "Energy (J)")
        domain, ticks = options["scale"].domain, options["axis"].values
        assert domain[0] < low <= high < domain[1]
        assert 1 <= len(ticks) <= 9
        assert all(domain[0] <= tick <= domain[1] for tick in ticks)
        assert options["title"] == "Energy (J), log scale"
    assert batch_axis([8, 96, 2048])["axis"].values == [2.0**n for n in range(3, 12)]


def _axis_titles(spec: Any) -> list[str]:
    """Return the titles of all axes that are drawn, at any depth of a specification."""
    found: list[str] = []
    if isinstance(spec, dict):
        for channel in ("x", "y"):
            encoding = spec.get("encoding", {}).get(channel, {}) if "mark" in spec else {}
            if encoding.get("title"):
                found.append(encoding["title"])
        for key in ("layer", "hconcat", "vconcat", "concat", "spec"):
            inner = spec.get(key, [])
            for part in inner if isinstance(inner, list) else [inner]:
                found += _axis_titles(part)
    return found
