"""Results of a load client with a power log beside them, as people have them of their own servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from joulemap.diagnose.diagnose import diagnose
from joulemap.diagnose.diagnosis import Bound, Diagnosis
from joulemap.store.importers import ImportHints, import_path
from joulemap.store.run_store import open_store
from tests.diagnose.synthetic import accused_of, first
from tests.store.importers import samples

SMALL, LARGE = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
PROMPT, REPLY = 256, 256


def imported(
    folder: Path,
    model: str,
    gpu: str,
    powers_w: tuple[float, ...],
    running: int,
    tokens_per_s: float,
    **changes: Any,
) -> Diagnosis:
    """Diagnose a benchmark of a minute, written as ``vllm bench serve`` writes it."""
    requests = round(tokens_per_s * samples.DURATION_S / REPLY)
    gap_ms = 1e3 * running / tokens_per_s
    result: dict[str, Any] = {
        "model_id": model, "max_concurrency": running, "num_prompts": requests, "completed": requests,
        "total_input_tokens": requests * PROMPT, "total_output_tokens": requests * REPLY,
        "request_throughput": requests / samples.DURATION_S, "output_throughput": tokens_per_s,
        "mean_itl_ms": gap_ms, "median_itl_ms": gap_ms, "mean_tpot_ms": gap_ms,
        "mean_e2el_ms": gap_ms * REPLY,
    }  # fmt: skip
    samples.vllm_bench(folder / "result.json", **result | changes)
    samples.power_csv(folder / "power.csv", powers_w)
    store = open_store(folder / "store")
    hints = ImportHints(gpu_model=gpu, num_gpus=len(powers_w), power_csv=folder / "power.csv", power_timezone="UTC")
    import_path(store, folder / "result.json", hints=hints)
    (run,) = store.runs()
    assert run.measured.energy_per_output_j == pytest.approx(sum(powers_w) / tokens_per_s, rel=0.02)
    return diagnose(run.run_id, store=store)


@pytest.mark.parametrize(
    ("model", "gpu", "powers_w", "running", "tokens_per_s"),
    [
        (SMALL, "NVIDIA A100-SXM4-80GB", (260.0,), 1, 90.0),
        (SMALL, "NVIDIA A100-SXM4-80GB", (340.0,), 64, 2800.0),
        (SMALL, "NVIDIA A100-SXM4-80GB", (280.0,), 128, 2200.0),  # an older engine
        (LARGE, "A100", (290.0,) * 4, 32, 700.0),
        (SMALL, "NVIDIA H200", (620.0,), 256, 15_000.0),
        (LARGE, "H200", (470.0,) * 8, 256, 9000.0),
        (SMALL, "NVIDIA L40S", (330.0,), 32, 1100.0),
    ],
)
def test_plain_results_are_not_accused(
    tmp_path: Path, model: str, gpu: str, powers_w: tuple[float, ...], running: int, tokens_per_s: float
) -> None:
    diagnosis = imported(tmp_path, model, gpu, powers_w, running, tokens_per_s)
    weighty = [
        f.name for f in diagnosis.findings if f.name in accused_of(diagnosis) and f.weight * f.confidence > 0.05
    ]
    assert not weighty
    assert diagnosis.bound_by in {Bound.APPLICATION_LIMIT, Bound.COMPUTE, Bound.MEMORY_BANDWIDTH}


@pytest.mark.parametrize(
    ("gpu", "watts", "tokens_per_s"),
    [("A100", 130.0, 700.0), ("H100", 210.0, 2200.0), ("H200", 220.0, 2200.0), ("L40S", 150.0, 400.0)],
)
def test_a_starved_server(tmp_path: Path, gpu: str, watts: float, tokens_per_s: float) -> None:
    diagnosis = imported(tmp_path, SMALL, gpu, (watts,), 64, tokens_per_s)
    assert diagnosis.bound_by is Bound.HOST
    assert first(diagnosis) == "starved-by-host"


def test_requests_that_failed_make_it_unfit(tmp_path: Path) -> None:
    diagnosis = imported(tmp_path, SMALL, "A100", (340.0,), 64, 2800.0, completed=400, failed=256)
    assert first(diagnosis) == "measurement-unfit"
