"""The planted cause of runs unlike the study's is named first, and plain runs are accused of nothing.

Other GPUs, an older engine, load clients that state no ceiling, wrong meters, better and worse hosts.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from joulemap.diagnose.diagnosis import Bound
from tests.diagnose.synthetic import Row, accused_of, diagnosed, first, run, scaled, starved

SMALL, MIDDLE, LARGE, HUGE = (
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-32B",
    "meta-llama/Llama-3.1-70B-Instruct",
)
EXPERTS, REPLICATED = "openai/gpt-oss-120b", "deepseek-ai/DeepSeek-R1-0528"
SEES = "Qwen/Qwen3-VL-8B-Instruct"
CHAT, SOLVING = "lm-arena-chat", "gpqa"


def full(model: str, gpu: str, gpus: int, task: str = CHAT, batch: int = 64) -> Row:
    return run(model, gpu, gpus, task, batch, ceiling=batch)


def measured_on(row: Row, share: float) -> Row:
    """The power of a share of the GPUs only."""
    return scaled(row, power=share)


def arriving(row: Row, rate: float) -> Row:
    return row | {"max_num_seqs": None, "request_rate_per_s": rate}


def full_cache(row: Row) -> Row:
    return row | {"kv_cache_utilization": 0.96, "requests_waiting": 40.0}


def held(row: Row, in_flight: int) -> Row:
    return row | {"max_concurrency": in_flight, "requests_waiting": 0.0, "kv_cache_utilization": 0.25}


HELD = "held-by-front-end"
STARVED, UNFIT, MEMORY = "starved-by-host", "measurement-unfit", "batch-ceiling-by-kv-memory"
CASES: dict[str, tuple[str, Callable[[], Row]]] = {
    "starved H200": (STARVED, lambda: starved(full(LARGE, "H200", 1), 3.0)),
    "starved A100": (STARVED, lambda: starved(full(SMALL, "A100", 1), 3.0)),
    "starved L40S with little memory": (STARVED, lambda: starved(full(MIDDLE, "L40S", 1), 2.5)),
    "starved MI300X": (STARVED, lambda: starved(full(HUGE, "MI300X", 2), 4.0)),
    "starved experts": (STARVED, lambda: starved(full(EXPERTS, "B200", 1), 3.0)),
    "starved by video": (STARVED, lambda: starved(run(SEES, "H200", 1, "video-chat", 12, ceiling=256), 2.5)),
    "starved by images": (STARVED, lambda: starved(run(SEES, "A100", 1, "image-chat", 20, ceiling=256), 3.0)),
    "starved, with a counter": (STARVED, lambda: starved(full(MIDDLE, "H200", 1), 3.0) | {"sm_utilization": 0.25}),
    "memory of an L40S": (MEMORY, lambda: full_cache(run(MIDDLE, "L40S", 1, SOLVING, 14, ceiling=256))),
    "memory, no telemetry": (MEMORY, lambda: run(MIDDLE, "L40S", 1, SOLVING, 14, ceiling=256)),
    "memory of two H100": (MEMORY, lambda: full_cache(run(HUGE, "H100", 2, SOLVING, 10, ceiling=128))),
    "demand, as a rate": ("under-filled", lambda: arriving(run(SMALL, "A100", 1, CHAT, 4), 0.5)),
    "demand below the ceiling": ("under-filled", lambda: run(LARGE, "H200", 1, CHAT, 6, ceiling=256)),
    "a front end that cannot keep up": (HELD, lambda: held(run(SMALL, "H200", 1, CHAT, 165, ceiling=512), 256)),
    "one of four GPUs metered": (UNFIT, lambda: measured_on(full(HUGE, "H200", 4), 0.25)),
    "one of two GPUs metered": (UNFIT, lambda: measured_on(full(HUGE, "H200", 2), 0.5)),
    "another GPU metered, idle": (UNFIT, lambda: scaled(full(MIDDLE, "H200", 1), power=0.12)),
    "a kilowatt taken for a watt": (UNFIT, lambda: scaled(full(MIDDLE, "A100", 1), power=1e-3)),
    "eight GPUs metered": (UNFIT, lambda: scaled(full(MIDDLE, "H200", 1), power=2.1)),
    "two seconds": (UNFIT, lambda: full(MIDDLE, "A100", 1) | {"duration_s": 2.0}),
    "a third failed": (UNFIT, lambda: full(MIDDLE, "A100", 1) | {"failed_requests": 400}),
    "replicas wait": (
        "attention-data-parallel-imbalance",
        lambda: starved(
            run(REPLICATED, "H200", 8, SOLVING, 64, ceiling=64, data_parallel=8, tensor_parallel=1), 1.8
        ),
    ),
    "prompts of 8,000 tokens": (
        "prefill-interference",
        lambda: run(LARGE, "H200", 1, None, 64, ceiling=64, prompt=8000, reply=50),
    ),
    "pictures on an A100": (
        "diffusion-steps-resolution-frames-dominate",
        lambda: run("black-forest-labs/FLUX.1-dev", "A100", 1, "text-to-image", 1, engine="xdit"),
    ),
    "videos on an H200": (
        "diffusion-steps-resolution-frames-dominate",
        lambda: run("Wan-AI/Wan2.1-T2V-14B-Diffusers", "H200", 1, "text-to-video", 1, engine="xdit"),
    ),
}


@pytest.mark.parametrize(("cause", "planted"), CASES.values(), ids=CASES)
def test_the_planted_cause_comes_first(cause: str, planted: Callable[[], Row]) -> None:
    diagnosis = diagnosed(planted())
    assert first(diagnosis) == cause
    binds = {
        STARVED: Bound.HOST,
        MEMORY: Bound.MEMORY_CAPACITY,
        "under-filled": Bound.UNDER_FILLED,
    }
    assert diagnosis.bound_by is binds.get(cause, diagnosis.bound_by)


def test_neighbours_show_the_cause() -> None:
    one, two = full(LARGE, "A100", 1, SOLVING, 4), [full(LARGE, "A100", 2, SOLVING, b) for b in (4, 16, 64)]
    assert first(diagnosed(full_cache(one), two)) == "more-gpus-would-unlock-batch"
    assert first(diagnosed(full(SMALL, "A100", 8, batch=32), [full(SMALL, "A100", 1, batch=32)])) == (
        "more-gpus-only-add-communication"
    )
    wide = full(HUGE, "H200", 4, batch=8)
    narrow = scaled(wide, slower=1.25) | {"weight_precision": "fp8", "run_id": "f" * 12}
    assert first(diagnosed(narrow, [wide])) == "quantisation-overhead-at-small-batch"
    newer, older = scaled(full(SMALL, "H200", 1, batch=4), power=1.6), full(SMALL, "A100", 1, batch=4)
    assert first(diagnosed(newer, [scaled(older, power=0.8)])) == "older-gpu-is-more-efficient-here"


def test_a_precision_that_is_not_stated_is_not_compared() -> None:
    wide = full(HUGE, "H200", 4, batch=8)
    unknown = scaled(wide, slower=1.25) | {"weight_precision": None, "run_id": "f" * 12}
    assert "quantisation-overhead-at-small-batch" not in [f.name for f in diagnosed(unknown, [wide]).findings]
    cheaper = scaled(wide, slower=0.7) | {"weight_precision": None, "run_id": "f" * 12}
    assert "fp8-pays-from-batch" not in [f.name for f in diagnosed(wide, [cheaper]).findings]


@pytest.mark.parametrize("gpu", ["A100", "H100", "H200", "B200", "L40S", "MI300X"])
@pytest.mark.parametrize(("slower", "power"), [(1.0, 1.0), (1.25, 0.95), (1.5, 0.9), (0.8, 1.05)])
def test_plain_runs_are_not_accused(gpu: str, slower: float, power: float) -> None:
    """An engine that is slower, or faster, than the model thinks is no defect."""
    diagnosis = diagnosed(scaled(full(MIDDLE, gpu, 1, batch=48), slower=slower, power=power))
    assert not accused_of(diagnosis)


@pytest.mark.parametrize(("model", "batch"), [(SMALL, 64), (MIDDLE, 32), ("openai/gpt-oss-20b", 256)])
def test_a_better_host_than_the_study_s_is_not_accused(model: str, batch: int) -> None:
    """The study's single B200s had few host cores; the same system elsewhere need not."""
    elsewhere = run(model, "B200", 1, None, batch, ceiling=batch, prompt=220, reply=4000) | {"task": SOLVING}
    diagnosis = diagnosed(elsewhere)
    assert diagnosis.latents["starved_fraction"].value < 0.1
    assert diagnosis.bound_by is not Bound.HOST
    assert not accused_of(diagnosis)


