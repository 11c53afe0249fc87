"""An agent must cost at most 1 % of a core: 8 GPUs, vLLM's metrics of full length, a log of 20 requests a second.

NVML is a fake, so that the driver's own cost comes on top; the engine is another process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import generate_latest

from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.session.instruments import Instruments
from joulemap.watch.agent import Agent
from joulemap.watch.endpoint import registry_of
from joulemap.watch.request_log import RequestLog
from joulemap.watch.server import WatchedServer
from joulemap.watch.settings import METER_RATE_HZ, WatchSettings

GPUS = 8
SECONDS_S = 60.0
WARM_UP_S = 25.0
REQUESTS_PER_S = 20
SCRAPED_EVERY_S = 15.0
LIMIT = 0.01
HISTOGRAMS = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "iteration_tokens_total",
)
ENGINE = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
begin = time.monotonic()
class H(BaseHTTPRequestHandler):
    def do_GET(self):
        t = time.monotonic() - begin
        label = 'engine="0",model_name="m"'
        lines = [f"vllm:{n}{{{label}}} {v}" for n, v in (
            ("num_requests_running", 64), ("num_requests_waiting", 2), ("kv_cache_usage_perc", 0.6),
            ("prompt_tokens_total", 4000 * t), ("generation_tokens_total", 2000 * t),
            ("prefix_cache_queries_total", 4000 * t), ("prefix_cache_hits_total", 1000 * t),
            ("request_success_total", 20 * t), ("num_preemptions_total", 0))]
        for name in sys.argv[1].split(","):
            n = int(100 * t)
            lines += [f'vllm:{name}_bucket{{{label},le="{0.01 * 1.5 ** i:.4g}"}} {n * i // 20}' for i in range(21)]
            lines += [f'vllm:{name}_bucket{{{label},le="+Inf"}} {n}', f"vllm:{name}_sum{{{label}}} {t}",
                      f"vllm:{name}_count{{{label}}} {n}"]
        lines += [f'http_request_duration_seconds_bucket{{handler="/v1/x{i}",le="0.{i}"}} {i}' for i in range(400)]
        body = "\\n".join(lines).encode() + b"\\n"
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
server = HTTPServer(("127.0.0.1", 0), H)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def engine() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", ENGINE, ",".join(HISTOGRAMS)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()
    process.stdout.close()


@contextmanager
def meters() -> Iterator[tuple[Instruments, tuple[str, ...]]]:
    meter = NvidiaMeter(FakeNvml(GPUS), environment={})
    with Instruments([meter], rate_hz=METER_RATE_HZ, keep_s=WatchSettings().keep_s) as instruments:
        yield instruments, ()
    meter.close()


def line(now_s: float) -> str:
    return json.dumps(
        {"start": now_s - 5.0, "end": now_s, "prompt_tokens": 200, "output_tokens": 100, "tenant": "red"}
    )


def test_an_agent_costs_at_most_one_percent_of_a_core(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    log.touch()
    with engine() as url:
        deployment = {"model_id": "Qwen/Qwen3-32B", "weight_precision": "bfloat16", "max_num_seqs": 256}
        agent = Agent(
            WatchedServer(url=url, deployment=deployment),
            meters,
            request_log=RequestLog(log),
            settings=WatchSettings(settle_s=20.0),
        )
        registry = registry_of(lambda: agent.snapshot)
        stop = threading.Event()
        thread = threading.Thread(target=agent.run, args=(stop,))
        thread.start()
        time.sleep(WARM_UP_S)
        own_s, cpu_s, begin_s = 0.0, time.process_time(), time.monotonic()
        due_s = begin_s + SCRAPED_EVERY_S
        while time.monotonic() < begin_s + SECONDS_S:
            time.sleep(1.0)
            writing_s = time.thread_time()
            with log.open("a") as out:
                out.write("\n".join(line(time.time()) for _ in range(REQUESTS_PER_S)) + "\n")
            own_s += time.thread_time() - writing_s  # the gateway's work, not the agent's
            if time.monotonic() >= due_s:
                due_s += SCRAPED_EVERY_S
                generate_latest(registry)
        steady = (time.process_time() - cpu_s - own_s) / (time.monotonic() - begin_s)
        stop.set()
        thread.join()
        made_s, cpu_s = agent.rolling.made_s, time.process_time()
        assert made_s is not None
        assert agent.rolling.diagnosis is not None, agent.rolling.missing
        agent.rolling.made_s = None
        agent._diagnose(time.monotonic())
        diagnosis_s = time.process_time() - cpu_s
        agent.close()
    totals = agent.snapshot.totals
    assert totals.failed_scrapes == 0
    assert totals.accounts[0][1].energy_j > 0
    # At worst, a server that changes all the time is diagnosed as often as it may be.
    ratio = steady + diagnosis_s / agent.settings.diagnose_s
    print(
        f"\nwatching {GPUS} GPUs and vLLM, {REQUESTS_PER_S} requests/s logged: {steady:.3%} of a core, "
        f"with a diagnosis ({diagnosis_s:.2f} s) every {agent.settings.diagnose_s:g} s {ratio:.3%}"
    )
    assert ratio <= LIMIT
