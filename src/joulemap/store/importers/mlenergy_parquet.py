"""The ML.ENERGY Benchmark's compiled dataset: ``runs/llm.parquet`` and ``runs/diffusion.parquet``.

Column names: the data toolkit's ``LLMRun`` and ``DiffusionRun``. The publishers' own verdict is kept: a row
that is not stable becomes an invalid run.
"""

from __future__ import annotations

from typing import Any

from joulemap.errors import ImportFileError
from joulemap.records import (
    Annotations,
    Deployment,
    Measured,
    Modality,
    OutputUnit,
    Provenance,
    Run,
    Validity,
    Workload,
)
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.gpu_names import short_gpu_name
from joulemap.store.importers.mlenergy_path import INPUT_MODALITIES
from joulemap.store.importers.parquet_worker import WORKER
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Source
from joulemap.units import S_PER_MS

_LLM = frozenset({"energy_per_token_joules", "max_num_seqs", "model_id", "gpu_model"})
_DIFFUSION = frozenset({"energy_per_generation_joules", "batch_latency_s", "model_id", "gpu_model"})
_TABLES = [sorted(_LLM), sorted(_DIFFUSION)]


class MlenergyParquetImporter:
    """Reads every row of one compiled table."""

    name = "mlenergy-parquet"
    summary = "the ML.ENERGY Benchmark's compiled runs (runs/llm.parquet, runs/diffusion.parquet)"

    def recognises(self, source: Source) -> bool:
        """Return whether the file is Parquet with the columns of one of the two tables."""
        if not source.is_parquet:
            return False
        try:
            return _rows(source) is not None
        except ImportFileError:
            # Said again, and then heard, by the reader of a table that bears one of the two names.
            return source.path.name in {"llm.parquet", "diffusion.parquet"}

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read every row; a bad row is a problem of its own."""
        if given := sorted(hints.given()):
            reason = f"compiled runs state everything themselves; they take no {', '.join(given)}"
            raise ImportFileError(source.file, None, reason, fix="leave these options out")
        if not source.is_parquet:
            raise ImportFileError(source.file, None, "is not a Parquet file")
        rows = _rows(source)
        if rows is None:
            raise ImportFileError(source.file, None, "has the columns of neither table of compiled runs")
        reading = Reading()
        for position, row in enumerate(rows):
            try:
                reading.runs.append(_run(source, position, Fields(source.file, f"row {position}", row)))
            except ImportFileError as error:
                reading.problems.append(error)
        return reading


def _rows(source: Source) -> list[dict[str, Any]] | None:
    return source.once("rows", lambda: WORKER.read(source.file, _TABLES))


def _run(source: Source, position: int, row: Fields) -> Run:
    llm = "energy_per_token_joules" in row.values
    stable = row.optional_flag("is_stable")
    reason = row.optional_text("unstable_reason") or "the publishers hold it to be unstable"
    return Run(
        workload=_llm_workload(row) if llm else _diffusion_workload(row),
        deployment=_deployment(row, llm=llm),
        measured=_llm_measured(row) if llm else _diffusion_measured(row),
        provenance=Provenance(
            source="ML.ENERGY Benchmark compiled runs",
            source_file=source.path.name,
            source_row=position,
            importer=IMPORTER.name,
        ),
        validity=Validity(valid=stable is not False, reasons=() if stable is not False else (reason,)),
        annotations=Annotations(
            missing={"mean_input_tokens": "the compiled runs have no input lengths"} if llm else {}
        ),
    )


def _deployment(row: Fields, *, llm: bool) -> Deployment:
    return Deployment(
        model_id=row.text("model_id"),
        nickname=row.optional_text("nickname"),
        gpu_model=short_gpu_name(row.text("gpu_model")),
        num_gpus=row.integer("num_gpus", positive=True),
        weight_precision=row.optional_text("weight_precision"),
        architecture=row.optional_text("architecture"),
        total_params_billions=row.optional_number("total_params_billions", positive=True),
        activated_params_billions=row.optional_number("activated_params_billions", positive=True),
        tensor_parallel=row.optional_integer("tensor_parallel", positive=True),
        expert_parallel=row.optional_integer("expert_parallel", positive=True),
        data_parallel=row.optional_integer("data_parallel", positive=True),
        ulysses_degree=row.optional_integer("ulysses_degree", positive=True),
        ring_degree=row.optional_integer("ring_degree", positive=True),
        max_num_seqs=row.integer("max_num_seqs", positive=True) if llm else None,
        torch_compile=row.optional_flag("use_torch_compile"),
        engine="vllm" if llm else "xdit",
    )


def _llm_workload(row: Fields) -> Workload:
    task = row.text("task")
    return Workload(
        task=task,
        input_modality=INPUT_MODALITIES.get(task, Modality.TEXT),
        mean_output_tokens=row.optional_number("avg_output_len", positive=True),
    )


def _llm_measured(row: Fields) -> Measured:
    completed = row.optional_number("completed_requests", most=1e15)
    output_tokens = row.optional_number("total_output_tokens", most=1e15)
    return Measured(
        energy_per_output_j=row.number("energy_per_token_joules", positive=True),
        energy_per_request_j=row.optional_number("energy_per_request_joules", positive=True),
        power_w=row.number("avg_power_watts", positive=True),
        batch_size=row.optional_number("avg_batch_size"),
        output_throughput_per_s=row.number("output_throughput_tokens_per_sec", positive=True),
        request_throughput_per_s=row.optional_number("request_throughput_req_per_sec"),
        itl_mean_s=row.optional_number("mean_itl_ms", scale=S_PER_MS),
        itl_median_s=row.optional_number("median_itl_ms", scale=S_PER_MS),
        itl_p90_s=row.optional_number("p90_itl_ms", scale=S_PER_MS),
        itl_p95_s=row.optional_number("p95_itl_ms", scale=S_PER_MS),
        itl_p99_s=row.optional_number("p99_itl_ms", scale=S_PER_MS),
        duration_s=row.optional_number("steady_state_duration_seconds", positive=True),
        gpu_energy_j=row.optional_number("steady_state_energy_joules", positive=True),
        completed_requests=None if completed is None else round(completed),
        total_output_tokens=None if output_tokens is None else round(output_tokens),
    )


def _diffusion_workload(row: Fields) -> Workload:
    task = row.text("task")
    return Workload(
        task=task,
        output_unit=OutputUnit.VIDEO if task == "text-to-video" else OutputUnit.IMAGE,
        inference_steps=row.optional_integer("inference_steps", positive=True),
        height_px=row.optional_integer("height") or None,
        width_px=row.optional_integer("width") or None,
        num_frames=row.optional_integer("num_frames", positive=True),
        fps_hz=row.optional_number("fps", positive=True),
    )


def _diffusion_measured(row: Fields) -> Measured:
    energy_j = row.number("energy_per_generation_joules", positive=True)
    throughput_per_s = row.number("throughput_generations_per_sec", positive=True)
    return Measured(
        # A request is for one image or video, so its energy and rate are those of an output.
        energy_per_output_j=energy_j,
        energy_per_request_j=energy_j,
        power_w=row.number("avg_power_watts", positive=True),
        batch_size=row.number("batch_size", positive=True),
        output_throughput_per_s=throughput_per_s,
        request_throughput_per_s=throughput_per_s,
        latency_mean_s=row.number("batch_latency_s", positive=True),
    )


IMPORTER = MlenergyParquetImporter()