def test_a_faster_host_for_video_waits_less() -> None:
    slow = run(SEES, "H200", 1, "video-chat", 100, ceiling=128)
    usual = diagnosed(slow).latents["starved_fraction"].value
    assert usual > 0.2
    faster = diagnosed(scaled(slow, slower=1.0 - usual, power=1.2)).latents["starved_fraction"].value
    assert faster < 0.1


def test_a_client_s_concurrency_is_named_as_the_knob() -> None:
    row = run(SMALL, "A100", 1, CHAT, 8) | {"max_num_seqs": None, "max_concurrency": 8}
    diagnosis = diagnosed(row)
    assert diagnosis.bound_by is Bound.APPLICATION_LIMIT
    assert "max_concurrency" in diagnosis.findings[0].lever
    assert "kept 8 in flight" in diagnosis.findings[0].evidence[0]


def test_a_ceiling_that_is_filled_is_not_laid_to_memory() -> None:
    diagnosis = diagnosed(full(SMALL, "L40S", 1, batch=128))
    assert 0.6 < diagnosis.latents["kv_cache_utilization"].value < 0.85
    assert MEMORY not in [f.name for f in diagnosis.findings]


UNKNOWN = {"model_id": "someone/unknown-7b", "nickname": None}


def test_counters_and_limits_tell_of_a_model_that_the_catalog_lacks() -> None:
    row = full(MIDDLE, "A100", 1, batch=48) | UNKNOWN
    assert not accused_of(diagnosed(row))
    waiting = diagnosed(row | {"sm_utilization": 0.1})
    assert waiting.bound_by is Bound.HOST
    assert first(waiting) == STARVED
    assert first(diagnosed(scaled(row, power=1e-3))) == UNFIT
    assert first(diagnosed(scaled(row, power=3.0))) == UNFIT
    assert not accused_of(diagnosed(row | {"sm_utilization": 0.8}))


def test_much_that_is_unexplained_is_told() -> None:
    diagnosis = diagnosed(scaled(full(MIDDLE, "H200", 1, batch=48), slower=2.5, power=1.0))
    assert any("unexplained" in note for note in diagnosis.notes)
