"""Compares what was predicted for the H200, before it was measured, with what was measured there.

Prints the tables of docs/validation.md. Usage: ``python -m benchmarks.gpu.compare_h200``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.modelled import modelled_forms
from joulemap.diagnose.series import Curves
from joulemap.predict.language import LanguageTerms
from joulemap.predict.predict import predict_many
from joulemap.store.schema import upgraded

FOLDER = Path(__file__).parent.parent / "data" / "h200"
KEYS = ["model_id", "weight_precision", "mean_input_tokens", "batch_size"]
QUANTITIES = ("itl_median_s", "power_w", "energy_per_output_j")
STATIC = "static-decode"


def runs() -> pl.DataFrame:
    """Return the measured runs."""
    return upgraded(pl.read_parquet(FOLDER / "runs.parquet"), 1, "runs.parquet")


def zero_shot() -> pl.DataFrame:
    """Return measured and predicted quantities side by side, with the ratio of predicted to measured."""
    predicted = pl.read_parquet(FOLDER / "predictions.parquet").select(
        *KEYS,
        *(pl.col(f"{q}{end}").alias(f"predicted_{q}{end}") for q in QUANTITIES for end in ("", "_low", "_high")),
    )
    joined = runs().filter(pl.col("task") == STATIC).join(predicted, on=KEYS, how="inner")
    return joined.with_columns(
        *((pl.col(f"predicted_{q}") / pl.col(q)).alias(f"ratio_{q}") for q in QUANTITIES),
        *(
            pl.col(q).is_between(f"predicted_{q}_low", f"predicted_{q}_high").alias(f"covered_{q}")
            for q in QUANTITIES
        ),
    ).sort(KEYS)


def decode_only() -> list[dict[str, Any]]:
    """Return the modelled decode step of our loops beside the measured one."""
    return decode_steps(runs().filter(pl.col("task") == STATIC).sort(KEYS))


def decode_steps(static: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the modelled decode step (weights, cache, launches) of each loop beside the measured one."""
    (modelled,) = modelled_forms(static)
    terms, rows = modelled.terms, static.to_dicts()
    assert isinstance(terms, LanguageTerms)
    step = terms.step_s["weights"] + terms.step_s["kv"] + terms.step_s["launch"]
    moved = np.sum([*terms.bytes_per_step.values()], axis=0)
    bandwidth = modelled.rows.rows.gpu["bandwidth"]
    return [
        {
            **{key: row[key] for key in KEYS},
            "measured_s": row["itl_mean_s"],
            "modelled_s": float(step[i]),
            "measured_bandwidth_share": row["memory_bandwidth_utilization"],
            "modelled_bandwidth_share": float(moved[i] / row["itl_mean_s"] / bandwidth[i]),
        }
        for i, row in enumerate(rows)
    ]


def few_shot() -> dict[str, tuple[float, float]]:
    """Return median and largest error of energy in percent: zero-shot, and with three runs given, on the others."""
    table = runs().filter((pl.col("task") == STATIC) & (pl.col("weight_precision") == "bfloat16"))
    given = table.filter(
        (pl.col("model_id") == "meta-llama/Llama-3.1-8B-Instruct")
        & (pl.col("mean_input_tokens") < 1000)
        & pl.col("batch_size").is_in([1.0, 32.0, 256.0])
    )
    others = table.join(given.select("run_id"), on="run_id", how="anti")
    asked = others.drop(
        *(c for c in others.columns if c.startswith(("energy_", "power_", "itl_", "output_throughput")))
    )
    measured = others["energy_per_output_j"].to_numpy()
    errors = {}
    for name, some in (("zero-shot", None), ("three runs given", given)):
        predicted = predict_many(asked, given=some)["energy_per_output_j"].to_numpy()
        percent = 100.0 * np.abs(predicted / measured - 1.0)
        errors[name] = (float(np.median(percent)), float(np.max(percent)))
    return errors


def main() -> None:
    meters = json.loads((FOLDER / "meters.json").read_text())
    print("phase         seconds  counter J  integrated J  disagreement  mean W  DRAM  tensor  SM")
    for name, phase in meters["phases"].items():
        seen = phase["gpm"]
        print(
            f"{name:<12} {phase['seconds']:>8.1f} {phase['counter_j']:>10.1f} {phase['integrated_j']:>13.1f}"
            f" {phase['disagreement']:>12.2%} {phase['mean_w']:>8.1f} {seen['memory_bandwidth_utilization']:>5.1%}"
            f" {seen['compute_utilization']:>7.1%} {seen['sm_utilization']:>5.1%}"
        )
    print("\nmodel, precision, prompt, batch: measured → predicted ÷ measured (ITL, power, energy)")
    for row in zero_shot().iter_rows(named=True):
        print(
            f"{row['model_id'].split('/')[-1]:<24} {row['weight_precision']:<9} {row['mean_input_tokens']:>6.0f}"
            f" {row['batch_size']:>5.0f}  {1e3 * row['itl_median_s']:>6.2f} ms {row['power_w']:>4.0f} W"
            f" {row['energy_per_output_j']:>7.4f} J  {row['ratio_itl_median_s']:.2f} {row['ratio_power_w']:.2f}"
            f" {row['ratio_energy_per_output_j']:.2f}"
        )
    table = zero_shot()
    for q in QUANTITIES:
        error = np.abs(table[f"ratio_{q}"].to_numpy() - 1.0)
        covered = float(np.mean(table[f"covered_{q}"].to_list()))
        print(f"{q}: median error {float(np.median(error)):.1%}, within the 90 % interval {covered:.0%}")
    print("\ndecode step alone: modelled ÷ measured time; bandwidth share modelled / GPM")
    for case in decode_only():
        print(
            f"{case['model_id'].split('/')[-1]:<24} {case['weight_precision']:<9} {case['mean_input_tokens']:>6.0f}"
            f" {case['batch_size']:>5.0f}  {case['modelled_s'] / case['measured_s']:.2f}"
            f"  {case['modelled_bandwidth_share']:.3f} / {case['measured_bandwidth_share']:.3f}"
        )
    print("\nenergy, median and largest error on the other runs:", few_shot())
    served = runs().filter(pl.col("task") != STATIC)
    for diagnosis in diagnose_frame(served, curves=Curves(runs())):
        print(
            diagnosis.label, diagnosis.bound_by, diagnosis.findings[0].name, diagnosis.latents["starved_fraction"]
        )


if __name__ == "__main__":
    main()
