"""Files as the tools write them, small and by code; every number that a test checks is stated here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

START_S = datetime(2026, 2, 16, 12, 0, 0, tzinfo=UTC).timestamp()
"""Start of every sample's measurement window."""
DURATION_S = 60.0


def write_json(path: Path, payload: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(payload))
    return path


def power_csv(
    path: Path,
    powers_w: Iterable[float] = (500.0,),
    *,
    start_s: float = START_S - 10,
    end_s: float = START_S + DURATION_S + 10,
    step_s: float = 1.0,
) -> Path:
    """A log of constant power for each GPU."""
    lines = ["timestamp,gpu,power_w"]
    for step in range(int((end_s - start_s) / step_s) + 1):
        lines += [f"{start_s + step * step_s:.3f},{gpu},{power}" for gpu, power in enumerate(powers_w)]
    path.write_text("\n".join(lines) + "\n")
    return path


def vllm_bench(path: Path, **changes: Any) -> Path:
    """One result; its window ends at ``date``, here in UTC."""
    return write_json(path, vllm_result(**changes))


def vllm_result(**changes: Any) -> dict[str, Any]:
    ended = datetime.fromtimestamp(START_S + DURATION_S, UTC)
    result: dict[str, Any] = {
        "date": ended.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "vllm",
        "backend": "vllm",
        "label": None,
        "model_id": "Qwen/Qwen3-8B",
        "tokenizer_id": "Qwen/Qwen3-8B",
        "num_prompts": 120,
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 16,
        "duration": DURATION_S,
        "completed": 120,
        "failed": 0,
        "total_input_tokens": 24_000,
        "total_output_tokens": 30_000,
        "request_throughput": 2.0,
        "request_goodput": None,
        "output_throughput": 500.0,
        "total_token_throughput": 900.0,
    }
    for metric, mean in (("ttft", 100.0), ("tpot", 20.0), ("itl", 21.0), ("e2el", 5000.0)):
        result |= {
            f"mean_{metric}_ms": mean,
            f"median_{metric}_ms": mean * 0.9,
            f"std_{metric}_ms": 1.0,
            f"p99_{metric}_ms": mean * 2,
        }
    return result | changes


def united(unit: str, avg: float, **statistics: float) -> dict[str, Any]:
    return {"unit": unit, "avg": avg, "p50": avg, "p90": avg * 1.5, "p95": avg * 1.6, "p99": avg * 2, **statistics}


def aiperf(path: Path, **changes: Any) -> Path:
    return write_json(path, aiperf_export(**changes))


def aiperf_export(**changes: Any) -> dict[str, Any]:
    """Two GPUs at 300 W for 60 s: 36 kJ for 30,000 tokens, 1.2 J a token."""
    export: dict[str, Any] = {
        "schema_version": "1.4",
        "aiperf_version": "0.13.0",
        "benchmark_id": "b",
        "request_throughput": united("requests/sec", 2.0),
        "request_count": united("requests", 120),
        "request_latency": united("ms", 5000.0),
        "time_to_first_token": united("ms", 100.0),
        "inter_token_latency": united("ms", 20.0),
        "inter_chunk_latency": united("ms", 21.0),
        "output_token_throughput": united("tokens/sec", 500.0),
        "output_sequence_length": united("tokens", 250.0),
        "input_sequence_length": united("tokens", 200.0),
        "total_osl": united("tokens", 30_000),
        "total_isl": united("tokens", 24_000),
        "benchmark_duration": united("sec", DURATION_S),
        "nvidia_total_gpu_power": {"unit": "W", "avg": 600.0},
        "nvidia_total_gpu_energy": {"unit": "J", "avg": 36_000.0},
        "input_config": {
            "models": {"strategy": "round_robin", "items": [{"name": "Qwen/Qwen3-8B"}]},
            "phases": [
                {"name": "warmup", "kind": "warmup", "type": "concurrency", "concurrency": 2},
                {"name": "profiling", "kind": "profiling", "type": "concurrency", "concurrency": 16},
            ],
        },
        "telemetry_data": {
            "summary": {"start_time": "2026-02-16T12:00:00", "end_time": "2026-02-16T12:01:00"},
            "endpoints": {"localhost:9400": {"gpus": {f"gpu_{n}": aiperf_gpu(n) for n in range(2)}}},
        },
        "was_cancelled": False,
        "start_time": "2026-02-16T12:00:00",
        "end_time": "2026-02-16T12:01:00",
    }
    return export | changes


