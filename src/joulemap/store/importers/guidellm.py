"""Reports of guidellm (``benchmarks.json``, report version 1 and 2): one run a benchmark.

Field names: guidellm's ``benchmark/schemas``. Rates and latencies are in seconds unless the name ends in
``_ms``; the measurement window, from ``measure_start_time`` to ``measure_end_time``, is in Unix seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from joulemap.errors import ImportFileError
from joulemap.records import Measured, Provenance, Workload
from joulemap.store.importers.client_run import IN_FLIGHT_NOTE, ClientRun, add_run, deployment_of, override_notes
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.lengths import distribution_of
from joulemap.store.importers.power_log import LATEST_UNIX_S
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Source
from joulemap.units import S_PER_MS


class GuidellmImporter:
    """Reads every benchmark of a report."""

    name = "guidellm"
    summary = "guidellm reports (benchmarks.json)"

    def recognises(self, source: Source) -> bool:
        """Return whether the file is a report: a list of benchmarks, each with metrics and a configuration."""
        benchmarks = source.first.get("benchmarks")
        return (
            isinstance(benchmarks, list)
            and bool(benchmarks)
            and any(isinstance(b, dict) and {"config", "metrics"} <= b.keys() for b in benchmarks)
        )

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read every benchmark; a bad one is a problem of its own."""
        reading = Reading()
        report = Fields(source.file, "", source.document)
        for position, benchmark in enumerate(report.items("benchmarks")):
            try:
                fields = Fields(source.file, f"benchmarks[{position}]", benchmark)
                add_run(reading, _client_run(source, report, fields, position, hints), source, hints)
            except ImportFileError as error:
                reading.problems.append(error)
        return reading


def _client_run(source: Source, report: Fields, benchmark: Fields, position: int, hints: ImportHints) -> ClientRun:
    metrics = benchmark.fields("metrics")
    start_s, end_s = _window_s(benchmark)
    duration_s = end_s - start_s
    completed, failed = _completed(metrics)
    # Tokens of requests that were still under way when time was up were generated in the window too.
    tokens_per_s = _statistic(metrics, "output_tokens_per_second", "mean", status="total")
    if not tokens_per_s:
        metrics.refuse("output_tokens_per_second", "holds no rate of generated tokens")
    strategy = benchmark.fields("config").optional_fields("strategy")
    model_id = _model(report, benchmark)
    return ClientRun(
        workload=Workload(
            task=hints.task,
            mean_input_tokens=_statistic(metrics, "prompt_token_count", "mean") or None,
            mean_output_tokens=_statistic(metrics, "output_token_count", "mean") or None,
            output_lengths=distribution_of(_lengths(benchmark)),
            request_rate_per_s=strategy.optional_number("rate") if strategy else None,
            max_concurrency=_concurrency(strategy),
        ),
        deployment=deployment_of(source, benchmark.place, hints, model_id=model_id),
        measured=_measured(metrics, duration_s, tokens_per_s, completed, failed),
        provenance=Provenance(
            source="guidellm",
            source_file=source.path.name,
            source_row=position,
            importer=IMPORTER.name,
            measured_at=datetime.fromtimestamp(start_s, UTC),
            notes=(IN_FLIGHT_NOTE, *override_notes(hints, model_id=model_id)),
        ),
        output_tokens=tokens_per_s * duration_s,
        window_s=(start_s, end_s),
        missing={
            "itl_median_s": "guidellm gives quantiles of each request's mean gap only; they are under tpot",
        },
    )


