"""Results of ``vllm bench serve`` (``--save-result``, ``--append-result``, ``--save-detailed``).

Field names: vLLM's ``vllm/benchmarks/serve.py``. Times are in milliseconds; the only wall-clock time is
``date``, local, in whole seconds, taken when the benchmark has ended.
"""

from __future__ import annotations

from datetime import UTC, datetime

from joulemap.errors import ImportFileError
from joulemap.records import Measured, Provenance, Workload
from joulemap.store.importers.client_run import (
    IN_FLIGHT_NOTE,
    RAMPS_NOTE,
    ClientRun,
    add_run,
    deployment_of,
    override_notes,
)
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.lengths import distribution_of
from joulemap.store.importers.power_log import zone_named
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Line, Source
from joulemap.units import S_PER_MS

ENGINES = frozenset({"vllm", "sglang", "tgi", "lmdeploy", "scalellm", "tensorrt-llm", "deepspeed-mii"})
"""Values of ``backend`` that name an engine; the others name a kind of interface."""

LONGEST_DURATION_S = 1e8
"""Three years: beyond it the start of a benchmark is no date."""


class VllmBenchImporter:
    """Reads one result, or one a line."""

    name = "vllm-bench"
    summary = "results of 'vllm bench serve': one JSON object, or one a line"

    def recognises(self, source: Source) -> bool:
        """Return whether the file has the fields of such a result."""
        keys = source.first.keys()
        return {"model_id", "num_prompts", "duration", "request_throughput"} <= keys

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read every result of the file; a bad line is a problem of its own."""
        reading = Reading()
        for position, line in enumerate(source.lines):
            try:
                if line.problem:
                    raise line.problem
                add_run(reading, _client_run(source, line, position, hints), source, hints)
            except ImportFileError as error:
                reading.problems.append(error)
        return reading


def _client_run(source: Source, line: Line, position: int, hints: ImportHints) -> ClientRun:
    result = Fields(source.file, line.place, line.value)
    duration_s = result.number("duration", positive=True, most=LONGEST_DURATION_S)
    completed = result.integer("completed", positive=True)
    output_tokens = result.integer("total_output_tokens", positive=True)
    input_tokens = result.optional_integer("total_input_tokens")
    requested = result.optional_integer("num_prompts")
    ended = _ended(result, hints.power_timezone)
    lengths = result.numbers("output_lens") if isinstance(result.values.get("output_lens"), list) else []
    backend = result.optional_text("backend") or result.optional_text("endpoint_type")
    model_id = result.optional_text("model_id")
    workload = Workload(
        task=hints.task,
        mean_input_tokens=input_tokens / completed if input_tokens else None,
        mean_output_tokens=output_tokens / completed,
        output_lengths=distribution_of([length for length in lengths if length > 0]),
        request_rate_per_s=_request_rate(result),
        max_concurrency=result.optional_integer("max_concurrency", positive=True),
    )
    return ClientRun(
        workload=workload,
        deployment=deployment_of(
            source,
            line.place,
            hints,
            model_id=model_id,
            engine=backend if backend in ENGINES else None,
        ),
        measured=_measured(result, duration_s, completed, output_tokens, input_tokens),
        provenance=Provenance(
            source="vllm bench serve",
            source_file=source.path.name,
            source_row=position,
            importer=IMPORTER.name,
            measured_at=datetime.fromtimestamp(ended - duration_s, UTC) if ended else None,
            notes=(IN_FLIGHT_NOTE, *override_notes(hints, model_id=model_id)),
        ),
        output_tokens=output_tokens,
        window_s=(ended - duration_s, ended) if ended else None,
        no_window="the file has no date to align a power log with",
        requested=requested,
        remarks=(RAMPS_NOTE, "the window is known to a second or two: its end is the result's date"),
    )


def _measured(
    result: Fields, duration_s: float, completed: int, output_tokens: int, input_tokens: int | None
) -> Measured:
    def seconds(statistic: str, metric: str) -> float | None:
        return result.optional_number(f"{statistic}_{metric}_ms", scale=S_PER_MS)

    request_throughput_per_s = completed / duration_s
    latency_mean_s = seconds("mean", "e2el")
    return Measured(
        # Little's law: mean requests in flight = rate × mean time in the system.
        batch_size=request_throughput_per_s * latency_mean_s if latency_mean_s else None,
        output_throughput_per_s=output_tokens / duration_s,
        request_throughput_per_s=request_throughput_per_s,
        itl_mean_s=seconds("mean", "itl"),
        itl_median_s=seconds("median", "itl"),
        itl_p90_s=seconds("p90", "itl"),
        itl_p95_s=seconds("p95", "itl"),
        itl_p99_s=seconds("p99", "itl"),
        ttft_mean_s=seconds("mean", "ttft"),
        ttft_median_s=seconds("median", "ttft"),
        ttft_p90_s=seconds("p90", "ttft"),
        ttft_p95_s=seconds("p95", "ttft"),
        ttft_p99_s=seconds("p99", "ttft"),
        tpot_mean_s=seconds("mean", "tpot"),
        tpot_median_s=seconds("median", "tpot"),
        tpot_p99_s=seconds("p99", "tpot"),
        latency_mean_s=latency_mean_s,
        latency_median_s=seconds("median", "e2el"),
        latency_p99_s=seconds("p99", "e2el"),
        duration_s=duration_s,
        completed_requests=completed,
        failed_requests=result.optional_integer("failed"),
        total_input_tokens=input_tokens,
        total_output_tokens=output_tokens,
    )


def _request_rate(result: Fields) -> float | None:
    """Return the offered load; ``"inf"`` stands for all requests at once."""
    if result.values.get("request_rate") in ("inf", float("inf")):
        return None
    return result.optional_number("request_rate")


def _ended(result: Fields, timezone: str | None) -> float | None:
    text = result.optional_text("date")
    if text is None:
        return None
    try:
        stamp = datetime.strptime(text, "%Y%m%d-%H%M%S")  # noqa: DTZ007 - local, as vLLM writes it
        return stamp.replace(tzinfo=zone_named(timezone)).timestamp()
    except (ValueError, OverflowError, OSError):
        result.refuse("date", f"should be a date as 20260216-134500, not {text[:40]!r}")


IMPORTER = VllmBenchImporter()
