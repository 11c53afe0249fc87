"""What is asked of a configuration by the name of a task."""

from __future__ import annotations

from dataclasses import replace

from joulemap.catalog import load_catalog
from joulemap.records import Modality, Workload


def for_task(workload: Workload, name: str) -> Workload:
    """Return a workload with a task's name and modality, and its reply length where none is stated.

    Raises:
        UnknownNameError: The catalog has no such task.
    """
    task = load_catalog().task(name)
    lengths = task.output_lengths
    stated = workload.mean_output_tokens
    return replace(
        workload,
        task=task.id,
        input_modality=Modality(task.input_modality),
        mean_output_tokens=stated if stated is not None else lengths.mean_tokens if lengths else None,
    )