def _measured(metrics: Fields, duration_s: float, tokens_per_s: float, completed: int, failed: int) -> Measured:
    def statistic(metric: str, name: str, scale: float = 1.0) -> float | None:
        value = _statistic(metrics, metric, name)
        return None if value is None else value * scale

    gap, first = "inter_token_latency_ms", "time_to_first_token_ms"
    return Measured(
        batch_size=_statistic(metrics, "request_concurrency", "mean", status="total") or None,
        output_throughput_per_s=tokens_per_s,
        request_throughput_per_s=completed / duration_s,
        # The mean is weighted by tokens, so it is that of all gaps; quantiles are over requests' means.
        itl_mean_s=statistic(gap, "mean", S_PER_MS),
        tpot_median_s=statistic(gap, "median", S_PER_MS),
        tpot_p99_s=statistic(gap, "p99", S_PER_MS),
        ttft_mean_s=statistic(first, "mean", S_PER_MS),
        ttft_median_s=statistic(first, "median", S_PER_MS),
        ttft_p90_s=statistic(first, "p90", S_PER_MS),
        ttft_p95_s=statistic(first, "p95", S_PER_MS),
        ttft_p99_s=statistic(first, "p99", S_PER_MS),
        latency_mean_s=statistic("request_latency", "mean"),
        latency_median_s=statistic("request_latency", "median"),
        latency_p99_s=statistic("request_latency", "p99"),
        duration_s=duration_s,
        completed_requests=completed,
        failed_requests=failed,
        total_output_tokens=round(tokens_per_s * duration_s),
    )


def _statistic(metrics: Fields, metric: str, name: str, *, status: str = "successful") -> float | None:
    """Return one statistic of a metric; ``None`` where the report has none, or none for this status."""
    by_status = metrics.optional_fields(metric)
    summary = by_status.optional_fields(status) if by_status else None
    if summary is None or summary.values.get("count") == 0:
        return None
    if name.startswith("p"):
        percentiles = summary.optional_fields("percentiles")
        return percentiles.optional_number(name) if percentiles else None
    return summary.optional_number(name)


def _window_s(benchmark: Fields) -> tuple[float, float]:
    """Return start and end of the measurement; older reports have those of the benchmark only."""
    times = benchmark.optional_fields("scheduler_metrics") or benchmark
    names = ("measure_start_time", "measure_end_time")
    start, end = names if times.values.get(names[0]) is not None else ("start_time", "end_time")
    start_s = times.number(start, positive=True, most=LATEST_UNIX_S)
    end_s = times.number(end, positive=True, most=LATEST_UNIX_S)
    if end_s - start_s <= 0:
        times.refuse(end, f"is {start_s - end_s:g} s before {start}: the window is empty")
    return start_s, end_s


def _completed(metrics: Fields) -> tuple[int, int]:
    totals = metrics.fields("request_totals")
    return totals.integer("successful", positive=True), totals.optional_integer("errored") or 0


def _concurrency(strategy: Fields | None) -> int | None:
    if strategy is None:
        return None
    streams = strategy.optional_integer("streams", positive=True)
    return streams or strategy.optional_integer("max_concurrency", positive=True)


def _model(report: Fields, benchmark: Fields) -> str | None:
    """Return the model: under the benchmark's back end, else among the report's arguments."""
    for holder in (benchmark.fields("config"), report.optional_fields("args"), _spec(report)):
        for inner in (
            holder,
            holder.optional_fields("backend") if holder and _is_object(holder, "backend") else None,
        ):
            if inner is not None and isinstance(inner.values.get("model"), str):
                return inner.optional_text("model")
    return None


def _spec(report: Fields) -> Fields | None:
    config = report.optional_fields("config")
    return (config.optional_fields("spec") or config) if config else None


def _is_object(holder: Fields, name: str) -> bool:
    return isinstance(holder.values.get(name), dict)


def _lengths(benchmark: Fields) -> list[float]:
    """Return the output lengths of the successful requests that the report keeps."""
    requests = benchmark.values.get("requests")
    kept: Any = requests.get("successful") if isinstance(requests, dict) else None
    if not isinstance(kept, list):
        return []
    lengths = []
    for request in kept:
        value = request.get("output_tokens") if isinstance(request, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
            lengths.append(float(value))
    return lengths


IMPORTER = GuidellmImporter()
