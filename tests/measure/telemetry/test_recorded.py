"""Metrics texts recorded from real servers, read into joulemap's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from joulemap.errors import ServerError
from joulemap.measure.telemetry.adapters import ADAPTERS, detect_engine
from joulemap.measure.telemetry.sample import COUNTERS, GAUGES, TelemetrySample

RECORDED = {
    "vllm": "vllm-0.32-cpu.prom",
    "sglang": "sglang-0.5.23.prom",
    "llama.cpp": "llamacpp.prom",
}


def recorded(study_data: Path, engine: str) -> str:
    return (study_data / "engine-metrics" / RECORDED[engine]).read_text()


def sample_of(study_data: Path, engine: str) -> TelemetrySample:
    text = recorded(study_data, engine)
    return detect_engine(text).sample(text, "localhost:8000")


@pytest.mark.parametrize("engine", RECORDED)
def test_the_engine_is_told_by_its_text(study_data: Path, engine: str) -> None:
    assert detect_engine(recorded(study_data, engine)).engine == engine


@pytest.mark.parametrize("engine", RECORDED)
def test_what_is_missing_has_a_reason_and_nothing_else_has(study_data: Path, engine: str) -> None:
    sample = sample_of(study_data, engine)
    nothing = {name for name in (*GAUGES, *COUNTERS) if getattr(sample, name) is None}
    assert set(sample.missing) == nothing
    assert all(sample.missing.values())


def test_vllm(study_data: Path) -> None:
    sample = sample_of(study_data, "vllm")
    assert sample.prompt_tokens == 8445
    assert sample.generation_tokens == 5448
    assert sample.requests_finished == 86
    assert sample.kv_cache_capacity_tokens == 4096 * 128 == 524288
    assert sample.engine_flops == pytest.approx(1.1059116032e11)
    assert sample.engine_read_bytes == pytest.approx(7.872342528e9)
    assert sample.engine_write_bytes == pytest.approx(4.63959552e8)
    assert (sample.requests_running, sample.requests_waiting, sample.kv_cache_utilization) == (0, 0, 0)
    assert sample.prefix_queried_tokens == 8445
    assert sample.prefix_hit_tokens == 0
    assert sample.preemptions == 0
    itl = sample.histograms["itl_s"]
    assert itl.count == 5362
    assert itl.mean == pytest.approx(29.98551446699912 / 5362)
    assert sample.histograms["step_tokens"].total == 13893
    assert sample.settings == {"gpu_memory_utilization": 0.92}
    assert set(sample.histograms) >= {"ttft_s", "latency_s", "queue_s", "prefill_s", "decode_s"}


def test_sglang(study_data: Path) -> None:
    sample = sample_of(study_data, "sglang")
    assert sample.prompt_tokens == 15 + 8481 == sample.histograms["prompt_tokens"].total
    assert sample.generation_tokens == 8 + 5448 == sample.histograms["generation_tokens"].total
    assert sample.prefix_hit_tokens == 325
    assert sample.prefix_queried_tokens == 8172 + 325
    assert sample.requests_finished == 87
    assert sample.kv_cache_capacity_tokens == 530307
    assert sample.steps == 581
    assert sample.step_requests == 5369
    assert sample.idle_s == pytest.approx(2.5890626859999997)
    assert sample.histograms["ttft_s"].count == 87
    assert "gauge" in sample.missing["preemptions"]


def test_llamacpp(study_data: Path) -> None:
    sample = sample_of(study_data, "llama.cpp")
    assert sample.prompt_tokens == 10392 + 14
    assert sample.prefix_hit_tokens == 14
    assert sample.generation_tokens == 6528
    assert sample.steps == 1000
    assert sample.step_requests == pytest.approx(6552)
    assert sample.kv_cache_utilization is None
    assert "no longer" in sample.missing["kv_cache_utilization"]


@pytest.mark.parametrize("engine", RECORDED)
def test_a_text_cut_anywhere_is_read_or_refused_by_name(study_data: Path, engine: str) -> None:
    text = recorded(study_data, engine)
    whole = sample_of(study_data, engine)
    for end in range(0, len(text), len(text) // 97):
        try:
            sample = detect_engine(text[:end]).sample(text[:end], "localhost:8000")
        except ServerError as error:
            assert error.message  # noqa: PT017 - either outcome is right, a third is not
            continue
        # A number cut short (8445 → 84) would be a false one; what was told before it must be unharmed.
        told = [n for n in COUNTERS if getattr(sample, n) is not None]
        assert all(getattr(sample, n) <= getattr(whole, n) for n in told)


def test_adapters_have_distinct_marks_and_known_fields() -> None:
    marks = [mark for adapter in ADAPTERS for mark in adapter.marks]
    assert len(marks) == len(set(marks))
    for adapter in ADAPTERS:
        assert set(adapter.pickers) <= {*GAUGES, *COUNTERS}
        assert set(adapter.absent) <= {*GAUGES, *COUNTERS}
