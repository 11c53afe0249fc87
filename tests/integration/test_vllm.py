"""``joulemap measure`` against a real vLLM on the CPU; its own counters and histograms are the truth."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from joulemap.measure.load.handle import run_load
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.plan import ClosedLoop, Limits, LoadPlan
from joulemap.measure.load.probe import find_token_ratio
from joulemap.measure.load.prompts import SyntheticPrompts
from joulemap.measure.load.target import Target
from joulemap.measure.telemetry.sample import TelemetrySample
from joulemap.records import Run
from joulemap.store.run_store import RunStore, open_store
from tests.integration.tiny_checkpoint import HEAD_SIZE, HIDDEN_SIZE, KV_HEADS, LAYERS, VOCABULARY, write_checkpoint
from tests.integration.vllm_server import CONTEXT_TOKENS, MODEL, VllmServer, vllm_python

PYTHON = vllm_python()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="needs vLLM: scripts/make_engine_env.sh vllm && just test-vllm"),
]
CONCURRENCIES = (2, 8)
INPUT_TOKENS = 64
OUTPUT_TOKENS = 32
PACE = ("--window", "2", "--windows", "3", "--warm-up", "6", "--duration", "60", "--meter", "assumed")
KV_PARAMS = 2 * KV_HEADS * HEAD_SIZE * HIDDEN_SIZE
LINEAR_PARAMS = LAYERS * (2 * HIDDEN_SIZE**2 + KV_PARAMS + 3 * 4 * HIDDEN_SIZE**2) + VOCABULARY * HIDDEN_SIZE
"""Weights that every token is multiplied with: attention's projections, feed-forward, the vocabulary."""


@dataclass(frozen=True)
class Measured:
    """A session, and what the server counted from before it until after it."""

    runs: list[Run]
    store: RunStore
    before: TelemetrySample
    after: TelemetrySample
    stderr: str

    def requests(self) -> pl.DataFrame:
        """All requests that the sessions' load made."""
        return pl.concat([self.store.timelines.of_run(run.run_id)["requests"] for run in self.runs])


