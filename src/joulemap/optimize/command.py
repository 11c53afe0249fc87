"""The command that measures a candidate."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from joulemap.catalog import Catalog
from joulemap.errors import UnknownNameError

SERVER = "http://127.0.0.1:8000"
"""Where the server is taken to listen; the user puts another address in its place."""
_SIZES = {"steps": "inference_steps", "height": "height_px", "width": "width_px", "frames": "num_frames"}
_PARALLEL = ("tensor_parallel", "expert_parallel", "data_parallel")


def measure_command(row: Mapping[str, Any], catalog: Catalog) -> str:
    """Return the ``joulemap measure`` command for a candidate.

    Pictures and videos on one GPU are made in the measuring process; everything else asks a server.

    Args:
        row: The candidate.
        catalog: For the task's lengths.
    """
    words = ["joulemap", "measure"]
    if row["output_unit"] != "token" and row["num_gpus"] == 1:
        words += ["--diffusers", row["model_id"], "--task", row["task"], "--batch", f"{row['batch_ceiling']:g}"]
        pairs = (
            ("steps", "inference_steps"),
            ("height", "height_px"),
            ("width", "width_px"),
            ("frames", "num_frames"),
        )
        for option, column in pairs:
            words += [f"--{option}", str(row[column])] if row[column] else []
        return shlex.join(words)
    words += [SERVER, "--task", row["task"], "--model", row["model_id"]]
    words += ["--concurrency", f"{row['batch_ceiling']:g}"]
    if row["output_unit"] == "token":
        words += _lengths(row, catalog)
        words += ["--max-num-seqs", f"{row['batch_ceiling']:g}"]
    else:
        words += ["--endpoint", "images"]
    words += ["--gpu", str(row["gpu_model"]), "--gpu-count", str(row["num_gpus"])]
    words += ["--precision", row["weight_precision"]] if row["weight_precision"] else []
    for name in _PARALLEL:
        words += [f"--{name.replace('_', '-')}", str(row[name])] if row[name] else []
    return shlex.join(words)


def _lengths(row: Mapping[str, Any], catalog: Catalog) -> list[str]:
    """Return the options of prompt and reply length: the candidate's, else the task's."""
    asked = row["mean_input_tokens"]
    if asked is None:
        try:
            lengths = catalog.task(row["task"]).input_lengths
        except UnknownNameError:
            lengths = None
        asked = lengths.mean_tokens if lengths else None
    pairs = (("--input-tokens", asked), ("--output-tokens", row["mean_output_tokens"]))
    return [word for option, tokens in pairs if tokens for word in (option, f"{tokens:.0f}")]
