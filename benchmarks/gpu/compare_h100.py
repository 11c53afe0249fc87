"""Compares what was predicted for the H100, before it was measured, with what was measured there.

Prints the tables of docs/validation.md. Usage: ``python -m benchmarks.gpu.compare_h100 [STUDY]``. With STUDY, the
folder of its dataset, the study's runs of the same configurations are put beside ours.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.gpu.compare_h200 import decode_steps
from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.series import Curves
from joulemap.predict.predict import predict_many
from joulemap.store.importers import import_path
from joulemap.store.run_store import open_store
from joulemap.store.schema import upgraded

FOLDER = Path(__file__).parent.parent / "data" / "h100"
CHAT, CODE, STATIC, PICTURES = "lm-arena-chat", "sourcegraph-fim", "static-decode", "text-to-image"
KEYS = ("model_id", "num_gpus", "weight_precision", "asked_batch")
TEXT = ("itl_median_s", "output_throughput_per_s", "power_w", "energy_per_output_j")
IMAGE = ("output_throughput_per_s", "power_w", "energy_per_output_j")
SETTINGS = (
    *("task", "model_id", "gpu_model", "num_gpus", "tensor_parallel", "weight_precision", "engine"),
    *("engine_version", "mean_input_tokens", "mean_output_tokens", "batch_size", "max_num_seqs"),
    *("inference_steps", "height_px", "width_px", "output_unit"),
)


_DRAWN = (
    pl.when(pl.col("task").is_in([CHAT, CODE]))
    .then(pl.lit(0.25))
    .when(pl.col("task") == STATIC)
    .then(pl.lit(0.0))
    .alias("output_length_spread")
)
"""Squared coefficient of variation of the replies: the client drew them log-normal, half as wide as their mean. The
study's are less even, and the model takes them for the study's where nothing is said."""


def runs(*tasks: str) -> pl.DataFrame:
    """Return the measured runs of some tasks, or all."""
    table = upgraded(pl.read_parquet(FOLDER / "runs.parquet"), 1, "runs.parquet")
    chosen = table.filter(pl.col("task").is_in(tasks)) if tasks else table
    return chosen.with_columns(pl.col("max_concurrency").cast(pl.Float64).alias("asked_batch")).sort("task", *KEYS)


def committed(kind: str) -> pl.DataFrame:
    """Return predictions as they were committed before the first run: ``served``, ``static`` or ``pictures``."""
    return pl.read_parquet(FOLDER / f"predicted-{kind}.parquet").rename({"batch_size": "asked_batch"})


def as_committed(kind: str, *tasks: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return measured runs and, row by row, what had been predicted for them."""
    told = committed(kind).select(*KEYS, pl.selectors.matches("^(itl|output|power|energy).*$"))
    told = told.drop("output_unit", strict=False)
    measured = runs(*tasks).join(told.select(KEYS), on=KEYS, how="semi")
    return measured, measured.select(KEYS).join(told, on=KEYS, how="left", maintain_order="left")