def aiperf_gpu(index: int, **metrics: Any) -> dict[str, Any]:
    return {
        "gpu_index": index,
        "gpu_name": "NVIDIA H100 80GB HBM3",
        "gpu_uuid": f"GPU-{index}",
        "platform": "nvidia",
        "hostname": "node",
        "metrics": metrics
        or {
            "nvidia_power_usage": united("W", 300.0),
            "nvidia_energy_consumption": {"unit": "MJ", "avg": 0.018},
        },
    }


def genai_perf(path: Path, **changes: Any) -> Path:
    return write_json(path, genai_perf_export(**changes))


def genai_perf_export(**changes: Any) -> dict[str, Any]:
    """One GPU whose counter rises by 0.03 MJ, at 500 W for 60 s."""
    export: dict[str, Any] = {
        "request_throughput": {"unit": "requests/sec", "avg": 2.0},
        "request_count": {"unit": "count", "avg": 120.0},
        "request_latency": united("ms", 5000.0),
        "time_to_first_token": united("ms", 100.0),
        "inter_token_latency": united("ms", 20.0),
        "output_token_throughput": {"unit": "tokens/sec", "avg": 500.0},
        "output_sequence_length": united("tokens", 250.0),
        "input_sequence_length": united("tokens", 200.0),
        "telemetry_stats": {
            "gpu_power_usage": {"unit": "W", "gpu0": {"avg": 500.0, "min": 480.0, "max": 510.0}},
            "energy_consumption": {"unit": "MJ", "gpu0": {"avg": 7.015, "min": 7.0, "max": 7.03}},
        },
        "input_config": {
            "model_names": ["Qwen/Qwen3-8B"],
            "perf_analyzer": {"stimulus": {"concurrency": 16}},
        },
    }
    return export | changes


def guidellm(path: Path, *benchmarks: dict[str, Any]) -> Path:
    report = {
        "metadata": {"version": 2, "guidellm_version": "0.8.1"},
        "config": {"spec": {"backend": {"model": "Qwen/Qwen3-8B"}}},
        "benchmarks": list(benchmarks) or [guidellm_benchmark()],
    }
    return write_json(path, report)


def distribution(mean: float, count: int = 120) -> dict[str, Any]:
    percentiles = {"p50": mean, "p90": mean * 1.5, "p95": mean * 1.6, "p99": mean * 2}
    summary = {"mean": mean, "median": mean, "count": count, "total_sum": mean * count, "percentiles": percentiles}
    empty = {
        "mean": 0.0,
        "median": 0.0,
        "count": 0,
        "total_sum": 0.0,
        "percentiles": dict.fromkeys(percentiles, 0.0),
    }
    return {"successful": summary, "incomplete": empty, "errored": empty, "total": summary}


def guidellm_benchmark(**changes: Any) -> dict[str, Any]:
    benchmark: dict[str, Any] = {
        "type_": "generative_benchmark",
        "config": {
            "run_id": "r",
            "strategy": {"type_": "concurrent", "streams": 16, "worker_count": 1},
            "backend": {"target": "http://127.0.0.1:8000", "model": "Qwen/Qwen3-8B"},
        },
        "scheduler_metrics": {
            "start_time": START_S - 5,
            "measure_start_time": START_S,
            "measure_end_time": START_S + DURATION_S,
            "end_time": START_S + DURATION_S + 5,
        },
        "metrics": {
            "request_totals": {"successful": 120, "incomplete": 3, "errored": 0, "total": 123},
            "requests_per_second": distribution(2.0),
            "request_concurrency": distribution(15.5),
            "request_latency": distribution(5.0),
            "prompt_token_count": distribution(200.0),
            "output_token_count": distribution(250.0),
            "time_to_first_token_ms": distribution(100.0),
            "inter_token_latency_ms": distribution(20.0),
            "output_tokens_per_second": distribution(500.0),
        },
        "requests": {
            "successful": [{"output_tokens": 240}, {"output_tokens": 260}],
            "incomplete": [],
            "errored": [],
        },
    }
    return benchmark | changes


