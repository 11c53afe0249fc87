"""Exports of aiperf (``profile_export_aiperf.json``, schema 1.0 to 1.5).

Field names: aiperf's ``common/models/export_models.py``. Start and end are local times without a timezone;
energy of a single GPU is in megajoules: the window's difference in newer exports, statistics of the running
counter in older ones (there the difference is max − min).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from joulemap.errors import ImportFileError
from joulemap.records import Measured, Provenance, Workload
from joulemap.store.importers.client_run import (
    IN_FLIGHT_NOTE,
    LARGEST_METER_DISAGREEMENT,
    RAMPS_NOTE,
    ClientRun,
    ToolEnergy,
    add_run,
    deployment_of,
    override_notes,
)
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.power_log import LATEST_UNIX_S, zone_named
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Source
from joulemap.store.importers.united_metric import COUNTS, JOULES, PER_SECOND, SECONDS, WATTS, scaled, statistic
from joulemap.units import S_PER_NS

RECORDS_FILE = "profile_export.jsonl"
VENDORS = ("", "nvidia_", "amd_")
"""Beginnings of the energy metrics' names: none before schema 1.4."""
_OWN_KEYS = frozenset({"aiperf_version", "benchmark_id", "telemetry_data", "was_cancelled", "schema_version"})


class AiperfImporter:
    """Reads the summary of one aiperf run."""

    name = "aiperf"
    summary = "aiperf summaries (profile_export_aiperf.json)"

    def recognises(self, source: Source) -> bool:
        """Return whether the file is a summary with aiperf's own fields."""
        keys = source.first.keys()
        return {"request_throughput", "input_config"} <= keys and bool(keys & _OWN_KEYS)

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read the run; GPU telemetry in the file gives its energy."""
        reading = Reading()
        add_run(reading, _client_run(source, Fields(source.file, "", source.document), hints), source, hints)
        return reading


def _client_run(source: Source, export: Fields, hints: ImportHints) -> ClientRun:
    duration_s = _duration_s(export)
    completed = round(statistic(export, "request_count", "avg", COUNTS) or 0)
    if completed < 1:
        export.refuse("request_count", "counts no completed request")
    tokens_per_s = statistic(export, "output_token_throughput", "avg", PER_SECOND)
    gpus = _gpus(export)
    tokens = statistic(export, "total_osl", "avg", COUNTS) or (tokens_per_s or 0.0) * duration_s or None
    config = export.optional_fields("input_config")
    model_id = _model(config)
    gpu_names = sorted({gpu.optional_text("gpu_name") or "" for gpu in gpus} - {""})
    stated: dict[str, Any] = {
        "model_id": model_id,
        "gpu_model": gpu_names[0] if len(gpu_names) == 1 else None,
        "num_gpus": len(gpus) or None,
    }
    window_s = _recorded_window_s(source) or _window_s(export, duration_s, hints.power_timezone)
    return ClientRun(
        workload=_workload(export, config, hints.task),
        deployment=deployment_of(source, "", hints, **stated),
        measured=_measured(export, duration_s, completed, tokens, tokens_per_s),
        provenance=Provenance(
            source="aiperf",
            source_file=source.path.name,
            importer=IMPORTER.name,
            measured_at=datetime.fromtimestamp(window_s[0], UTC) if window_s else None,
            notes=(IN_FLIGHT_NOTE, *override_notes(hints, **stated)),
        ),
        output_tokens=tokens,
        window_s=window_s,
        no_window="the file has no start_time to align a power log with",
        tool_energy=_tool_energy(export, gpus, duration_s),
        faults=_faults(export),
        remarks=(RAMPS_NOTE,),
        missing={"itl_median_s": "aiperf's inter-token latency is a mean per request; it is under tpot"},
    )


def _duration_s(export: Fields) -> float:
    duration_s = statistic(export, "benchmark_duration", "avg", SECONDS)
    if duration_s is None:
        # Exports before the metric was shown: count ÷ rate is how aiperf forms the rate.
        count = statistic(export, "request_count", "avg", COUNTS) or 0.0
        rate_per_s = statistic(export, "request_throughput", "avg", PER_SECOND) or 0.0
        duration_s = count / rate_per_s if rate_per_s > 0 else 0.0
    if not 1e-6 < duration_s < 1e9:
        export.refuse("benchmark_duration", f"is {duration_s:g} s")
    return duration_s


def _workload(export: Fields, config: Fields | None, task: str | None) -> Workload:
    phase = _profiling_phase(config)
    return Workload(
        task=task,
        mean_input_tokens=statistic(export, "input_sequence_length", "avg", COUNTS) or None,
        mean_output_tokens=statistic(export, "output_sequence_length", "avg", COUNTS) or None,
        request_rate_per_s=phase.optional_number("rate") or phase.optional_number("request_rate")
        if phase
        else None,
        max_concurrency=phase.optional_integer("concurrency", positive=True) if phase else None,
    )


def _measured(
    export: Fields, duration_s: float, completed: int, tokens: float | None, tokens_per_s: float | None
) -> Measured:
    def seconds(metric: str, name: str) -> float | None:
        return statistic(export, metric, name, SECONDS)

    latency_mean_s = seconds("request_latency", "avg")
    failed = statistic(export, "error_request_count", "avg", COUNTS)
    gap, first, chunk = "inter_token_latency", "time_to_first_token", "inter_chunk_latency"
    return Measured(
        # Little's law: mean requests in flight = rate × mean time in the system.
        batch_size=completed / duration_s * latency_mean_s if latency_mean_s else None,
        output_throughput_per_s=tokens_per_s,
        request_throughput_per_s=statistic(export, "request_throughput", "avg", PER_SECOND),
        itl_mean_s=seconds(chunk, "avg"),
        itl_median_s=seconds(chunk, "p50"),
        itl_p90_s=seconds(chunk, "p90"),
        itl_p95_s=seconds(chunk, "p95"),
        itl_p99_s=seconds(chunk, "p99"),
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
        failed_requests=round(failed) if failed is not None else None,
        total_input_tokens=_count(export, "total_isl"),
        total_output_tokens=round(tokens) if tokens else None,
    )


def _count(export: Fields, metric: str) -> int | None:
    value = statistic(export, metric, "avg", COUNTS)
    return None if value is None else round(value)


def _gpus(export: Fields) -> list[Fields]:
    """Return every GPU of the telemetry once, though two endpoints may report it."""
    telemetry = export.optional_fields("telemetry_data")
    endpoints = telemetry.optional_fields("endpoints") if telemetry else None
    found: dict[str, Fields] = {}
    for url in endpoints.values if endpoints else ():
        gpus = endpoints.fields(url).fields("gpus") if endpoints else None
        for key in gpus.values if gpus else ():
            gpu = gpus.fields(key) if gpus else None
            if gpu is not None:
                found.setdefault(gpu.optional_text("gpu_uuid") or f"{url} {key}", gpu)
    return list(found.values())


def _tool_energy(export: Fields, gpus: list[Fields], duration_s: float) -> ToolEnergy | None:
    """Return the energy that aiperf measured: its own total, else the GPUs' counters, else mean power × time."""
    power_w = _first_of(export, "total_gpu_power", WATTS) or _summed(gpus, "power_usage", WATTS)
    energy_j = _first_of(export, "total_gpu_energy", JOULES)
    meter = "aiperf, GPU energy counters"
    if not energy_j:
        energy_j = _summed(gpus, "energy_consumption", JOULES, counter=True)
    if not energy_j and power_w:
        return ToolEnergy(energy_j=power_w * duration_s, meter="aiperf, mean GPU power × duration")
    if not energy_j:
        return None
    return ToolEnergy(energy_j=energy_j, meter=meter, notes=_disagreement(energy_j, power_w, duration_s))


