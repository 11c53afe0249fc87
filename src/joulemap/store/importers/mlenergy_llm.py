"""Raw LLM results of the ML.ENERGY Benchmark: a folder with ``results.json`` and ``prometheus.json``.

Field names: the benchmark's ``mlenergy/llm/benchmark.py``. Seconds and joules; energy and throughput are of
the steady state, from the moment the batch is full to the moment the queue cannot refill it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from joulemap.errors import ImportFileError
from joulemap.records import Annotations, Measured, Modality, Provenance, Run, Validity, Workload
from joulemap.store.importers.client_run import LARGEST_METER_DISAGREEMENT, deployment_of, override_notes
from joulemap.store.importers.engine_window import EngineWindow, engine_window
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.lengths import distribution_of
from joulemap.store.importers.mlenergy_path import INPUT_MODALITIES, PathContext, model_info, path_context
from joulemap.store.importers.power_log import LATEST_UNIX_S, Floats, PowerLog, energy_over
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.request_times import RequestTimes, read_requests
from joulemap.store.importers.source import Source

SHORTEST_STEADY_STATE_S = 20.0
SMALLEST_BATCH_SHARE = 0.85
"""The publishers leave out runs with a shorter steady state, or a smaller mean batch relative to its ceiling."""


class MlenergyLlmImporter:
    """Reads the result in a folder, or a ``results.json`` by itself."""

    name = "mlenergy-llm"
    summary = "ML.ENERGY Benchmark raw LLM results: a folder with results.json and prometheus.json"

    def recognises(self, source: Source) -> bool:
        """Return whether the folder's ``results.json``, or the file, has the benchmark's energy fields."""
        if source.is_folder:
            results = source.child("results.json")
            return results.path.is_file() and self.recognises(results)
        return {
            "steady_state_energy",
            "steady_state_duration",
            "steady_state_energy_per_token",
        } <= source.first.keys()

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read the run; a damaged ``prometheus.json`` is a problem that leaves the run without telemetry."""
        folder = source if source.is_folder else Source(source.path.absolute().parent)
        results_source = folder.child("results.json") if source.is_folder else source
        reading = Reading()
        telemetry = folder.child("prometheus.json")
        results = Fields(results_source.file, "", results_source.document)
        reading.runs.append(_run(results, results_source, telemetry, hints, reading))
        return reading


def _run(results: Fields, source: Source, telemetry: Source, hints: ImportHints, reading: Reading) -> Run:
    context = path_context(source.path.absolute().parent)
    requests = read_requests(results)
    start_s, end_s = _steady_window_s(results)
    engine = _engine_window(telemetry, start_s, end_s, reading)
    deployment_fields = _deployment_fields(results, context)
    deployment = deployment_of(source, "", hints, **deployment_fields)
    task = hints.task or context.task
    info = model_info(source.path.absolute().parent, task, deployment.model_id)
    deployment = replace(
        deployment,
        nickname=info.nickname,
        architecture=info.architecture,
        weight_precision=info.weight_precision,
        total_params_billions=info.total_params_billions,
        activated_params_billions=info.activated_params_billions,
    )
    measured = _measured(results, requests, engine, _temperature_c(results, start_s, end_s))
    remarks = _meter_remarks(results, measured, start_s, end_s)
    faults = _faults(results, measured, deployment.max_num_seqs)
    modality = INPUT_MODALITIES.get(task or "", Modality.TEXT)
    return Run(
        workload=_workload(task, modality, requests, engine, results),
        deployment=deployment,
        measured=measured,
        provenance=Provenance(
            source="ML.ENERGY Benchmark raw results",
            source_file="/".join(source.path.absolute().parts[-2:]),
            importer=IMPORTER.name,
            measured_at=datetime.fromtimestamp(start_s, UTC) if start_s else None,
            meter="Zeus (NVML energy counters)",
            notes=override_notes(hints, **_said(deployment_fields)),
        ),
        validity=Validity(valid=not faults, reasons=(*faults, *remarks)),
        annotations=Annotations(missing=_missing(requests, engine, modality)),
    )


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("model_id", "gpu_model", "num_gpus")}