def prometheus_page(
    running: float, kv_use: float, *, counters: float, engine: str = "0", idle_twin: bool = True
) -> str:
    """A ``/metrics`` page; the second API server of an engine emits zeros."""
    labels = f'engine="{engine}",model_name="m",pid="1"'
    lines = [
        "# HELP vllm:num_requests_running Number of requests running.",
        f"vllm:num_requests_running{{{labels}}} {running}",
        f"vllm:num_requests_waiting{{{labels}}} 3.0",
        f"vllm:kv_cache_usage_perc{{{labels}}} {kv_use}",
        f"vllm:num_preemptions_total{{{labels}}} {counters}",
        f"vllm:prompt_tokens_total{{{labels}}} {counters * 300}",
        f"vllm:generation_tokens_total{{{labels}}} {counters * 100}",
        f"vllm:prefix_cache_queries_total{{{labels}}} {counters * 300}",
        f"vllm:prefix_cache_hits_total{{{labels}}} {counters * 30}",
    ]
    if idle_twin:
        lines.append(f'vllm:num_requests_running{{engine="{engine}",model_name="m",pid="2"}} 0.0')
        lines.append(f'vllm:kv_cache_usage_perc{{engine="{engine}",model_name="m",pid="2"}} 0.0')
    return "\n".join(lines) + "\n"


