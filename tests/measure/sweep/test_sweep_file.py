"""A sweep file becomes configurations; what is wrong in one is told with line, field, expectation and example."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from joulemap.errors import InputError
from joulemap.measure.sweep.job import Job, job_of
from joulemap.measure.sweep.sweep_file import EXAMPLE, parse_sweep, read_sweep

ROOT = Path(__file__).resolve().parents[3]


def test_the_grid_less_what_is_excluded() -> None:
    spec = parse_sweep(EXAMPLE)
    # 2 models x 2 tasks x 2 GPUs x 3 counts x 2 precisions x 7 batches, less 2 x 2 x 1 x 1 x 7 of one model.
    assert (len(spec.configurations), spec.excluded) == (336 - 28, 28)
    assert not [c for c in spec.configurations if "70B" in c.model and c.count == 1 and c.precision == "bfloat16"]


def test_overrides_are_of_their_model_alone() -> None:
    text = EXAMPLE.replace("served =", 'batches = [8]\narguments = ["--x"]\nexpert_parallel = true\nserved =')
    spec = parse_sweep(text)
    llama = [c for c in spec.configurations if "70B" in c.model]
    assert {c.batch for c in llama} == {8}
    assert {(c.precision, c.served) for c in llama} == {
        ("bfloat16", "meta-llama/Llama-3.1-70B-Instruct"),
        ("fp8", "nvidia/Llama-3.1-70B-Instruct-FP8"),
    }
    assert {(c.arguments, c.expert_parallel) for c in llama} == {(("--x",), True)}
    qwen = [c for c in spec.configurations if "Qwen" in c.model]
    assert {(len(c.arguments), c.expert_parallel, c.served) for c in qwen} == {(0, False, "Qwen/Qwen3-32B")}


def test_names_are_those_of_the_catalog() -> None:
    spec = parse_sweep(
        EXAMPLE.replace('"H100"', '"NVIDIA H100 80GB HBM3"').replace('"Qwen/Qwen3-32B"', '"qwen 3 32b"')
    )
    assert {c.gpu for c in spec.configurations} == {"H100", "B200"}
    assert spec.configurations[0].model == "Qwen/Qwen3-32B"


def test_an_id_follows_from_what_is_measured_not_from_how_long() -> None:
    first = parse_sweep(EXAMPLE).configurations
    longer = parse_sweep(EXAMPLE.replace("time_limit_s = 3600", "time_limit_s = 7200")).configurations
    assert [c.configuration_id for c in first] == [c.configuration_id for c in longer]
    assert len({c.configuration_id for c in first}) == len(first)
    other = parse_sweep(EXAMPLE.replace("v0.11.1", "v0.12.0")).configurations
    assert not {c.configuration_id for c in first} & {c.configuration_id for c in other}


def test_a_job_survives_its_line() -> None:
    spec = parse_sweep(EXAMPLE)
    job = job_of(spec, spec.configurations[-1])
    assert Job.from_line(job.to_line()) == job
    assert Job.from_line(job.to_line()).configuration.configuration_id == spec.configurations[-1].configuration_id
    assert json.loads(job.to_line())["configuration"] == json.loads(json.dumps(asdict(spec.configurations[-1])))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("precisions = [", "precision = [", ["line 7: sweep.precision is unknown", "'precisions'", "bfloat16"]),
        ("batches = [8,", "batches = [0,", ["line 8: sweep.batches[0] is 0", "greater than or equal to 1"]),
        ('"H100", "B200"', '"H100", "Z9"', ["line 5: sweep.gpus names 'Z9'", "GPUs of the catalog"]),
        ('engine = "vllm"', 'engine = "vlm"', ["launch.engine is 'vlm'", "one of embedded, vllm, sglang"]),
        ('how = "container"', 'how = "vm"', ["launch.how is 'vm'", "'process' or 'container'"]),
        ("retries = 1", "retries = -1", ["limits.retries is -1", "retries = 1"]),
        ("regret = 0.013", "regret = 2", ["adaptive.regret is 2", "less than 1"]),
        ('name = "dense-models"', 'name = "a/b"', ["line 2: sweep.name is 'a/b'"]),
        ('tasks = ["lm-arena-chat", "gpqa"]\n', "", ["sweep.tasks is missing"]),
        ('gpus = ["H100", "B200"]\n', "", ["sweep.gpus is missing", "the GPU models"]),
        ('engine = "vllm"', 'engine = "command"', ["command"]),
        ("[[override]]", '[[override]]\nmodels = ["x"]\n[[override]]', ["override[0].models names 'x'", "[sweep]"]),
        ("[sweep]", "[sweep", ["is no valid TOML", "a complete sweep file is"]),
        (
            "counts = [1]\nprecisions",
            "counts = [1, 2, 4]\n[[exclude]]\ncounts=[1,2,4]\n#",
            ["gives no configuration"],
        ),
    ],
)
def test_what_is_wrong_is_told(old: str, new: str, told: list[str]) -> None:
    assert old in EXAMPLE
    with pytest.raises(InputError) as caught:
        parse_sweep(EXAMPLE.replace(old, new, 1), name="SWEEP.toml")
    for part in ["SWEEP.toml", *told]:
        assert part in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_sweep(Path("/nowhere/SWEEP.toml"))


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("sweep-*.toml")), ids=lambda file: file.name)
def test_the_examples_are_sweeps(file: Path) -> None:
    assert read_sweep(file).configurations
