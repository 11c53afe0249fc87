"""How the other clients are called, and where they write what they found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Report = dict[str, Any]
MS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A client in a virtual environment of its own, which has its name."""

    command: Callable[[Path, str, int, int, Path], list[str]]
    """Environment, URL, streams, requests, output folder → command line."""
    read: Callable[[Path], Report]
    """Output folder → its report."""
    mean_gaps: bool = False
    """Whether its gaps are the mean of each request's, which hides the spread within a request."""


def _vllm(venv: Path, url: str, streams: int, requests: int, out: Path) -> list[str]:
    return [
        str(venv / "bin" / "python"), str(Path(__file__).parent / "clients" / "vllm_bench_serve.py"),
        "--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--base-url", url, "--model", "mock",
        "--tokenizer", str(out.parent / "tokenizer"), "--dataset-name", "random", "--random-input-len", "100",
        "--random-output-len", "128", "--num-prompts", str(requests), "--max-concurrency", str(streams),
        "--percentile-metrics", "ttft,itl", "--metric-percentiles", "50,99", "--disable-tqdm",
        "--save-result", "--result-dir", str(out), "--result-filename", "vllm.json",
    ]  # fmt: skip


def _read_vllm(out: Path) -> Report:
    told = json.loads((out / "vllm.json").read_text())
    return {
        "ttft_s": [told[f"{name}_ttft_ms"] * MS for name in ("mean", "median", "p99")],
        "gap_s": [told[f"{name}_itl_ms"] * MS for name in ("mean", "median", "p99")],
    }


def _aiperf(venv: Path, url: str, streams: int, requests: int, out: Path) -> list[str]:
    return [
        str(venv / "bin" / "aiperf"), "profile", "--model", "mock", "--url", url, "--endpoint-type", "chat",
        "--streaming", "--concurrency", str(streams), "--request-count", str(requests),
        "--tokenizer", str(out.parent / "tokenizer"), "--isl", "100", "--osl", "128",
        "--artifact-dir", str(out), "--ui", "none", "--no-server-metrics",
    ]  # fmt: skip


def _read_aiperf(out: Path) -> Report:
    told = json.loads(next(out.rglob("profile_export_aiperf.json")).read_text())
    return {
        "ttft_s": [told["time_to_first_token"][name] * MS for name in ("avg", "p50", "p99")],
        "gap_s": [told["inter_chunk_latency"][name] * MS for name in ("avg", "p50", "p99")],
    }


def _guidellm(venv: Path, url: str, streams: int, requests: int, out: Path) -> list[str]:
    return [
        str(venv / "bin" / "guidellm"), "run", "--backend", f"kind=openai_http,target={url},model=mock",
        "--profile", f"kind=concurrent,streams={streams}", "--constraint", f"kind=max_requests,count={requests}",
        "--tokenizer", f"kind=hf_auto,model={out.parent / 'tokenizer'}",
        "--data", "kind=synthetic_text,prompt_tokens=100,output_tokens=128",
        "--output", f"kind=json,path={out / 'guidellm.json'}", "--disable-console",
    ]  # fmt: skip


def _read_guidellm(out: Path) -> Report:
    (bench,) = json.loads((out / "guidellm.json").read_text())["benchmarks"]
    metrics = bench["metrics"]

    def of(name: str) -> list[float]:
        told = metrics[name]["successful"]
        return [value * MS for value in (told["mean"], told["median"], told["percentiles"]["p99"])]

    return {"ttft_s": of("time_to_first_token_ms"), "gap_s": of("inter_token_latency_ms")}


PEERS = {
    "vllm": Peer(command=_vllm, read=_read_vllm),
    "aiperf": Peer(command=_aiperf, read=_read_aiperf),
    "guidellm": Peer(command=_guidellm, read=_read_guidellm, mean_gaps=True),
}
