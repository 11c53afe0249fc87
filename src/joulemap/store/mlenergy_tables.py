"""Runs as the ML.ENERGY Benchmark's compiled tables, so that tools made for those read them.

The columns are those that ``importers/mlenergy_parquet.py`` reads; what they have no place for is left out.
A table of measurements has no place for guesses either: a run whose energy is not measured is not written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from joulemap.records import Basis
from joulemap.store.schema import COLUMNS
from joulemap.units import S_PER_MS

_COMMON = {
    "task": "task",
    "model_id": "model_id",
    "nickname": "nickname",
    "architecture": "architecture",
    "total_params_billions": "total_params_billions",
    "activated_params_billions": "activated_params_billions",
    "weight_precision": "weight_precision",
    "gpu_model": "gpu_model",
    "num_gpus": "num_gpus",
    "avg_power_watts": "power_w",
}
_LLM = {
    **_COMMON,
    "max_num_seqs": "max_num_seqs",
    "tensor_parallel": "tensor_parallel",
    "expert_parallel": "expert_parallel",
    "data_parallel": "data_parallel",
    "steady_state_energy_joules": "gpu_energy_j",
    "steady_state_duration_seconds": "duration_s",
    "energy_per_token_joules": "energy_per_output_j",
    "energy_per_request_joules": "energy_per_request_j",
    "output_throughput_tokens_per_sec": "output_throughput_per_s",
    "request_throughput_req_per_sec": "request_throughput_per_s",
    "total_output_tokens": "total_output_tokens",
    "completed_requests": "completed_requests",
    "avg_output_len": "mean_output_tokens",
    "avg_batch_size": "batch_size",
}
_LLM_MS = {
    "mean_itl_ms": "itl_mean_s",
    "median_itl_ms": "itl_median_s",
    "p90_itl_ms": "itl_p90_s",
    "p95_itl_ms": "itl_p95_s",
    "p99_itl_ms": "itl_p99_s",
}
_DIFFUSION = {
    **_COMMON,
    "ulysses_degree": "ulysses_degree",
    "ring_degree": "ring_degree",
    "use_torch_compile": "torch_compile",
    "batch_size": "batch_size",
    "inference_steps": "inference_steps",
    "height": "height_px",
    "width": "width_px",
    "num_frames": "num_frames",
    "fps": "fps_hz",
    "energy_per_generation_joules": "energy_per_output_j",
    "throughput_generations_per_sec": "output_throughput_per_s",
}
_LLM_NEEDS = (
    *("task", "gpu_model", "num_gpus", "max_num_seqs"),
    *("energy_per_output_j", "power_w", "output_throughput_per_s"),
)
_DIFFUSION_NEEDS = (
    *("task", "gpu_model", "num_gpus", "batch_size"),
    *("energy_per_output_j", "power_w", "output_throughput_per_s", "batch_latency_s"),
)
COLUMNS_KEPT = sorted({*_LLM.values(), *_LLM_MS.values(), *_DIFFUSION.values(), "valid", "validity_reasons"})
"""The columns of the run table of which the compiled tables have some form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlenergyTables:
    """The two tables, and what could not be put into them."""

    llm: pl.DataFrame
    diffusion: pl.DataFrame
    left_out: dict[str, int]
    """Runs that have no place in the tables, counted by reason."""


def mlenergy_tables(frame: pl.DataFrame) -> MlenergyTables:
    """Return runs in the form of the compiled tables.

    Args:
        frame: The run table (columns: ``store.schema.COLUMNS``).
    """
    table = frame.with_columns(
        # The tables hold one latency of a batch; of ours, the mean is what it is read back as.
        batch_latency_s=pl.coalesce("latency_mean_s", "latency_median_s"),
        basis=pl.col("annotations").str.json_path_match("$.basis.energy_per_output_j"),
    )
    left_out: Counter[str] = Counter()
    llm, diffusion = [], []
    for row in table.iter_rows(named=True):
        is_llm = row["output_unit"] == "token"
        reason = _why_not(row, _LLM_NEEDS if is_llm else _DIFFUSION_NEEDS)
        if reason:
            left_out[reason] += 1
        elif is_llm:
            llm.append(_llm_row(row))
        else:
            diffusion.append(_diffusion_row(row))
    return MlenergyTables(
        llm=pl.DataFrame(llm, schema=_schema({**_LLM, **_LLM_MS}, "llm")),
        diffusion=pl.DataFrame(diffusion, schema=_schema(_DIFFUSION, "diffusion")),
        left_out=dict(left_out.most_common()),
    )


def _why_not(row: Mapping[str, Any], needs: Sequence[str]) -> str | None:
    if row["basis"] not in (None, Basis.MEASURED.value):
        return f"its energy is {row['basis']}, not measured"
    lacking = [name for name in needs if not row[name]]
    return f"it lacks {', '.join(lacking)}" if lacking else None


def _llm_row(row: Mapping[str, Any]) -> dict[str, Any]:
    times_ms = {name: None if row[own] is None else row[own] / S_PER_MS for name, own in _LLM_MS.items()}
    return {"domain": "llm", **{name: row[own] for name, own in _LLM.items()}, **times_ms, **_verdict(row)}


def _diffusion_row(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: row[own] for name, own in _DIFFUSION.items()}
    # A pipeline runs whole batches.
    values["batch_size"] = round(row["batch_size"])
    return {"domain": "diffusion", **values, "batch_latency_s": row["batch_latency_s"], **_verdict(row)}


def _verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    reasons = "" if row["valid"] else "; ".join(row["validity_reasons"])
    return {"is_stable": row["valid"], "unstable_reason": reasons, "results_path": f"joulemap/{row['run_id']}"}


def _schema(columns: Mapping[str, str], domain: str) -> dict[str, pl.DataType]:
    kinds = {name: COLUMNS[own] for name, own in columns.items()}
    if domain == "diffusion":
        kinds |= {"batch_size": pl.Int64(), "batch_latency_s": pl.Float64()}
    verdict = {"is_stable": pl.Boolean(), "unstable_reason": pl.String(), "results_path": pl.String()}
    return {"domain": pl.String(), **kinds, **verdict}
