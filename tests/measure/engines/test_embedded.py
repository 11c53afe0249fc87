"""The embedded engine is a real llama.cpp: it batches, counts, tells its metrics, and ends when it should."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from joulemap.errors import EnvironmentLacksError, InputError, ServerError
from joulemap.measure.engines.cores import pin, split_cores
from joulemap.measure.engines.embedded import EmbeddedEngine, model_facts
from joulemap.measure.engines.tiny_model import TinyModelSpec, tiny_model
from joulemap.measure.load.failure import ErrorKind
from joulemap.measure.load.handle import run_load, start_load
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.plan import ClosedLoop, Limits, LoadPlan
from joulemap.measure.load.probe import served_models, token_ratio
from joulemap.measure.load.prompts import SyntheticPrompts
from joulemap.measure.load.target import Endpoint, Target
from joulemap.measure.load.window import evaluate

PATIENT = Limits(drain_s=60.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(folder=tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[EmbeddedEngine]:
    with EmbeddedEngine(model, parallel=4, threads=1, context_tokens=512) as running:
        yield running


def metric(engine: EmbeddedEngine, name: str) -> float:
    with urllib.request.urlopen(engine.metrics_url) as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith(f"llamacpp:{name} "):
                return float(line.split()[1])
    raise AssertionError(name)


def test_the_model_is_written_once_and_whole(tmp_path: Path) -> None:
    spec = TinyModelSpec(layers=1, hidden_size=64, feed_forward_size=128, vocabulary=4096)
    path = tiny_model(spec, folder=tmp_path)
    written = path.stat().st_mtime_ns
    assert tiny_model(spec, folder=tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert tiny_model(TinyModelSpec(seed=1, layers=1, hidden_size=64, vocabulary=4096), folder=tmp_path) != path


def test_the_file_says_what_the_spec_said(model: Path) -> None:
    spec, facts = TinyModelSpec(), model_facts(model)
    assert facts.total_params == spec.total_params
    assert (facts.layers, facts.hidden_size, facts.kv_heads) == (4, 256, 4)
    assert facts.head_size == 32
    assert facts.weight_precision == "float16"
    assert facts.kv_bytes_per_token == 2 * 2 * 4 * 4 * 32
    norms = (2 * spec.layers + 1) * spec.hidden_size
    assert facts.weight_bytes == 2 * (spec.total_params - norms) + 4 * norms


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentLacksError, match="cannot be written"):
        tiny_model(folder=tmp_path / "file")


def test_it_serves_as_soon_as_it_is_there_and_leaves_nothing_behind(model: Path) -> None:
    with EmbeddedEngine(model, threads=1) as running:
        assert served_models(running.target()) == (running.target().model,)
        pid = running.pid
    assert not psutil.pid_exists(pid)
    running.stop()


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
def test_replies_have_the_lengths_that_were_asked_for(engine: EmbeddedEngine, endpoint: Endpoint) -> None:
    target = Target(url=engine.url, model=engine.target().model, endpoint=endpoint)
    ratio = asyncio.run(token_ratio(target))
    assert ratio is not None
    assert ratio.tokens_per_word == pytest.approx(1.0, abs=0.05)
    prompts = SyntheticPrompts(input_tokens=FixedLength(100), output_tokens=FixedLength(24)).calibrated(ratio)
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=4), prompts=prompts, max_requests=12, limits=PATIENT)
    before = metric(engine, "tokens_predicted_total"), metric(engine, "prompt_tokens_total")
    result = asyncio.run(run_load(plan, target))
    requests = result.requests
    assert requests["error"].null_count() == 12, requests["error_detail"].to_list()
    assert requests["output_tokens"].to_list() == [24] * 12
    assert requests["input_tokens"].to_numpy() == pytest.approx(100, abs=1)
    # Some tokens are half a character, and come with the next chunk.
    assert (requests["chunks"] <= 24).all()
    assert requests["chunks"].mean() > 12  # type: ignore[operator]
    assert metric(engine, "tokens_predicted_total") - before[0] == 12 * 24
    # Only the token that begins every text may come from the cache, and now and then a first word that two
    # prompts share.
    cached = int(requests["input_tokens"].sum()) - (metric(engine, "prompt_tokens_total") - before[1])
    assert 0 <= cached <= 2 * 12


def test_requests_are_batched(engine: EmbeddedEngine) -> None:
    prompts = SyntheticPrompts(input_tokens=FixedLength(20), output_tokens=FixedLength(100))
    busy_before, decodes_before = metric(engine, "tokens_predicted_total"), metric(engine, "n_decode_total")
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=4), prompts=prompts, max_requests=8, limits=PATIENT)
    with start_load(plan, engine.target(), workers=2) as load:
        result = load.result()
    tokens = metric(engine, "tokens_predicted_total") - busy_before
    decodes = metric(engine, "n_decode_total") - decodes_before
    assert tokens == 800
    assert tokens / decodes > 1.8  # several sequences advance in one step
    window = evaluate(result, result.started_s, float(np.max(result.samples["time_s"].to_numpy())))
    assert window.output_tokens == pytest.approx(800)
    assert window.ttft is not None
    assert window.itl is not None


def test_engine_and_client_have_cores_of_their_own(engine: EmbeddedEngine) -> None:
    cores, usable = split_cores(), sorted(psutil.Process().cpu_affinity())
    assert [*cores.engine, *cores.client] == (usable if len(usable) > 1 else [])
    assert psutil.Process(engine.pid).cpu_affinity() == list(cores.engine or usable)
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=2), prompts=SyntheticPrompts(), duration_s=30.0)
    with start_load(plan, engine.target(), workers=2) as load:
        pin(load.pids, cores.client)
        assert [psutil.Process(pid).cpu_affinity() for pid in load.pids] == [list(cores.client or usable)] * 2
        pin([2**22 + 1], cores.client)  # a process that is gone is no error


def test_a_prompt_beyond_the_context_is_an_error_by_name(engine: EmbeddedEngine) -> None:
    prompts = SyntheticPrompts(input_tokens=FixedLength(2000), output_tokens=FixedLength(4))
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=1), prompts=prompts, max_requests=1, limits=PATIENT)
    result = asyncio.run(run_load(plan, engine.target()))
    assert result.requests["error"].to_list() == [ErrorKind.CLIENT_ERROR]
    assert "context" in result.requests["error_detail"][0]


def test_an_engine_that_is_killed_in_mid_run_costs_only_what_was_in_flight(model: Path) -> None:
    prompts = SyntheticPrompts(input_tokens=FixedLength(20), output_tokens=FixedLength(60))
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=2), prompts=prompts, limits=Limits(failures_in_a_row=6))
    with EmbeddedEngine(model, parallel=2, threads=1) as running:
        with start_load(plan, running.target(), workers=1) as load:
            deadline_s = time.monotonic() + 30
            while load.snapshot().completed < 5:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            os.kill(running.pid, signal.SIGKILL)
            result = load.result()
        assert not running.running
    assert result.requests["error"].null_count() >= 5
    assert set(result.failures) <= {ErrorKind.CLOSED_EARLY, ErrorKind.HALF_CHUNK, ErrorKind.REFUSED}
    assert "6 requests in a row failed" in result.reasons[0]


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "not.gguf").write_bytes(b"no model at all" * 100)
    with pytest.raises(InputError, match="no GGUF file"):
        EmbeddedEngine(tmp_path / "not.gguf")
    with pytest.raises(InputError, match="no GGUF file"):
        EmbeddedEngine(tmp_path / "absent.gguf")


def test_a_model_that_the_engine_cannot_load_is_told_with_its_last_words(tmp_path: Path, model: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(model.read_bytes().replace(b"blk.3.ffn_down.weight", b"blk.3.ffn_none.weight"))
    with pytest.raises(ServerError, match="did not start"):
        EmbeddedEngine(broken, threads=1)


def test_the_engine_describes_its_deployment(engine: EmbeddedEngine) -> None:
    deployment = engine.deployment()
    assert deployment.engine == "llama.cpp"
    assert deployment.max_num_seqs == 4
    assert deployment.total_params_billions == pytest.approx(0.0081, abs=1e-4)


def test_no_engine_outlives_its_parent(tmp_path: Path, model: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from joulemap.measure.engines.embedded import EmbeddedEngine
        engine = EmbeddedEngine(Path(sys.argv[1]), threads=1)
        print(engine.pid, flush=True)
        time.sleep(60)
        """)
    )
    parent = subprocess.Popen([sys.executable, str(script), str(model)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline_s = time.monotonic() + 10
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
