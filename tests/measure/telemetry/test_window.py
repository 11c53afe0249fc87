"""Differences over a window, odd servers, and texts of other versions."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.errors import ServerError, UsageError
from joulemap.measure.telemetry.adapters import detect_engine
from joulemap.measure.telemetry.exposition import Histogram
from joulemap.measure.telemetry.fetch import fetch_text
from joulemap.measure.telemetry.recorder import TelemetryRecorder, TelemetrySource
from joulemap.measure.telemetry.sample import COUNTERS, GAUGES, TelemetrySample
from joulemap.measure.telemetry.window import TelemetryWindow, telemetry_between
from tests.measure.hand_clock import BEGIN_MONO_S, HandClock


class FakeVllm:
    """Writes what vLLM would after some steps: 8 running, 100 tokens a step in all, 10 steps a second."""

    def __init__(self, clock: HandClock, *, mfu: bool = True, api_servers: int = 1, kv_name: str = "kv") -> None:
        self.clock, self.mfu, self.api_servers = clock, mfu, api_servers
        self.kv_name = {"kv": "vllm:kv_cache_usage_perc", "gpu": "vllm:gpu_cache_usage_perc"}[kv_name]
        self.since_s = clock.monotonic_s()
        self.error: ServerError | None = None
        self.text: str | None = None

    def __call__(self) -> str:
        if self.error is not None:
            raise self.error
        if self.text is not None:
            return self.text
        t = self.clock.monotonic_s() - self.since_s
        kv, flops = 0.1 + 0.01 * t, 2e12 * t * self.mfu
        lines = [
            f'vllm:num_requests_running{{engine="0"}} {8 if t > 0 else 0}',
            'vllm:num_requests_waiting{engine="0"} 2',
            f'{self.kv_name}{{engine="0"}} {kv}',
            f'vllm:generation_tokens_total{{engine="0"}} {1000 * t}',
            f'vllm:prompt_tokens_total{{engine="0"}} {4000 * t}',
            f'vllm:prefix_cache_queries_total{{engine="0"}} {4000 * t}',
            f'vllm:prefix_cache_hits_total{{engine="0"}} {1000 * t}',
            f'vllm:num_preemptions_total{{engine="0"}} {math.floor(t / 5)}',
            f'vllm:estimated_flops_per_gpu_total{{engine="0"}} {flops}',
            f'vllm:estimated_read_bytes_per_gpu_total{{engine="0"}} {flops / 2}',
            f'vllm:estimated_write_bytes_per_gpu_total{{engine="0"}} {flops / 4}',
            f'vllm:time_to_first_token_seconds_bucket{{le="0.1"}} {10 * t}',
            f'vllm:time_to_first_token_seconds_bucket{{le="0.2"}} {30 * t}',
            f'vllm:time_to_first_token_seconds_bucket{{le="+Inf"}} {40 * t}',
            f"vllm:time_to_first_token_seconds_sum {6 * t}",
            f"vllm:time_to_first_token_seconds_count {40 * t}",
        ]
        for process in range(1, self.api_servers):
            lines += [
                f'vllm:num_requests_running{{engine="0",pid="{process}"}} 0',
                f'vllm:generation_tokens_total{{engine="0",pid="{process}"}} 0',
                f'{self.kv_name}{{engine="0",pid="{process}"}} 0',
            ]
        return "\n".join(lines) + "\n"


def record(fake: FakeVllm, clock: HandClock, seconds_s: int) -> TelemetryRecorder:
    source = TelemetrySource("http://localhost:8000/metrics", clock=clock, fetch=fake)
    recorder = TelemetryRecorder(source, clock=clock)
    scrape(recorder, clock, seconds_s)
    return recorder


def scrape(recorder: TelemetryRecorder, clock: HandClock, seconds_s: int) -> None:
    for _ in range(seconds_s):
        assert recorder.read_once()
        clock.sleep(1.0)


def between(recorder: TelemetryRecorder, begin_s: float, end_s: float) -> TelemetryWindow:
    return recorder.between(BEGIN_MONO_S + begin_s, BEGIN_MONO_S + end_s)


@pytest.mark.parametrize("api_servers", [1, 4])
@pytest.mark.parametrize("kv_name", ["kv", "gpu"])
def test_a_window_is_differenced_and_averaged(api_servers: int, kv_name: str) -> None:
    clock = HandClock()
    recorder = record(FakeVllm(clock, api_servers=api_servers, kv_name=kv_name), clock, 21)
    window = between(recorder, 4.1, 13.9)
    assert (window.begin_s, window.end_s) == (BEGIN_MONO_S + 4, BEGIN_MONO_S + 14)
    assert window.scrapes == 11
    assert window.batch_size == pytest.approx(8.0)
    assert window.requests_waiting == pytest.approx(2.0)
    assert window.kv_cache_utilization == pytest.approx(0.1 + 0.01 * 9)
    assert window.kv_cache_utilization_max == pytest.approx(0.1 + 0.01 * 14)
    assert window.generation_tokens == pytest.approx(10_000)
    assert window.prompt_tokens == pytest.approx(40_000)
    assert window.prefix_cache_hit_rate == pytest.approx(0.25)
    assert window.preemptions == 2
    assert window.engine_flops_per_s == pytest.approx(2e12)
    assert window.engine_bytes_per_s == pytest.approx(1.5e12)
    ttft = window.histograms["ttft_s"]
    assert (ttft.count, ttft.mean) == pytest.approx((400, 0.15))
    assert ttft.quantile(0.5) == pytest.approx(0.15)
    assert ttft.quantile(0.99) is None  # beyond the last finite edge


def test_without_mfu_metrics_flops_are_missing_with_the_option_that_brings_them() -> None:
    clock = HandClock()
    window = between(record(FakeVllm(clock, mfu=False), clock, 12), 1, 10)
    assert window.engine_flops_per_s is None
    assert "--enable-mfu-metrics" in window.missing["engine_flops_per_s"]


def test_a_restarted_engine_gives_no_negative_counts() -> None:
    clock = HandClock()
    fake = FakeVllm(clock)
    recorder = record(fake, clock, 8)
    fake.since_s = clock.monotonic_s()
    scrape(recorder, clock, 5)
    window = between(recorder, 1, 12)
    assert window.generation_tokens is None
    assert "restarted" in window.missing["generation_tokens"]
    assert window.prefix_cache_hit_rate is None
    assert "ttft_s" not in window.histograms
    assert window.batch_size is not None


def test_failures_leave_holes_and_measuring_goes_on() -> None:
    clock = HandClock()
    fake = FakeVllm(clock)
    recorder = record(fake, clock, 4)
    fake.error = ServerError("localhost:8000 did not answer within 2 s")
    scrape(recorder, clock, 3)
    fake.error = None
    scrape(recorder, clock, 4)
    window = between(recorder, 0, 10)
    assert window.scrapes == 8
    assert window.generation_tokens == pytest.approx(10_000)
    assert recorder.frame()["engine"].to_list() == ["vllm"] * 4 + [""] * 3 + ["vllm"] * 4
    assert (
        recorder.status().missing["localhost:8000"]["requests_running"].startswith("localhost:8000 did not answer")
    )


@pytest.mark.parametrize("text", ["", "<html>502 Bad Gateway</html>", '{"error": "no"}', "\x00\xff", "# TYPE\n"])
def test_garbage_is_a_reason_not_an_end(text: str) -> None:
    clock = HandClock()
    fake = FakeVllm(clock)
    fake.text = text
    recorder = record(fake, clock, 5)
    window = between(recorder, 0, 4)
    assert window.batch_size is None
    assert "no scrape" in window.missing["batch_size"]
    latest = recorder.latest()
    assert latest is not None
    assert latest.engine == ""
    assert "no metrics of a known engine" in latest.missing["requests_running"]


def test_half_a_line_is_refused_for_that_scrape_alone() -> None:
    clock = HandClock()
    fake = FakeVllm(clock)
    recorder = record(fake, clock, 3)
    fake.text = 'vllm:num_requests_running{engine="0"} 8\nvllm:generation_tokens_total{engi'
    scrape(recorder, clock, 1)
    latest = recorder.latest()
    assert latest is not None
    assert "cannot be parsed" in latest.missing["requests_running"]
    fake.text = None
    scrape(recorder, clock, 2)
    latest = recorder.latest()
    assert latest is not None
    assert latest.engine == "vllm"


def test_another_engine_on_the_same_port_is_recognised() -> None:
    clock = HandClock()
    fake = FakeVllm(clock)
    recorder = record(fake, clock, 3)
    fake.text = "llamacpp:requests_processing 3\n"
    scrape(recorder, clock, 2)
    latest = recorder.latest()
    assert latest is not None
    assert (latest.engine, latest.requests_running) == ("llama.cpp", 3)


def test_windows_without_scrapes_near_their_ends_are_refused() -> None:
    clock = HandClock()
    recorder = record(FakeVllm(clock), clock, 5)
    for begin_s, end_s, why in ((0, 20, "end (16.0 s)"), (1.0, 1.2, "fewer than two")):
        assert why in between(recorder, begin_s, end_s).missing["generation_tokens"]
    assert "no scrape" in telemetry_between([], 0.0, 1.0).missing["batch_size"]


def test_gauges_are_weighted_by_time_and_ranks_counted_once() -> None:
    text = "\n".join(
        f'sglang:{name}{{dp_rank="{dp}",tp_rank="{tp}"}} {value}'
        for name, values in (("num_running_reqs", (8, 4)), ("token_usage", (0.5, 0.3)))
        for dp, value in enumerate(values)
        for tp in range(4)
    )
    sample = detect_engine(text).sample(text, "s:1")
    assert sample.requests_running == 12
    assert sample.kv_cache_utilization == pytest.approx(0.4)
    early = TelemetrySample(device="s:1", engine="sglang", requests_running=10.0)
    late = TelemetrySample(device="s:1", engine="sglang", requests_running=20.0)
    window = telemetry_between([(0.0, early), (1.0, early), (11.0, late)], 0.0, 11.0)
    assert window.batch_size == pytest.approx((10 * 1 + 15 * 10) / 11)


def test_older_vllm_and_both_kinds_of_tensorrt_llm() -> None:
    old = (
        'vllm:gpu_cache_usage_perc{model_name="m"} 0.75\nvllm:num_requests_running{model_name="m"} 3\n'
        'vllm:time_per_output_token_seconds_bucket{le="+Inf"} 5\nvllm:time_per_output_token_seconds_sum 1\n'
    )
    sample = detect_engine(old).sample(old, "s:1")
    assert sample.kv_cache_utilization == 0.75
    assert sample.histograms["itl_s"].mean == pytest.approx(0.2)
    triton = "\n".join(
        [
            'nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 7',
            'nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 2',
            'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="m",version="1"} 25',
            'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m",version="1"} 100',
            'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m",version="1"} 64',
            'nv_inference_request_success{model="m",version="1"} 11',
        ]
    )
    sample = detect_engine(triton).sample(triton, "s:8002")
    assert (sample.engine, sample.requests_running, sample.requests_waiting) == ("triton", 7, 2)
    assert (sample.kv_cache_utilization, sample.kv_cache_capacity_tokens) == (0.25, 6400)
    assert sample.requests_finished == 11
    serve = (
        "trtllm_num_requests_running 5\ntrtllm_kv_cache_utilization 0.5\ntrtllm_kv_cache_reused_blocks_total 3\n"
        "trtllm_kv_cache_missed_blocks_total 1\ntrtllm_kv_cache_tokens_per_block 32\n"
    )
    sample = detect_engine(serve).sample(serve, "s:8000")
    assert (sample.engine, sample.requests_running) == ("tensorrt-llm", 5)
    assert (sample.prefix_hit_tokens, sample.prefix_queried_tokens) == (96, 128)


NAMES = ["vllm:num_requests_running", "vllm:generation_tokens_total", "vllm:time_to_first_token_seconds_bucket"]


@given(
    st.lists(
        st.one_of(
            st.text(max_size=60),
            st.builds(
                "{}{} {}".format,
                st.sampled_from(NAMES),
                st.sampled_from(["", "{}", '{engine="0"}', '{le="x"}', '{le="+Inf"}', "{engine=}", '{engine="0"']),
                st.one_of(st.floats().map(str), st.text(max_size=5)),
            ),
        ),
        max_size=12,
    )
)
def test_any_text_gives_a_sample_or_a_server_error(lines: list[str]) -> None:
    text = "vllm:num_requests_waiting 1\n" + "\n".join(lines)
    try:
        sample = detect_engine(text).sample(text, "s:1")
    except ServerError:
        return
    for name in (*GAUGES, *COUNTERS):
        value = getattr(sample, name)
        assert value is None or math.isfinite(value)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.floats(0.01, 1.0))
def test_quantiles_lie_within_the_buckets_and_rise(counts: list[int], share: float) -> None:
    cumulative = tuple(sum(counts[: i + 1]) for i in range(len(counts)))
    edges = (*(float(i + 1) for i in range(len(counts) - 1)), math.inf)
    histogram = Histogram(edges=edges, counts=cumulative, total=1.0)
    value = histogram.quantile(share)
    if value is None:
        assert share * cumulative[-1] > cumulative[-2] or cumulative[-1] == 0
    else:
        assert 0.0 <= value <= edges[-2]
        lower = histogram.quantile(share / 2)
        assert lower is not None
        assert lower <= value


@contextmanager
def serving(answer: bytes, *, status: int = 200, drip_s: float = 0.0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            step = 1 if drip_s else len(answer) or 1
            for i in range(0, len(answer), step):
                try:
                    self.wfile.write(answer[i : i + step])
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(drip_s)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_real_server_is_scraped_in_the_background() -> None:
    with serving(b"llamacpp:requests_processing 2\nllamacpp:tokens_predicted_total 10\n") as url:
        recorder = TelemetryRecorder(TelemetrySource(url), rate_hz=20.0)
        begin_s = time.monotonic()
        with recorder:
            time.sleep(0.5)
        window = recorder.between(begin_s, time.monotonic())
    assert window.batch_size == 2
    assert window.generation_tokens == 0
    assert window.scrapes >= 8


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "status 404"), (401, "status 401"), (429, "status 429"), (500, "status 500"), (302, "302")],
)
def test_a_status_other_than_200_is_named(status: int, message: str) -> None:
    with serving(b"no", status=status) as url, pytest.raises(ServerError, match=message):
        fetch_text(url)


def test_a_server_that_drips_or_hangs_or_is_not_there_is_named_in_time() -> None:
    begin_s = time.monotonic()
    with serving(b"x" * 100, drip_s=0.05) as url, pytest.raises(ServerError, match=r"did not answer within 0\.3 s"):
        fetch_text(url, timeout_s=0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ServerError, match=r"did not answer within 0\.2 s"):
            fetch_text(f"http://127.0.0.1:{port}/metrics", timeout_s=0.2)
    with pytest.raises(ServerError, match="ConnectionRefusedError"):
        fetch_text(f"http://127.0.0.1:{port}/metrics", timeout_s=0.2)
    assert time.monotonic() - begin_s < 3.0


def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joulemap.measure.telemetry.fetch.MAX_BYTES", 1024)
    with serving(b"x" * 100_000) as url, pytest.raises(ServerError, match="more than"):
        fetch_text(url)


@pytest.mark.parametrize("key", ["sk-secret", "sk-secret\n", "sk-secrét\u2603"])
def test_a_key_appears_in_no_error(key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    for url in ("http://127.0.0.1:9/metrics", "http://localhost:1/metrics"):
        with pytest.raises(ServerError) as error:
            fetch_text(url, timeout_s=0.5, headers=headers)
        assert "sk-secr" not in json.dumps([str(error.value), repr(error.value), repr(error.value.__cause__)])
    with pytest.raises(UsageError) as usage:
        TelemetrySource("http://user:sk-secret@localhost:8000/metrics")
    assert "sk-secret" not in str(usage.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/metrics", "http://", "http://h:port/", "file:///etc/passwd"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="http"):
        TelemetrySource(url)
