"""The files in ``deploy/``: they parse, build, and ask for nothing that joulemap does not have."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from joulemap.cli.app import build_app
from joulemap.cli.export import DEFAULT_PORT

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"


def documents(folder: str) -> list[dict[str, Any]]:
    found = []
    for file in sorted((KUBERNETES / folder).glob("*.yaml")):
        found += list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    return found


def daemon_set(among: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [d for d in among if d["kind"] == "DaemonSet"]
    return found


def container(among: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = daemon_set(among)["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("file", sorted(str(f.relative_to(ROOT)) for f in (ROOT / "deploy").rglob("*.y*ml")))
def test_every_file_parses(file: str) -> None:
    assert list(yaml.safe_load_all((ROOT / file).read_text(encoding="utf-8")))


def test_each_kustomization_names_files_that_are_there() -> None:
    for folder in ("base", "example"):
        told = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text(encoding="utf-8"))
        for resource in told["resources"]:
            assert (KUBERNETES / folder / resource).exists()


def test_the_agents_command_is_one_that_joulemap_takes() -> None:
    told = container(documents("base"))
    words = [word.replace("$(SERVER_URL)", "http://127.0.0.1:8000") for word in told["args"]]
    command, bound, _ = build_app().parse_args(words, exit_on_error=False, print_error=False)
    assert command.__name__ == "export"
    assert bound.arguments["url"] == "http://127.0.0.1:8000"
    assert bound.arguments["port"] == DEFAULT_PORT == told["ports"][0]["containerPort"]


def test_the_agent_is_confined_and_its_token_is_a_secret() -> None:
    pod = daemon_set(documents("base"))["spec"]["template"]["spec"]
    told = container(documents("base"))
    security = told["securityContext"]
    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert not pod["automountServiceAccountToken"]
    assert "hostPID" not in pod
    assert told["resources"]["limits"]["memory"]
    token = next(e for e in told["env"] if e["name"] == "JOULEMAP_EXPORT_TOKEN")
    assert set(token["valueFrom"]) == {"secretKeyRef"}
    mounted = {m["name"] for m in told["volumeMounts"]}
    assert mounted == {v["name"] for v in pod["volumes"]}
    # No GPU is taken from the server.
    assert not [name for name in told["resources"]["limits"] if "gpu" in name]


@pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl, whose kustomize builds the manifests, is not here"
)
def test_the_example_builds_and_holds_the_sites_settings() -> None:
    words = ["kubectl", "kustomize", str(KUBERNETES / "example")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    built = [d for d in yaml.safe_load_all(done.stdout) if d]
    assert {d["kind"] for d in built} == {"ServiceAccount", "ConfigMap", "DaemonSet"}
    assert {d["metadata"]["namespace"] for d in built} == {"inference"}
    (settings,) = [d for d in built if d["kind"] == "ConfigMap"]
    assert settings["data"]["server-url"] == "http://127.0.0.1:8080"
    told = container(built)
    assert told["args"][-1] == "--requests=/var/log/gateway/requests.jsonl"
    named = next(e for e in told["env"] if e["name"] == "SERVER_URL")["valueFrom"]["configMapKeyRef"]["name"]
    assert named == settings["metadata"]["name"]
    labels = daemon_set(built)["spec"]["selector"]["matchLabels"]
    assert labels.items() <= daemon_set(built)["spec"]["template"]["metadata"]["labels"].items()


def test_the_images_constraints_are_the_locked_versions() -> None:
    """What the Dockerfile's sed makes of the lock is what pip understands, and holds what joulemap needs."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    (line,) = [text for text in dockerfile.splitlines() if "sed -nE" in text]
    program = shlex.split(line.split("sed -nE", 1)[1].rstrip("\\"))[0]
    words = ["sed", "-nE", program, str(ROOT / "requirements.lock")]
    made = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    pinned = {Requirement(text).name for text in made}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {Requirement(text).name for text in project["dependencies"] + project["optional-dependencies"]["otlp"]}
    assert needed <= pinned
    assert all("==" in text and "--hash" not in text for text in made)
    copied = [word for text in dockerfile.splitlines() if text.startswith("COPY r") for word in text.split()[1:-1]]
    assert all((ROOT / name).exists() for name in copied)