def mlenergy_llm(
    root: Path,
    *,
    task: str = "gpqa",
    prometheus: bool = True,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """A result folder: 400 W for 60 s, 24 kJ for 12,000 tokens, 2 J a token; batch 126 of 128."""
    folder = root / "llm" / "h100" / "current" / "run" / "llm" / task / "results"
    folder = folder / "Qwen" / "Qwen3-8B" / "H100" / "num_gpus+1+max_num_seqs+128+seed+48105"
    end_s = START_S + DURATION_S
    watts = [[START_S - 5 + 0.5 * n, 400.0] for n in range(141)]
    results: dict[str, Any] = {
        "date": "20260216-120130",
        "model_id": "Qwen/Qwen3-8B",
        "num_prompts": 3,
        "request_rate": "inf",
        "max_concurrency": None,
        "duration": 90.0,
        "completed": 3,
        "steady_state_duration": DURATION_S,
        "steady_state_energy": 24_000.0,
        "steady_state_energy_per_token": 2.0,
        "total_input_tokens": 300,
        "total_output_tokens": 1_200,
        "output_throughput": 150.0,
        "steady_state_measurement": {"time": DURATION_S, "gpu_energy": {"0": 24_000.0}},
        "results": [
            {
                "input_len": 100,
                "output_len": n,
                "ttft": 0.1,
                "itl": [0.04, 0.0, 0.03],
                "latency": 5.0,
                "success": True,
            }
            for n in (300, 400, 500)
        ]
        + [{"input_len": 1, "output_len": 1, "ttft": 9.0, "itl": [9.0], "latency": 99.0, "success": False}],
        "timeline": {
            "benchmark_start_time": START_S - 15,
            "benchmark_end_time": end_s + 15,
            "steady_state_start_time": START_S,
            "steady_state_end_time": end_s,
            "power": {"device_instant": {"0": watts}, "device_average": {"0": watts}},
            "temperature": {"device_instant": {"0": [[START_S + n, 60.0] for n in range(60)]}},
        },
    }
    if change:
        change(results)
    write_json(folder / "results.json", results)
    if prometheus:
        times = [START_S - 10 + n for n in range(80)]
        timeline = [
            {
                "timestamp": t,
                "metrics": prometheus_page(
                    *((126, 0.5) if START_S <= t <= end_s else (7, 0.01)), counters=t - times[0]
                ),
            }
            for t in times
        ]
        telemetry = {
            "collection_interval": 1.0,
            "steady_state_start_time": START_S,
            "steady_state_end_time": end_s,
            "steady_state_stats": {"vllm:num_requests_running": 63.0},
            "timeline": timeline,
        }
        write_json(folder / "prometheus.json", telemetry)
    return folder


def mlenergy_diffusion(root: Path, *, task: str = "text-to-video", **changes: Any) -> Path:
    """A result folder: two batches of 4 videos, 40 kJ in 50 s and 44 kJ in 60 s on 2 GPUs."""
    folder = (
        root
        / "diffusion"
        / "h100"
        / "current"
        / "run"
        / "diffusion"
        / task
        / "Wan-AI"
        / "Wan2.1-T2V-1.3B-Diffusers"
    )
    folder /= "batch-4+size-480x832+steps-50+seed-48105+uly-2+ring-1+tc-False"
    results: dict[str, Any] = {
        "model_id": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        "batch_size": 4,
        "num_iterations": 2,
        "height": 480,
        "width": 832,
        "inference_steps": 50,
        "num_frames": 81,
        "fps": 15,
        "total_time": 110.0,
        "throughput_images_per_sec": 8 / 110,
        "energy_per_image": 10_500.0,
        "iteration_energy_measurements": [
            {"time": 50.0, "gpu_energy": {"0": 20_000.0, "1": 20_000.0}},
            {"time": 60.0, "gpu_energy": {"0": 22_000.0, "1": 22_000.0}},
        ],
        "configurations": {"ulysses_degree": 2, "ring_degree": 1, "use_torch_compile": False},
        "timeline": {"benchmark_start_time": START_S, "benchmark_end_time": START_S + 110},
    }
    write_json(folder / "results.json", results | changes)
    return folder


def mlenergy_parquet(folder: Path) -> Path:
    """The two compiled tables: two LLM rows, of which one is unstable, and one diffusion row."""
    llm: dict[str, Any] = {
        "domain": "llm",
        "task": "gpqa",
        "model_id": "Qwen/Qwen3-8B",
        "nickname": "Qwen 3 8B",
        "architecture": "Dense",
        "total_params_billions": 8.0,
        "activated_params_billions": 8.0,
        "weight_precision": "bfloat16",
        "gpu_model": "H100",
        "num_gpus": 1,
        "max_num_seqs": 128,
        "seed": 48105,
        "tensor_parallel": 1,
        "expert_parallel": 1,
        "data_parallel": 1,
        "steady_state_energy_joules": 24_000.0,
        "steady_state_duration_seconds": 60.0,
        "energy_per_token_joules": 2.0,
        "energy_per_request_joules": 800.0,
        "output_throughput_tokens_per_sec": 200.0,
        "request_throughput_req_per_sec": 0.5,
        "avg_power_watts": 400.0,
        "total_output_tokens": 1_200.0,
        "completed_requests": 3.0,
        "avg_output_len": 400.0,
        "mean_itl_ms": 25.0,
        "median_itl_ms": 24.0,
        "p90_itl_ms": 30.0,
        "p95_itl_ms": 31.0,
        "p99_itl_ms": 32.0,
        "avg_batch_size": 126.0,
        "is_stable": True,
        "unstable_reason": "",
        "results_path": "llm/x/results.json",
    }
    unstable = llm | {"max_num_seqs": 256, "is_stable": False, "unstable_reason": "low_batch_utilization:0.5"}
    diffusion: dict[str, Any] = {
        "domain": "diffusion",
        "task": "text-to-image",
        "model_id": "acme/painter",
        "nickname": "Painter",
        "total_params_billions": 2.0,
        "activated_params_billions": 2.0,
        "weight_precision": "bfloat16",
        "gpu_model": "H100",
        "num_gpus": 1,
        "batch_size": 4,
        "inference_steps": 20,
        "height": 1024,
        "width": 1024,
        "num_frames": None,
        "fps": None,
        "ulysses_degree": 1,
        "ring_degree": 1,
        "use_torch_compile": False,
        "batch_latency_s": 2.0,
        "avg_power_watts": 600.0,
        "energy_per_generation_joules": 300.0,
        "throughput_generations_per_sec": 2.0,
        "results_path": "diffusion/x/results.json",
    }
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame([llm, unstable]).write_parquet(folder / "llm.parquet")
    pl.DataFrame([diffusion]).write_parquet(folder / "diffusion.parquet")
    return folder


def zeus(path: Path) -> Path:
    """Two windows on two GPUs; the first of 300 + 200 W for 10 s, the second too short."""
    path.write_text(
        "start_time,window_name,elapsed_time,gpu0_energy,gpu1_energy\n"
        f"{START_S},prefill,10.0,3000.0,2000.0\n"
        f"{START_S + 20},blip,0.5,100.0,100.0\n"
    )
    return path
