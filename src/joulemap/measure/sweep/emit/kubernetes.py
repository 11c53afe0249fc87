"""Kubernetes manifests: the sweep file as a ConfigMap, and one indexed Job for each GPU model and count."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Collection
from typing import Any

from joulemap.errors import UsageError
from joulemap.measure.engines.registry import EMBEDDED, engine_named
from joulemap.measure.sweep.emit.jobs import JobArray, job_arrays, plain, sweep_words
from joulemap.measure.sweep.spec import SweepSpec

GPU_LABEL = "joulemap/gpu-model"
"""Label by which nodes say which GPU model they have."""
SECRET = "joulemap-sweep"
"""Secret whose entries become variables: the store's credentials, and what ``pass_environment`` names."""
FOLDER = "/etc/joulemap"
FILE = "sweep.toml"
POD_ATTEMPTS = 2
"""Attempts at a job whose pod was lost; those at a configuration are the sweep's own."""


def kubernetes_files(spec: SweepSpec, text: str, store: str | None, only: Collection[str] = ()) -> dict[str, str]:
    """Return the content of the manifest by its name.

    Args:
        spec: The sweep.
        text: The sweep file's text.
        store: The store's URL.
        only: Ids of the configurations to keep to; all by default.

    Raises:
        UsageError: The jobs could not run in a pod, or not bring their results out of it.
    """
    if spec.launch.how == "container":
        msg = "a pod cannot start the engine's container"
        raise UsageError(msg, fix='write how = "process" in [launch], with an image that holds engine and joulemap')
    if store is None or "://" not in store:
        msg = "pods share no folder: results need a store in object storage"
        raise UsageError(msg, fix="give --store s3://BUCKET/PREFIX")
    image = spec.launch.image
    if image is None and spec.launch.engine != EMBEDDED:
        image = engine_named(spec.launch.engine, spec.launch.command).image
    if image is None:
        msg = "the jobs need an image that holds engine and joulemap"
        raise UsageError(msg, fix='write image = "…" in [launch]')
    name = plain(spec.name)
    documents = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {FILE: text}},
        *(_job(array, name, image, store) for array in job_arrays(spec, only)),
    ]
    return {f"{name}.yaml": "---\n".join(_yaml(document) for document in documents)}


def _job(array: JobArray, config_map: str, image: str, store: str) -> dict[str, Any]:
    count = len(array.ids)
    command = shlex.join(sweep_words(f"{FOLDER}/{FILE}", store))
    script = f'set -- {" ".join(array.ids)}; shift "$JOB_COMPLETION_INDEX"; exec {command} "$1"'
    container: dict[str, Any] = {
        "name": "sweep",
        "image": image,
        "command": ["/bin/sh", "-ec", script],
        "envFrom": [{"secretRef": {"name": SECRET, "optional": True}}],
        "volumeMounts": [
            {"name": "sweep", "mountPath": FOLDER, "readOnly": True},
            # Tensor parallelism talks through shared memory, of which a pod has 64 MB.
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [
            {"name": "sweep", "configMap": {"name": config_map}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
    if array.count:
        container["resources"] = {"limits": {"nvidia.com/gpu": array.count}}
        pod["nodeSelector"] = {GPU_LABEL: array.gpu}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": array.name, "labels": {"app.kubernetes.io/part-of": config_map}},
        "spec": {
            "completionMode": "Indexed",
            "completions": count,
            # Those for which there is no GPU yet wait in the cluster's queue.
            "parallelism": count,
            "backoffLimitPerIndex": POD_ATTEMPTS,
            "maxFailedIndexes": count,
            "activeDeadlineSeconds": math.ceil(array.limit_s) * count,
            "template": {"spec": pod},
        },
    }


def _yaml(value: Any, indent: int = 0) -> str:
    """Return nested tables and lists as YAML; every leaf is written as JSON, which is YAML as well."""
    pad = "  " * indent
    lines = []
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            lines.append(f"{pad}{json.dumps(key)}:\n{_yaml(inner, indent + 1)}")
        elif isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner):
            lines.append(f"{pad}{json.dumps(key)}:\n")
            for item in inner:
                block = _yaml(item, indent + 2)
                lines.append(f"{pad}  - {block[2 * (indent + 2) :]}")
        else:
            lines.append(f"{pad}{json.dumps(key)}: {json.dumps(inner)}\n")
    return "".join(lines)
