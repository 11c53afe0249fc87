"""Job files that real parsers take, and that name every configuration once."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from joulemap.errors import UsageError
from joulemap.measure.sweep.emit import jobs
from joulemap.measure.sweep.emit.kubernetes import FILE, GPU_LABEL, kubernetes_files
from joulemap.measure.sweep.emit.slurm import slurm_files
from joulemap.measure.sweep.spec import SweepSpec
from joulemap.measure.sweep.sweep_file import EXAMPLE, parse_sweep

STORE = "s3://bucket/a prefix's"
PROCESS = EXAMPLE.replace('"container"', '"process"')


def ids(spec: SweepSpec) -> list[str]:
    return sorted(c.configuration_id for c in spec.configurations)


def test_slurm_files_are_bash_and_run_each_configuration_once(tmp_path: Path) -> None:
    spec = parse_sweep(EXAMPLE)
    files = slurm_files(spec, "/home/me/a sweep.toml", STORE)
    assert len(files) == 6  # H100 and B200, one, two and four of them
    called: list[str] = []
    for name, text in files.items():
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        gpu, count = re.findall(r"^#SBATCH --gres=gpu:(\w+):(\d+)$", text, re.MULTILINE)[0]
        assert f"{gpu}-x{count}" in name
        last = int(re.findall(r"^#SBATCH --array=0-(\d+)$", text, re.MULTILINE)[0])
        stub = text.replace("exec joulemap", "printf '%s\\n'")
        for task in (0, last):
            done = subprocess.run(
                ["bash"],
                input=stub,
                text=True,
                capture_output=True,
                check=True,
                env={"SLURM_ARRAY_TASK_ID": str(task), "PATH": "/usr/bin:/bin"},
            )
            words = done.stdout.splitlines()
            assert words[:-1] == ["sweep", "/home/me/a sweep.toml", "--store", STORE, "--only"]
        called += re.findall(r"^  ([0-9a-f]{12}) #", text, re.MULTILINE)
    assert sorted(called) == ids(spec)


def test_slurm_time_holds_every_attempt() -> None:
    (text,) = slurm_files(
        replace(parse_sweep(PROCESS), retries=1, time_limit_s=3600.0), "s", None, ids(parse_sweep(PROCESS))[:1]
    ).values()
    assert "#SBATCH --time=2:05:00" in text


def test_large_arrays_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LARGEST_ARRAY", 10)
    arrays = jobs.job_arrays(parse_sweep(EXAMPLE))
    assert max(len(array.ids) for array in arrays) == 10
    assert len({array.name for array in arrays}) == len(arrays)
    assert sorted(i for array in arrays for i in array.ids) == ids(parse_sweep(EXAMPLE))


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_kubernetes_manifests_are_yaml_and_run_each_configuration_once() -> None:
    text = PROCESS + '\n# "quoted", \\ and: odd\n'
    spec = parse_sweep(text)
    ((name, manifest),) = kubernetes_files(spec, text, STORE).items()
    assert name == "dense-models.yaml"
    config, *found = yaml.safe_load_all(manifest)
    assert config["kind"] == "ConfigMap"
    assert config["data"][FILE] == text
    called: list[str] = []
    for job in found:
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", job["metadata"]["name"])
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["nodeSelector"][GPU_LABEL] in {"H100", "B200"}
        assert container["resources"]["limits"]["nvidia.com/gpu"] in {1, 2, 4}
        assert job["spec"]["completionMode"] == "Indexed"
        shell, option, script = container["command"]
        for index in range(job["spec"]["completions"]):
            stub = script.replace("exec joulemap", "printf '%s\\n'")
            done = subprocess.run(
                [shell, option, stub],
                capture_output=True,
                text=True,
                check=True,
                env={"JOB_COMPLETION_INDEX": str(index)},
            )
            *words, called_id = done.stdout.splitlines()
            assert words == ["sweep", "/etc/joulemap/sweep.toml", "--store", STORE, "--only"]
            called.append(called_id)
    assert sorted(called) == ids(spec)


@pytest.mark.parametrize(
    ("text", "store", "told"),
    [
        (EXAMPLE, STORE, "cannot start the engine's container"),
        (PROCESS, None, "share no folder"),
        (PROCESS, "/home/me/store", "share no folder"),
    ],
)
def test_jobs_that_could_not_run_are_refused(text: str, store: str | None, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        kubernetes_files(parse_sweep(text), text, store)
