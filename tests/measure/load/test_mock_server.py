"""The mock server does what it says, so that it can serve as the truth."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from joulemap.measure.mock_server import MockBehaviour, MockServerProcess
from tests.measure.load.loads import swift


def told(server: MockServerProcess, path: str) -> str:
    with urllib.request.urlopen(server.url + path) as reply:
        return str(reply.read().decode())


def ask(server: MockServerProcess) -> str:
    body = {"messages": [{"role": "user", "content": "one two three four"}], "stream": True}
    asked = urllib.request.Request(
        server.url + "/v1/chat/completions",
        data=json.dumps(body | {"stream_options": {"include_usage": True}}).encode(),
    )
    with urllib.request.urlopen(asked) as reply:
        return str(reply.read().decode())


def metrics_of(server: MockServerProcess) -> dict[str, float]:
    families = text_string_to_metric_families(told(server, "/metrics"))
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_it_tells_what_it_did_in_vllms_words() -> None:
    with MockServerProcess(swift()) as server:
        reply = ask(server)
        metrics = metrics_of(server)
        stats = json.loads(told(server, "/mock/stats"))
    assert reply.count(" token") == 10
    assert reply.endswith("data: [DONE]\n\n")
    assert '"prompt_tokens":13' in reply  # 4 words × 1.25 + 8 of the template
    assert metrics["vllm:generation_tokens_total"] == stats["tokens"] == 10
    assert metrics["vllm:prompt_tokens_total"] == 13
    assert metrics["vllm:num_requests_running"] == 0
    # A server that was held up catches up, so that a busy machine makes gaps shorter as well as longer.
    assert 0.0 < stats["gap_mean_s"] < 0.1


def test_requests_beyond_its_limit_wait() -> None:
    with (
        MockServerProcess(swift(max_running=1, ttft_s=0.3)) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        replies = [pool.submit(ask, server) for _ in range(2)]
        seen = []
        while not all(reply.done() for reply in replies):
            metrics = metrics_of(server)
            seen.append((metrics["vllm:num_requests_running"], metrics["vllm:num_requests_waiting"]))
    assert (1, 1) in seen
    assert max(running for running, _ in seen) == 1


def test_unknown_paths_are_404() -> None:
    with MockServerProcess(MockBehaviour()) as server, pytest.raises(urllib.error.HTTPError, match="404") as caught:
        told(server, "/v2/nothing")
    caught.value.close()


def test_it_explains_itself_on_the_command_line() -> None:
    argv = [sys.executable, "-m", "joulemap.measure.mock_server", "--help"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "--ttft-s" in text
    with pytest.raises(RuntimeError, match="did not start"):
        MockServerProcess(MockBehaviour(fault="no such fault"))