def _deployment_fields(results: Fields, context: PathContext) -> dict[str, Any]:
    """Return what the file states of the deployment, and for what it does not, the path."""
    return {
        "model_id": results.optional_text("model_id") or context.model_id,
        "gpu_model": results.optional_text("gpu_model") or context.gpu_model,
        "num_gpus": results.optional_integer("num_gpus", positive=True) or context.integer("num_gpus"),
        "max_num_seqs": results.optional_integer("max_num_seqs", positive=True) or context.integer("max_num_seqs"),
        "max_num_batched_tokens": results.optional_integer("max_num_batched_tokens", positive=True)
        or context.integer("max_num_batched_tokens"),
        "engine": "vllm",
    }


def _workload(
    task: str | None, modality: Modality, requests: RequestTimes, engine: EngineWindow, results: Fields
) -> Workload:
    mean_output = requests.mean_output_tokens or _mean_of_totals(results, "total_output_tokens")
    mean_input = requests.mean_input_tokens or _mean_of_totals(results, "total_input_tokens")
    if modality is not Modality.TEXT:
        # The client counts the text of a prompt only; the engine counts the vision tokens too.
        ratio = (
            engine.prompt_tokens / engine.generated_tokens
            if engine.prompt_tokens and engine.generated_tokens
            else 0
        )
        mean_input = ratio * mean_output if ratio and mean_output else None
    rate = results.values.get("request_rate")
    return Workload(
        task=task,
        input_modality=modality,
        mean_input_tokens=mean_input,
        mean_output_tokens=mean_output,
        output_lengths=distribution_of(requests.output_tokens),
        request_rate_per_s=None if rate in ("inf", float("inf")) else results.optional_number("request_rate"),
        max_concurrency=results.optional_integer("max_concurrency", positive=True),
    )


def _mean_of_totals(results: Fields, total: str) -> float | None:
    completed, tokens = results.optional_integer("completed"), results.optional_number(total)
    return tokens / completed if completed and tokens else None


def _measured(
    results: Fields, requests: RequestTimes, engine: EngineWindow, temperature_c: float | None
) -> Measured:
    duration_s = results.number("steady_state_duration", positive=True)
    energy_j = results.number("steady_state_energy", positive=True)
    energy_per_token_j = results.number("steady_state_energy_per_token", positive=True)
    mean_output = requests.mean_output_tokens or _mean_of_totals(results, "total_output_tokens")
    tokens_per_s = energy_j / energy_per_token_j / duration_s
    return Measured(
        energy_per_output_j=energy_per_token_j,
        energy_per_request_j=energy_per_token_j * mean_output if mean_output else None,
        power_w=energy_j / duration_s,
        batch_size=engine.batch_size,
        output_throughput_per_s=tokens_per_s,
        request_throughput_per_s=tokens_per_s / mean_output if mean_output else None,
        duration_s=duration_s,
        gpu_energy_j=energy_j,
        completed_requests=results.optional_integer("completed"),
        failed_requests=requests.failed or None,
        total_input_tokens=results.optional_integer("total_input_tokens"),
        total_output_tokens=results.optional_integer("total_output_tokens"),
        kv_cache_utilization=engine.kv_cache_utilization,
        prefix_cache_hit_rate=engine.prefix_cache_hit_rate,
        requests_waiting=engine.requests_waiting,
        preemptions=engine.preemptions,
        gpu_temperature_c=temperature_c,
        **requests.statistics(),
    )


def _steady_window_s(results: Fields) -> tuple[float, float]:
    """Return the steady state in Unix seconds; ``(0, 0)`` where the file does not say."""
    timeline = _timeline(results)
    if timeline is None:
        return 0.0, 0.0
    start_s = timeline.optional_number("steady_state_start_time", most=LATEST_UNIX_S)
    end_s = timeline.optional_number("steady_state_end_time", most=LATEST_UNIX_S)
    return (start_s, end_s) if start_s and end_s and end_s > start_s else (0.0, 0.0)


def _timeline(results: Fields) -> Fields | None:
    return results.optional_fields("timeline") or results.optional_fields("power_timeline")