def present(measured: pl.DataFrame, *, given: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return what the shipped calibration predicts now, with engine, batch and lengths as they were."""
    return predict_many(_asked(measured), given=None if given is None else given.with_columns(_DRAWN))


def _asked(measured: pl.DataFrame) -> pl.DataFrame:
    return measured.select(*SETTINGS, _DRAWN)


def errors(
    measured: pl.DataFrame, predicted: pl.DataFrame, quantities: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """Return median and 90th percentile of the relative error, and the share inside the 90 % interval."""
    found = {}
    for name in quantities:
        seen, told = measured[name].to_numpy(), predicted[name].to_numpy()
        off = np.abs(told / seen - 1.0)
        inside = (predicted[f"{name}_low"].to_numpy() <= seen) & (seen <= predicted[f"{name}_high"].to_numpy())
        found[name] = (float(np.median(off)), float(np.quantile(off, 0.9)), float(np.mean(inside)))
    return found


def few_shot() -> dict[str, tuple[float, float, float]]:
    """Return the errors of energy on all other served runs, without runs given and with three of Qwen 3 8B."""
    served = runs(CHAT, CODE)
    three = (
        (pl.col("model_id") == "Qwen/Qwen3-8B")
        & (pl.col("task") == CHAT)
        & (pl.col("weight_precision") == "bfloat16")
        & pl.col("asked_batch").is_in([8.0, 64.0, 256.0])
    )
    others, given = served.filter(~three), served.filter(three)
    name = ("energy_per_output_j",)
    return {
        "none given": errors(others, present(others), name)[name[0]],
        "three given": errors(others, present(others, given=given), name)[name[0]],
    }


def study_beside(folder: Path) -> pl.DataFrame:
    """Return our BF16 chat runs beside the study's of the same model, GPUs and batch (vLLM 0.11.1)."""
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(Path(scratch) / "store")
        import_path(store, folder)
        study = store.frame
    keys = ("model_id", "num_gpus", "weight_precision")
    theirs = study.filter((pl.col("task") == CHAT) & (pl.col("gpu_model") == "H100")).select(
        *keys,
        pl.col("max_num_seqs").cast(pl.Float64).alias("asked_batch"),
        *(pl.col(q).alias(f"study_{q}") for q in TEXT),
    )
    return runs(CHAT).join(theirs, on=(*keys, "asked_batch"), how="inner", maintain_order="left")


def name_of(row: dict[str, Any]) -> str:
    """Return a configuration in a few words."""
    model = row["model_id"].split("/")[-1]
    return (
        f"{row['task']:<15} {model:<26} {row['num_gpus']} {row['weight_precision']:<9} {row['asked_batch']:>4.0f}"
    )


def show(measured: pl.DataFrame, predicted: pl.DataFrame, quantities: Sequence[str]) -> None:
    """Print measured values and ratios of predicted to measured, then the errors."""
    for row, told in zip(measured.iter_rows(named=True), predicted.iter_rows(named=True), strict=True):
        values = "  ".join(f"{row[q]:>10.4g} x{told[q] / row[q]:.2f}" for q in quantities)
        print(f"  {name_of(row)} ran {row['batch_size']:>5.1f}  {values}")
    for q, (median, p90, inside) in errors(measured, predicted, quantities).items():
        print(f"  {q}: median error {median:.1%}, 90th percentile {p90:.1%}, inside the 90 % interval {inside:.0%}")


def main() -> None:
    for title, kind, tasks, quantities in (
        ("served by vLLM 0.25.1", "served", (CHAT,), TEXT),
        ("decoding loops", "static", (STATIC,), TEXT),
        ("pictures", "pictures", (PICTURES,), IMAGE),
    ):
        measured, told = as_committed(kind, *tasks)
        print(f"\n{title}, as committed before: {', '.join(quantities)}")
        show(measured, told, quantities)
    served = runs(CHAT, CODE)
    print(f"\nserved, by the present form, which knows the engine's version: {', '.join(TEXT)}")
    show(served, present(served), TEXT)
    print("\nenergy of the other served runs (median, 90th percentile, inside):")
    for what, found in few_shot().items():
        print(f"  {what}: " + ", ".join(f"{x:.1%}" for x in found))
    print("\nbandwidth share, modelled / GPM; decode step, modelled ÷ measured")
    for case in decode_steps(runs(STATIC)):
        print(
            f"  {case['model_id'].split('/')[-1]:<12} {case['weight_precision']:<9} {case['batch_size']:>4.0f}"
            f"  {case['modelled_bandwidth_share']:.3f} / {case['measured_bandwidth_share']:.3f}"
            f"  {case['modelled_s'] / case['measured_s']:.2f}"
        )
    for row, latents in zip(served.iter_rows(named=True), present(served).iter_rows(named=True), strict=True):
        print(
            f"  {name_of(row)}  bandwidth {latents['memory_bandwidth_utilization']:.3f} /"
            f" {row['memory_bandwidth_utilization']:.3f}, KV cache {latents['kv_cache_utilization']:.3f} /"
            f" {row['kv_cache_utilization']:.3f}"
        )
    print("\ndiagnoses")
    every = runs()
    for row, diagnosis in zip(
        served.iter_rows(named=True), diagnose_frame(served, curves=Curves(every)), strict=True
    ):
        names = ", ".join(f.name for f in diagnosis.findings[:2])
        print(f"  {name_of(row)}  bound by {diagnosis.bound_by}; {names}")
    if len(sys.argv) > 1:
        print("\nours and the study's: ITL ms, W, J/token")
        beside = study_beside(Path(sys.argv[1]))
        for row in beside.iter_rows(named=True):
            print(
                f"  {name_of(row)}  {1e3 * row['itl_median_s']:.2f} / {1e3 * row['study_itl_median_s']:.2f}"
                f"  {row['power_w']:.0f} / {row['study_power_w']:.0f}"
                f"  {row['energy_per_output_j']:.4f} / {row['study_energy_per_output_j']:.4f}"
            )


if __name__ == "__main__":
    main()