def measure(url: str, store: Path, *more: str) -> list[str]:
    lengths = ("--input-tokens", str(INPUT_TOKENS), "--output-tokens", str(OUTPUT_TOKENS))
    return [sys.executable, "-m", "joulemap", "measure", url, "--store", str(store), *lengths, *PACE, *more]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    assert PYTHON is not None
    folder = tmp_path_factory.mktemp("vllm")
    with VllmServer(PYTHON, write_checkpoint(folder / "checkpoint"), folder / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def measured(server: VllmServer, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    store = tmp_path_factory.mktemp("store")
    before = server.sample()
    words = measure(server.url, store, "--concurrency", ",".join(map(str, CONCURRENCIES)), "--json")
    done = subprocess.run(words, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    opened = open_store(store)
    runs = [opened.get(run["run_id"]) for run in json.loads(done.stdout)["runs"]]
    return Measured(runs=runs, store=opened, before=before, after=server.sample(), stderr=done.stderr)


def counted(measured: Measured, name: str) -> float:
    return float(getattr(measured.after, name) - getattr(measured.before, name))


def test_tokens_are_exactly_those_that_the_server_counts(server: VllmServer) -> None:
    target = Target(url=server.url, model=MODEL)
    ratio = find_token_ratio(target)
    assert ratio is not None
    assert ratio.tokens_per_word == pytest.approx(1.0)
    prompts = SyntheticPrompts(input_tokens=FixedLength(INPUT_TOKENS), output_tokens=FixedLength(OUTPUT_TOKENS))
    plan = LoadPlan(
        arrivals=ClosedLoop(concurrency=4),
        prompts=prompts.calibrated(ratio),
        max_requests=24,
        limits=Limits(drain_s=60.0),
    )
    before = server.sample()
    result = asyncio.run(run_load(plan, target))
    after = server.sample()
    assert result.requests["error"].null_count() == 24, result.requests["error_detail"].to_list()
    assert result.requests["output_tokens"].to_list() == [OUTPUT_TOKENS] * 24
    assert result.requests["input_tokens"].to_list() == [INPUT_TOKENS] * 24
    assert after.generation_tokens - before.generation_tokens == 24 * OUTPUT_TOKENS  # type: ignore[operator]
    assert after.prompt_tokens - before.prompt_tokens == 24 * INPUT_TOKENS  # type: ignore[operator]


def test_every_level_is_a_run_that_says_what_served_it(measured: Measured) -> None:
    assert [run.workload.max_concurrency for run in measured.runs] == list(CONCURRENCIES)
    for run in measured.runs:
        assert run.deployment.engine == "vllm"
        assert run.deployment.engine_version
        assert run.deployment.model_id == MODEL
        assert run.deployment.max_model_len == CONTEXT_TOKENS
        assert run.deployment.gpu_memory_utilization is None  # there is no GPU
        assert run.annotations.basis["energy_per_output_j"] == "assumed"
        assert run.annotations.basis["power_w"] == "assumed"
        assert run.workload.mean_output_tokens == OUTPUT_TOKENS
        assert run.workload.mean_input_tokens == pytest.approx(INPUT_TOKENS)


def test_throughput_is_that_of_the_servers_counter(measured: Measured) -> None:
    requests = measured.requests()
    served = requests.filter(pl.col("error").is_null())
    cut = len(requests) - len(served)
    # What was in flight at a level's end was counted by the server as far as it came, and by the client not at all.
    excess = counted(measured, "generation_tokens") - float(served["output_tokens"].to_numpy().sum())
    assert 0 <= excess <= (cut + 8) * OUTPUT_TOKENS
    for run in measured.runs:
        folder = measured.store.folder / "timelines" / run.run_id
        windows = pl.read_parquet(folder / "windows.parquet")
        told = pl.read_parquet(folder / "telemetry.parquet").filter(
            pl.col("t_mono_s").is_between(windows["begin_s"].min(), windows["end_s"].max())
        )
        tokens, times = told["generation_tokens"], told["t_mono_s"]
        rate = (tokens[-1] - tokens[0]) / (times[-1] - times[0])
        assert run.measured.output_throughput_per_s == pytest.approx(rate, rel=0.1)


def test_the_engine_tells_its_batch_cache_and_work(measured: Measured) -> None:
    for run, concurrency in zip(measured.runs, CONCURRENCIES, strict=True):
        told = run.measured
        # A request is in flight before the engine runs it and after, while HTTP server and client see to it.
        assert told.batch_size is not None
        assert 0.5 * concurrency <= told.batch_size <= concurrency + 1e-6
        assert told.kv_cache_utilization is not None
        assert 0 < told.kv_cache_utilization < 0.1
        assert told.preemptions == 0
        assert told.engine_flops_per_s is not None
        assert told.engine_bytes_per_s is not None
        assert told.output_throughput_per_s is not None
        # Prompt tokens are computed too, all but those found in the prefix cache.
        per_token = (1.0 + INPUT_TOKENS / OUTPUT_TOKENS) * 2 * LINEAR_PARAMS
        assert 0.4 * per_token < told.engine_flops_per_s / told.output_throughput_per_s < 1.5 * per_token
        # At the least the weights are read once a step, which makes a token for each request of the batch.
        weight_bytes = 2 * LINEAR_PARAMS
        assert told.engine_bytes_per_s / told.output_throughput_per_s > 0.7 * weight_bytes / concurrency


def test_latencies_agree_with_the_servers_histograms(measured: Measured) -> None:
    served = measured.requests().filter(pl.col("error").is_null())
    for name, own_s in (
        ("ttft_s", float(served["ttft_s"].to_numpy().mean())),
        ("itl_s", float(served["decode_s"].to_numpy().sum() / (served["chunks"].to_numpy() - 1).sum())),
        ("latency_s", float(served["latency_s"].to_numpy().mean())),
    ):
        histogram = measured.after.histograms[name].since(measured.before.histograms[name])
        assert histogram is not None
        assert histogram.mean is not None
        # The server's clock begins when it has read the request and ends before it writes: the client's span is
        # longer, by what the HTTP server and a busy machine take.
        assert 0.95 * histogram.mean <= own_s <= 1.3 * histogram.mean + 0.02, name


def test_a_killed_server_is_named_and_complete_windows_are_kept(server: VllmServer, tmp_path: Path) -> None:
    """The last test of this file: it ends the server."""
    words = [*measure(server.url, tmp_path, "--concurrency", "4"), "--confidence-width", "0.01%"]
    words[words.index("--windows") + 1] = "200"
    words[words.index("--duration") + 1] = "300"
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    deadline_s = time.monotonic() + 120.0
    while windows_in(tmp_path) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    complete = windows_in(tmp_path)
    server.kill()
    _out, stderr = process.communicate(timeout=120)
    assert process.returncode == 2, stderr
    assert "Traceback" not in stderr
    assert f"the server at {server.url} died" in stderr or f"the load on {server.url} ended" in stderr
    assert "joulemap measure --resume" in stderr
    (run,) = open_store(tmp_path).runs()
    assert not run.validity.valid
    assert any("ended early" in reason for reason in run.validity.reasons)
    folder = tmp_path / "timelines" / run.run_id
    assert pl.read_parquet(folder / "windows.parquet").height >= complete
    assert run.measured.energy_per_output_j


def windows_in(store: Path) -> int:
    lines = [line for f in (store / "sessions").glob("*.jsonl") for line in f.read_bytes().split(b"\n")[:-1]]
    return sum(json.loads(line)["kind"] == "window" for line in lines)