def _disagreement(energy_j: float, power_w: float | None, duration_s: float) -> tuple[str, ...]:
    by_power_j = (power_w or 0.0) * duration_s
    if not by_power_j or abs(energy_j / by_power_j - 1) <= LARGEST_METER_DISAGREEMENT:
        return ()
    return (f"energy by counter is {energy_j:,.4g} J, by mean power × duration {by_power_j:,.4g} J",)


def _first_of(export: Fields, metric: str, units: dict[str, float]) -> float | None:
    return next((v for p in VENDORS if (v := statistic(export, p + metric, "avg", units))), None)


def _summed(gpus: list[Fields], metric: str, units: dict[str, float], *, counter: bool = False) -> float | None:
    """Return the sum of a metric over all GPUs; ``None`` unless every GPU has it."""
    total = 0.0
    for gpu in gpus:
        metrics = gpu.fields("metrics")
        names = (prefix + name for prefix in VENDORS for name in (metric, "gpu_" + metric, metric.split("_")[0]))
        values = next((found for name in names if (found := metrics.optional_fields(name))), None)
        value = None if values is None else counted(values, units) if counter else scaled(values, "avg", units)
        if value is None:
            return None
        total += value
    return total or None


def counted(values: Fields, units: dict[str, float]) -> float | None:
    """Return how far a counter rose: the one value of a difference, or max − min of the counter's statistics."""
    low, high = scaled(values, "min", units), scaled(values, "max", units)
    if low is not None and high is not None and high > low:
        return high - low
    if low is not None and high is not None:
        # A counter that stands still says nothing; one sample of it is no difference.
        return None
    return scaled(values, "avg", units)


