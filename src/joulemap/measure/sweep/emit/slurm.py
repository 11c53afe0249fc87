"""Slurm job files: one array for each GPU model and count."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection

from joulemap.measure.sweep.emit.jobs import JobArray, job_arrays, sweep_words
from joulemap.measure.sweep.spec import SweepSpec
from joulemap.units import S_PER_HOUR, S_PER_MINUTE


def slurm_files(spec: SweepSpec, file: str, store: str | None, only: Collection[str] = ()) -> dict[str, str]:
    """Return the content of each job file by its name.

    Args:
        spec: The sweep.
        file: The sweep file, as the jobs will find it.
        store: The store's path or URL; by default that of the user who runs the jobs.
        only: Ids of the configurations to keep to; all by default.
    """
    return {f"{array.name}.sbatch": _job(array, file, store) for array in job_arrays(spec, only)}


def _job(array: JobArray, file: str, store: str | None) -> str:
    gpus = [f"#SBATCH --gres=gpu:{(array.gpu or '').casefold()}:{array.count}"] if array.count else []
    named = [f"  {c.configuration_id} # {_comment(c.words)}" for c in array.configurations]
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={array.name}",
        f"#SBATCH --array=0-{len(array.ids) - 1}",
        *gpus,
        "#SBATCH --ntasks=1",
        f"#SBATCH --time={_clock(array.limit_s)}",
        f"#SBATCH --output={array.name}-%A_%a.log",
        "# The site's name of the GPU type may differ: 'sinfo -o %G' lists them.",
        "set -euo pipefail",
        "configurations=(",
        *named,
        ")",
        # What is finished is not measured again: a job that was requeued takes up where it was.
        f'exec {shlex.join(sweep_words(file, store))} "${{configurations[SLURM_ARRAY_TASK_ID]}}"',
    ]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return " ".join(text.split())


def _clock(duration_s: float) -> str:
    """Return hours, minutes and seconds, rounded up.

    >>> _clock(7500.5)
    '2:05:01'
    """
    minutes, seconds = divmod(math.ceil(duration_s), int(S_PER_MINUTE))
    hours, minutes = divmod(minutes, int(S_PER_HOUR / S_PER_MINUTE))
    return f"{hours}:{minutes:02d}:{seconds:02d}"
