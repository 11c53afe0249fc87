"""Exports of genai-perf (``profile_export_genai_perf.json``).

Field names: genai-perf's ``export_data/json_exporter.py`` and ``metrics/telemetry_metrics.py``. The export
has no wall-clock times. Its telemetry gives statistics of the running energy counter, so that the energy is
max − min; it takes every counter for one of millijoules, which Triton's, in joules, is not.
"""

from __future__ import annotations

from typing import Any

from joulemap.records import Measured, Provenance, Workload
from joulemap.store.importers.aiperf import counted
from joulemap.store.importers.client_run import (
    IN_FLIGHT_NOTE,
    RAMPS_NOTE,
    ClientRun,
    ToolEnergy,
    add_run,
    deployment_of,
    override_notes,
)
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Source
from joulemap.store.importers.united_metric import COUNTS, JOULES, PER_SECOND, SECONDS, WATTS, scaled, statistic

LARGEST_COUNTER_ERROR = 2.0
"""A counter that differs from mean power × duration by a larger factor is in another unit than it claims."""


class GenaiPerfImporter:
    """Reads one export."""

    name = "genai-perf"
    summary = "genai-perf exports (profile_export_genai_perf.json)"

    def recognises(self, source: Source) -> bool:
        """Return whether the file is an export."""
        document = source.first
        return {"request_throughput", "input_config"} <= document.keys() and isinstance(
            document["request_throughput"], dict
        )

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read the run; GPU telemetry in the file gives its energy."""
        reading = Reading()
        add_run(reading, _client_run(source, Fields(source.file, "", source.document), hints), source, hints)
        return reading


def _client_run(source: Source, export: Fields, hints: ImportHints) -> ClientRun:
    rate_per_s = statistic(export, "request_throughput", "avg", PER_SECOND) or 0.0
    completed = statistic(export, "request_count", "avg", COUNTS) or 0.0
    duration_s = completed / rate_per_s if rate_per_s > 0 else 0.0
    if completed < 1 or not 1e-6 < duration_s < 1e9:
        export.refuse("request_throughput", f"with {completed:g} requests at {rate_per_s:g}/s there is no duration")
    tokens_per_s = statistic(export, "output_token_throughput", "avg", PER_SECOND)
    config = export.fields("input_config")
    model_id = _model(config)
    telemetry = export.optional_fields("telemetry_stats")
    num_gpus = _gpu_count(telemetry)
    return ClientRun(
        workload=Workload(
            task=hints.task,
            mean_input_tokens=statistic(export, "input_sequence_length", "avg", COUNTS) or None,
            mean_output_tokens=statistic(export, "output_sequence_length", "avg", COUNTS) or None,
            max_concurrency=_concurrency(config),
        ),
        deployment=deployment_of(source, "", hints, model_id=model_id, num_gpus=num_gpus),
        measured=_measured(export, duration_s, round(completed), tokens_per_s),
        provenance=Provenance(
            source="genai-perf",
            source_file=source.path.name,
            importer=IMPORTER.name,
            notes=(IN_FLIGHT_NOTE, *override_notes(hints, model_id=model_id, num_gpus=num_gpus)),
        ),
        output_tokens=tokens_per_s * duration_s if tokens_per_s else None,
        window_s=None,
        no_window="genai-perf writes no wall-clock times, so that no power log can be aligned with its export",
        tool_energy=_tool_energy(telemetry, duration_s),
        remarks=(RAMPS_NOTE,),
        missing={"itl_median_s": "genai-perf's inter-token latency is a mean per request; it is under tpot"},
    )


def _measured(export: Fields, duration_s: float, completed: int, tokens_per_s: float | None) -> Measured:
    def seconds(metric: str, name: str) -> float | None:
        return statistic(export, metric, name, SECONDS)

    latency_mean_s = seconds("request_latency", "avg")
    gap, first = "inter_token_latency", "time_to_first_token"
    return Measured(
        # Little's law: mean requests in flight = rate × mean time in the system.
        batch_size=completed / duration_s * latency_mean_s if latency_mean_s else None,
        output_throughput_per_s=tokens_per_s,
        request_throughput_per_s=completed / duration_s,
        tpot_mean_s=seconds(gap, "avg"),
        tpot_median_s=seconds(gap, "p50"),
        tpot_p99_s=seconds(gap, "p99"),
        ttft_mean_s=seconds(first, "avg"),
        ttft_median_s=seconds(first, "p50"),
        ttft_p90_s=seconds(first, "p90"),
        ttft_p95_s=seconds(first, "p95"),
        ttft_p99_s=seconds(first, "p99"),
        latency_mean_s=latency_mean_s,
        latency_median_s=seconds("request_latency", "p50"),
        latency_p99_s=seconds("request_latency", "p99"),
        duration_s=duration_s,
        completed_requests=completed,
        total_output_tokens=round(tokens_per_s * duration_s) if tokens_per_s else None,
    )


def _tool_energy(telemetry: Fields | None, duration_s: float) -> ToolEnergy | None:
    if telemetry is None:
        return None
    energy_j = _summed(telemetry, "energy_consumption", JOULES, counter=True)
    power_w = _summed(telemetry, "gpu_power_usage", WATTS)
    by_power_j = power_w * duration_s if power_w else None
    if energy_j and by_power_j:
        ratio = energy_j / by_power_j
        if not 1 / LARGEST_COUNTER_ERROR <= ratio <= LARGEST_COUNTER_ERROR:
            note = f"the energy counter's {energy_j:,.4g} J cannot be right beside {power_w:,.4g} W; power is used"
            return ToolEnergy(energy_j=by_power_j, meter="genai-perf, mean GPU power × duration", notes=(note,))
    if energy_j:
        return ToolEnergy(energy_j=energy_j, meter="genai-perf, GPU energy counters")
    return ToolEnergy(energy_j=by_power_j, meter="genai-perf, mean GPU power × duration") if by_power_j else None


def _summed(telemetry: Fields, metric: str, units: dict[str, float], *, counter: bool = False) -> float | None:
    values = telemetry.optional_fields(metric)
    if values is None:
        return None
    total = 0.0
    for gpu in values.values:
        if gpu == "unit":
            continue
        of_gpu = values.fields(gpu)
        with_unit = Fields(of_gpu.file, of_gpu.place, {**of_gpu.values, "unit": values.values.get("unit")})
        value = counted(with_unit, units) if counter else scaled(with_unit, "avg", units)
        if value is None:
            return None
        total += value
    return total or None


def _gpu_count(telemetry: Fields | None) -> int | None:
    power = telemetry.optional_fields("gpu_power_usage") if telemetry else None
    return len(power.values.keys() - {"unit"}) or None if power else None


def _model(config: Fields) -> str | None:
    """Return the one model of the configuration, in the layouts of old and new exports; ``None`` if several."""
    names: Any = config.values.get("model_names") or config.values.get("model")
    if isinstance(names, list):
        names = names[0] if len(names) == 1 else None
    return Fields(config.file, config.place, {"model": names}).optional_text("model")


def _concurrency(config: Fields) -> int | None:
    analyzer = config.values.get("perf_analyzer")
    stimulus: Any = analyzer.get("stimulus") if isinstance(analyzer, dict) else None
    value = stimulus.get("concurrency") if isinstance(stimulus, dict) else config.values.get("concurrency")
    return Fields(config.file, config.place, {"concurrency": value or None}).optional_integer("concurrency")


IMPORTER = GenaiPerfImporter()