def _recorded_window_s(source: Source) -> tuple[float, float] | None:
    """Return the window from the records of single requests beside the summary: these are in UTC.

    They are a help only: where they are absent or damaged, the summary's local times serve.
    """
    records = Source(source.path.with_name(RECORDS_FILE))
    if not records.path.is_file():
        return None
    starts_s, ends_s = [], []
    try:
        for line in records.lines:
            metadata = Fields(records.file, line.place, line.value).fields("metadata")
            if metadata.optional_text("benchmark_phase") in (None, "profiling"):
                starts_s.append(metadata.number("request_start_ns", most=LATEST_UNIX_S / S_PER_NS) * S_PER_NS)
                ends_s.append(metadata.number("request_end_ns", most=LATEST_UNIX_S / S_PER_NS) * S_PER_NS)
    except ImportFileError:
        return None
    return (min(starts_s), max(ends_s)) if starts_s and max(ends_s) > min(starts_s) else None


def _window_s(export: Fields, duration_s: float, timezone: str | None) -> tuple[float, float] | None:
    text = export.optional_text("start_time")
    if text is None:
        return None
    try:
        stamp = datetime.fromisoformat(text)
        # aiperf writes local time without saying so.
        start_s = (stamp if stamp.tzinfo else stamp.replace(tzinfo=zone_named(timezone))).timestamp()
        datetime.fromtimestamp(start_s + duration_s, UTC)
    except (ValueError, OverflowError, OSError):
        export.refuse("start_time", f"should be a date and time, not {text[:40]!r}")
    return start_s, start_s + duration_s


def _faults(export: Fields) -> tuple[str, ...]:
    faults = []
    if export.optional_flag("was_cancelled"):
        faults.append("the benchmark was cancelled")
    if export.optional_flag("is_complete") is False:
        faults.append(
            f"the benchmark is incomplete: {export.optional_text('incomplete_reason') or 'no reason given'}"
        )
    return tuple(faults)


def _model(config: Fields | None) -> str | None:
    """Return the one model of the configuration, in the layouts of old and new exports; ``None`` if several."""
    if config is None:
        return None
    endpoint = config.optional_fields("endpoint") if isinstance(config.values.get("endpoint"), dict) else None
    models = config.values.get("models") or config.values.get("model")
    if isinstance(models, dict):
        models = models.get("items")
    listed: Any = models or (endpoint.values.get("model_names") if endpoint else None) or []
    names = [item.get("name") if isinstance(item, dict) else item for item in _as_list(listed)]
    if len(names) != 1:
        return None
    return Fields(config.file, config.place, {"model": names[0]}).optional_text("model")


def _profiling_phase(config: Fields | None) -> Fields | None:
    """Return the load settings of the phase that is measured."""
    if config is None:
        return None
    if isinstance(config.values.get("loadgen"), dict):
        return config.fields("loadgen")
    phases = [p for p in _as_list(config.values.get("phases") or []) if isinstance(p, dict)]
    measured = [p for p in phases if p.get("kind") != "warmup" and p.get("name") != "warmup"]
    return Fields(config.file, config.where("phases"), measured[0]) if len(measured) == 1 else None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


IMPORTER = AiperfImporter()
