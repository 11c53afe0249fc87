"""Runs that nobody measured: what the model says of a configuration, a few percent off, and a planted cause."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import load_catalog
from joulemap.diagnose.configuration import configuration_table
from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Diagnosis, FindingKind
from joulemap.diagnose.series import Curves
from joulemap.predict.predict import shipped_calibration
from joulemap.records import Deployment, Workload
from joulemap.store.schema import COLUMNS

Row = dict[str, Any]

NOISE = 0.03
"""Relative standard deviation of the time and power of a synthetic run."""
REPLY_TOKENS = {"gpqa": 7000, "lm-arena-chat": 700, "image-chat": 600, "video-chat": 400}
WAITING_W = {"A100": 75, "H100": 115, "H200": 120, "B200": 195, "L40S": 60, "MI300X": 180}
"""Power of a loaded GPU that waits."""


def run(
    model: str,
    gpu: str,
    gpus: int,
    task: str | None,
    batch: float,
    *,
    ceiling: int | None = None,
    prompt: float | None = None,
    reply: float | None = None,
    **deployment: Any,
) -> Row:
    """Return a row of a run table as if it had been measured: a few percent off the model, the same every time."""
    workload = Workload(
        task=task,
        mean_input_tokens=prompt,
        mean_output_tokens=reply or REPLY_TOKENS.get(task or ""),
    )
    settings: Row = {"engine": "vllm", "engine_version": "0.6.3", **deployment}
    table, _, _ = configuration_table(
        workload,
        Deployment(model_id=model, gpu_model=gpu, num_gpus=gpus, max_num_seqs=ceiling, **settings),
        batch_size=batch,
        calibration=shipped_calibration(),
        catalog=load_catalog(),
        models=None,
    )
    seed = zlib.crc32(f"{model} {gpu} {gpus} {task} {batch}".encode())
    random = np.random.default_rng(seed)
    measured: Row = {
        "run_id": f"{seed:012x}",
        "source": "synthetic",
        "annotations": None,
        "validity_reasons": [],
        "duration_s": 120.0,
        "completed_requests": 1000,
        "failed_requests": 0,
    }
    slower, hotter = np.exp(NOISE * random.standard_normal(2)).tolist()
    return scaled(table.to_dicts()[0] | measured, slower=slower, power=hotter)


def scaled(row: Row, *, slower: float = 1.0, power: float = 1.0) -> Row:
    """Return a run whose steps take longer and whose GPUs draw more, energy to match."""
    times = {n: row[n] * slower for n in row if n.startswith(("itl_", "tpot_", "latency_")) and row[n]}
    watts, throughput = row["power_w"] * power, row["output_throughput_per_s"] / slower
    energy = watts / throughput
    replied = {"energy_per_request_j": energy * row["mean_output_tokens"]} if row["mean_output_tokens"] else {}
    outcomes = {"power_w": watts, "output_throughput_per_s": throughput, "energy_per_output_j": energy}
    return row | times | outcomes | replied


def starved(row: Row, times: float) -> Row:
    """Return a run whose GPUs idle between steps, which take ``times`` as long."""
    waiting_w = WAITING_W[row["gpu_model"].split("-")[0]] * row["num_gpus"]
    power_w = waiting_w + (row["power_w"] - waiting_w) / times
    return scaled(row, slower=times, power=power_w / row["power_w"])


def diagnosed(row: Row, beside: Iterable[Row] = ()) -> Diagnosis:
    """Return the diagnosis of a run in a store with others beside it."""
    store = pl.DataFrame([row, *beside], schema=COLUMNS, strict=False)
    (diagnosis,) = diagnose_frame(store.head(1), curves=Curves(store))
    total = math.fsum(part.joules_per_output for part in diagnosis.ledger)
    assert math.isclose(total, row["energy_per_output_j"], rel_tol=1e-9)
    return diagnosis


def first(diagnosis: Diagnosis) -> str | None:
    """Return the name of what was found first."""
    return diagnosis.findings[0].name if diagnosis.findings else None


def accused_of(diagnosis: Diagnosis) -> list[str]:
    """Return what is called a defect, however small."""
    return [f.name for f in diagnosis.findings if f.kind is not FindingKind.CHOICE]