def _engine_window(telemetry: Source, start_s: float, end_s: float, reading: Reading) -> EngineWindow:
    if not telemetry.path.is_file():
        return EngineWindow()
    try:
        document = Fields(telemetry.file, "", telemetry.document)
        start_s = document.optional_number("steady_state_start_time", most=LATEST_UNIX_S) or start_s
        end_s = document.optional_number("steady_state_end_time", most=LATEST_UNIX_S) or end_s
        snapshots = []
        for position, entry in enumerate(document.items("timeline") if "timeline" in document.values else []):
            snapshot = Fields(telemetry.file, f"timeline[{position}]", entry)
            text = snapshot.values.get("metrics")
            if not isinstance(text, str):
                snapshot.refuse("metrics", "should be the text of a /metrics page")
            snapshots.append((snapshot.number("timestamp", most=LATEST_UNIX_S), text))
        window = engine_window(snapshots, start_s, end_s)
        stats = document.optional_fields("steady_state_stats")
        if window.batch_size is None and stats is not None:
            # Trimmed results keep the publishers' means only.
            window = replace(
                window,
                batch_size=stats.optional_number("vllm:num_requests_running"),
                kv_cache_utilization=stats.optional_number("vllm:kv_cache_usage_perc", most=1.0),
            )
    except ImportFileError as error:
        reading.problems.append(error)
        return EngineWindow()
    return window


def _series(results: Fields, group: str, start_s: float) -> dict[str, tuple[Floats, Floats]]:
    """Return times and values by GPU of a group of the timeline; empty if there are none."""
    timeline = _timeline(results) if start_s else None
    by_kind = timeline.optional_fields(group) if timeline else None
    if by_kind is None:
        return {}
    by_gpu = by_kind.optional_fields("device_instant") or by_kind
    series = {}
    for gpu, samples in by_gpu.values.items():
        if not isinstance(samples, list) or not samples:
            continue
        try:
            pairs = np.asarray(samples, dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            by_gpu.refuse(gpu, "should be a list of pairs of a time and a number")
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.isfinite(pairs).all() or np.abs(pairs).max() > 1e12:
            by_gpu.refuse(gpu, "should be a list of pairs of a time and a finite number")
        ordered = pairs[np.argsort(pairs[:, 0], kind="stable")]
        series[gpu] = (ordered[:, 0], ordered[:, 1])
    return series


def _temperature_c(results: Fields, start_s: float, end_s: float) -> float | None:
    means = [
        float(values[inside].mean())
        for times_s, values in _series(results, "temperature", start_s).values()
        if (inside := (times_s >= start_s) & (times_s <= end_s)).any()
    ]
    return sum(means) / len(means) if means else None


def _meter_remarks(results: Fields, measured: Measured, start_s: float, end_s: float) -> tuple[str, ...]:
    """Return a remark if the power timeline cannot confirm the energy counters."""
    series = _series(results, "power", start_s)
    if not series or not measured.gpu_energy_j:
        return ()
    log = PowerLog(
        file=results.where("timeline.power"),
        times_s={gpu: times_s for gpu, (times_s, _) in series.items()},
        powers_w={gpu: powers_w for gpu, (_, powers_w) in series.items()},
    )
    try:
        integrated_j = energy_over(log, start_s, end_s, None).energy_j
    except ImportFileError as error:
        return (f"the power timeline cannot confirm the energy: {error.field or 'it'} {error.reason}",)
    if abs(integrated_j / measured.gpu_energy_j - 1) <= LARGEST_METER_DISAGREEMENT:
        return ()
    return (f"energy by counter is {measured.gpu_energy_j:,.4g} J, by integrated power {integrated_j:,.4g} J",)


def _faults(results: Fields, measured: Measured, ceiling: int | None) -> tuple[str, ...]:
    faults = []
    duration_s = measured.duration_s or 0.0
    if duration_s < SHORTEST_STEADY_STATE_S:
        faults.append(f"a steady state of {duration_s:.3g} s is shorter than {SHORTEST_STEADY_STATE_S:g} s")
    if ceiling and measured.batch_size is not None and measured.batch_size < SMALLEST_BATCH_SHARE * ceiling:
        faults.append(f"the batch never filled: {measured.batch_size:.3g} of {ceiling} on average")
    requested, completed = results.optional_integer("num_prompts"), measured.completed_requests
    if requested and completed is not None and completed < requested:
        faults.append(f"{requested - completed:,} of {requested:,} requests did not complete")
    return tuple(faults)


def _missing(requests: RequestTimes, engine: EngineWindow, modality: Modality) -> dict[str, str]:
    missing = {}
    if engine.batch_size is None:
        missing["batch_size"] = "there is no prometheus.json, or it has no snapshot in the steady state"
    if not requests.output_tokens:
        missing["itl_median_s"] = "the file has no results of single requests"
    if modality is not Modality.TEXT and engine.prompt_tokens is None:
        missing["mean_input_tokens"] = "the client counts no vision tokens, and there is no engine telemetry"
    return missing


IMPORTER = MlenergyLlmImporter()
