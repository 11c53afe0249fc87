"""Raw and compiled results of the ML.ENERGY Benchmark."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from joulemap.errors import ImportFileError
from joulemap.records import Modality, OutputUnit, Run
from joulemap.store.importers import ImportHints, read_path
from joulemap.store.importers.engine_window import engine_window
from joulemap.store.importers.mlenergy_path import path_context
from joulemap.store.importers.parquet_worker import MOST_ROWS, ParquetWorker
from tests.store.importers import samples
from tests.store.importers.samples import START_S


def one(path: Path, **hints: Any) -> Run:
    read = read_path(path, hints=ImportHints(**hints))
    assert read.problems == ()
    (run,) = read.runs
    return run


class TestLlm:
    def test_context_comes_from_the_path(self, tmp_path: Path) -> None:
        run = one(samples.mlenergy_llm(tmp_path))
        assert run.workload.task == "gpqa"
        assert (run.deployment.gpu_model, run.deployment.num_gpus) == ("H100", 1)
        assert run.deployment.max_num_seqs == 128
        assert run.deployment.model_id == "Qwen/Qwen3-8B"

    def test_steady_state(self, tmp_path: Path) -> None:
        measured = one(samples.mlenergy_llm(tmp_path)).measured
        assert measured.energy_per_output_j == 2.0
        assert measured.power_w == 400
        assert measured.duration_s == 60
        assert measured.output_throughput_per_s == pytest.approx(200)
        assert measured.energy_per_request_j == pytest.approx(800)
        assert measured.gpu_temperature_c == pytest.approx(60)

    def test_engine_telemetry_is_of_the_window_and_of_the_engine(self, tmp_path: Path) -> None:
        measured = one(samples.mlenergy_llm(tmp_path)).measured
        assert measured.batch_size == pytest.approx(126)
        assert measured.kv_cache_utilization == pytest.approx(0.5)
        assert measured.preemptions == 60
        assert measured.prefix_cache_hit_rate == pytest.approx(0.1)
        assert measured.requests_waiting == pytest.approx(3)

    def test_requests(self, tmp_path: Path) -> None:
        run = one(samples.mlenergy_llm(tmp_path))
        assert run.measured.ttft_median_s == pytest.approx(0.1)
        assert run.measured.latency_p99_s == pytest.approx(5.0)
        # A chunk of two tokens after 40 ms is two gaps of 20 ms; then one of 30 ms.
        assert run.measured.itl_median_s == pytest.approx(0.020)
        assert run.measured.itl_mean_s == pytest.approx(0.07 / 3)
        assert run.measured.failed_requests == 1
        assert run.workload.mean_output_tokens == pytest.approx(400)
        assert run.workload.mean_input_tokens == pytest.approx(100)
        assert run.workload.output_lengths is not None
        assert sum(run.workload.output_lengths.counts) == 3

    def test_vision_tokens_are_counted_by_the_engine(self, tmp_path: Path) -> None:
        run = one(samples.mlenergy_llm(tmp_path, task="image-chat"))
        assert run.workload.input_modality is Modality.IMAGE
        assert run.workload.mean_input_tokens == pytest.approx(3 * 400)

    def test_without_telemetry(self, tmp_path: Path) -> None:
        run = one(samples.mlenergy_llm(tmp_path, prometheus=False))
        assert run.measured.batch_size is None
        assert "prometheus.json" in run.annotations.missing["batch_size"]

    def test_damaged_telemetry_leaves_the_run(self, tmp_path: Path) -> None:
        folder = samples.mlenergy_llm(tmp_path)
        (folder / "prometheus.json").write_text('{"timeline": [')
        read = read_path(tmp_path)
        assert len(read.runs) == 1
        assert [Path(problem.file).name for problem in read.problems] == ["prometheus.json"]

    def test_damaged_results_are_one_problem(self, tmp_path: Path) -> None:
        folder = samples.mlenergy_llm(tmp_path)
        (folder / "results.json").write_text('{"steady_state_energy": 1')
        read = read_path(tmp_path)
        assert read.runs == ()
        assert [Path(problem.file).name for problem in read.problems] == ["results.json"]

    def test_a_meter_that_disagrees_is_remarked(self, tmp_path: Path) -> None:
        def halve(results: dict[str, Any]) -> None:
            results["steady_state_energy"] /= 2
            results["steady_state_energy_per_token"] /= 2

        run = one(samples.mlenergy_llm(tmp_path, change=halve))
        assert any("by integrated power 2.4e+04 J" in reason for reason in run.validity.reasons)
        assert run.validity.valid

    def test_a_short_steady_state_is_invalid(self, tmp_path: Path) -> None:
        run = one(samples.mlenergy_llm(tmp_path, change=lambda r: r.update(steady_state_duration=12.0)))
        assert not run.validity.valid

    def test_a_batch_that_never_filled_is_invalid(self, tmp_path: Path) -> None:
        run = one(samples.mlenergy_llm(tmp_path, change=lambda r: r.update(max_num_seqs=1024)))
        assert any("never filled" in reason for reason in run.validity.reasons)

    def test_a_file_by_itself(self, tmp_path: Path) -> None:
        folder = samples.mlenergy_llm(tmp_path)
        run = one(folder / "results.json")
        assert run.measured.batch_size == pytest.approx(126)
        assert run.run_id == one(folder).run_id

    def test_model_info_beside(self, tmp_path: Path) -> None:
        folder = samples.mlenergy_llm(tmp_path)
        info = {"nickname": "Qwen 3 8B", "weight_precision": "bfloat16", "total_parameters_billion": 8.2}
        samples.write_json(tmp_path / "configs/vllm/gpqa/Qwen/Qwen3-8B/model_info.json", info)
        deployment = one(folder).deployment
        assert (deployment.nickname, deployment.weight_precision) == ("Qwen 3 8B", "bfloat16")
        assert deployment.total_params_billions == 8.2

    @pytest.mark.parametrize(
        "change",
        [
            {"steady_state_energy": -1},
            {"steady_state_energy_per_token": 0},
            {"steady_state_duration": "60"},
            {"results": [{"itl": [0.1, None]}]},
            {"results": [7]},
            {
                "timeline": {
                    "steady_state_start_time": 1,
                    "steady_state_end_time": 2,
                    "power": {"device_instant": {"0": [[1]]}},
                }
            },
            {
                "timeline": {
                    "steady_state_start_time": 1,
                    "steady_state_end_time": 2,
                    "temperature": {"0": [["a", 1]]},
                }
            },
        ],
    )
    def test_what_cannot_be(self, tmp_path: Path, change: dict[str, Any]) -> None:
        folder = samples.mlenergy_llm(tmp_path, change=lambda r: r.update(change))
        read = read_path(folder)
        assert read.runs == ()
        assert len(read.problems) == 1
        assert read.problems[0].field is not None


class TestDiffusion:
    def test_batches(self, tmp_path: Path) -> None:
        run = one(samples.mlenergy_diffusion(tmp_path))
        assert run.workload.task == "text-to-video"
        assert run.workload.output_unit is OutputUnit.VIDEO
        assert (run.workload.height_px, run.workload.width_px, run.workload.num_frames) == (480, 832, 81)
        assert (run.deployment.gpu_model, run.deployment.num_gpus) == ("H100", 2)
        assert run.deployment.torch_compile is False
        assert run.measured.batch_size == 4
        assert run.measured.energy_per_output_j == pytest.approx(10_500)
        assert run.measured.latency_mean_s == pytest.approx(55)
        assert run.measured.power_w == pytest.approx(42_000 / 55)
        assert run.measured.gpu_energy_j == pytest.approx(84_000)

    def test_images(self, tmp_path: Path) -> None:
        run = one(samples.mlenergy_diffusion(tmp_path, task="text-to-image", num_frames=None, fps=None))
        assert run.workload.output_unit is OutputUnit.IMAGE

    def test_older_results_have_a_field_an_iteration(self, tmp_path: Path) -> None:
        folder = samples.mlenergy_diffusion(tmp_path)
        results = json.loads((folder / "results.json").read_text())
        for number, entry in enumerate(results.pop("iteration_energy_measurements")):
            results[f"iter{number}_energy_measurement"] = entry
        samples.write_json(folder / "results.json", results)
        assert one(folder).measured.energy_per_output_j == pytest.approx(10_500)

    def test_a_wrong_gpu_count_is_invalid(self, tmp_path: Path) -> None:
        run = one(samples.mlenergy_diffusion(tmp_path, configurations={"ulysses_degree": 4, "ring_degree": 1}))
        assert not run.validity.valid
        assert "energy is of 2 GPUs" in run.validity.reasons[0]


TABLES = [["energy_per_token_joules"]]


@contextmanager
def dying_reader(worker: ParquetWorker) -> Iterator[None]:
    """Stop the worker and end it while it is being asked, as a crash does."""
    process = worker._running()
    process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(0.2, process.kill)
    timer.start()
    yield
    timer.join()


class TestParquet:
    def test_both_tables(self, tmp_path: Path) -> None:
        read = read_path(samples.mlenergy_parquet(tmp_path / "runs"))
        assert read.problems == ()
        picture, stable, unstable = read.runs
        assert picture.workload.output_unit is OutputUnit.IMAGE
        assert picture.measured.energy_per_output_j == 300
        assert stable.measured.itl_median_s == pytest.approx(0.024)
        assert stable.validity.valid
        assert unstable.validity.reasons == ("low_batch_utilization:0.5",)
        assert not unstable.validity.valid

    def test_a_bad_row_leaves_the_others(self, tmp_path: Path) -> None:
        path = samples.mlenergy_parquet(tmp_path) / "llm.parquet"
        table = pl.read_parquet(path).with_columns(avg_power_watts=pl.Series([float("nan"), 400.0]))
        table.write_parquet(path)
        read = read_path(path)
        assert len(read.runs) == 1
        assert read.problems[0].field == "row 0.avg_power_watts"

    def test_a_truncated_table(self, tmp_path: Path) -> None:
        path = samples.mlenergy_parquet(tmp_path) / "llm.parquet"
        path.write_bytes(path.read_bytes()[:-200])
        (problem,) = read_path(path).problems
        assert "damaged Parquet" in problem.reason

    def test_a_file_that_ends_its_reader_is_refused_and_the_next_is_read(self, tmp_path: Path) -> None:
        folder = samples.mlenergy_parquet(tmp_path)
        worker = ParquetWorker()
        try:
            assert len(worker.read(str(folder / "llm.parquet"), TABLES) or []) == 2
            first = worker._process
            assert first is not None
            first.kill()
            first.wait()
            assert len(worker.read(str(folder / "llm.parquet"), TABLES) or []) == 2
            assert worker._process is not first
            with dying_reader(worker), pytest.raises(ImportFileError, match="crashes its reader"):
                worker.read(str(folder / "llm.parquet"), TABLES)
            assert len(worker.read(str(folder / "llm.parquet"), TABLES) or []) == 2
        finally:
            worker.close()

    def test_too_many_rows(self, tmp_path: Path) -> None:
        path = samples.mlenergy_parquet(tmp_path) / "llm.parquet"
        table = pl.read_parquet(path)
        pl.concat([table] * (MOST_ROWS // 2 + 1)).write_parquet(path)
        (problem,) = read_path(path).problems
        assert "has over 200,000 rows" in problem.reason

    def test_other_tables_are_not_ours(self, tmp_path: Path) -> None:
        pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "a.parquet")
        with pytest.raises(ImportFileError, match="known format"):
            read_path(tmp_path / "a.parquet")


def test_data_parallel_engines_add_up_and_counters_reset() -> None:
    pages = [
        (
            START_S + n,
            samples.prometheus_page(10, 0.2, counters=100 - n)
            + samples.prometheus_page(30, 0.6, counters=0, engine="1"),
        )
        for n in range(5)
    ]
    window = engine_window(pages, START_S, START_S + 10)
    assert window.batch_size == pytest.approx(40)
    assert window.kv_cache_utilization == pytest.approx(0.4)
    assert window.preemptions is None


def test_recorded_pages_of_a_real_engine(study_data: Path) -> None:
    page = (study_data / "engine-metrics" / "vllm-0.32-cpu.prom").read_text()
    later = page.replace(
        'generation_tokens_total{engine="0",model_name="tiny"} 5448.0',
        'generation_tokens_total{engine="0",model_name="tiny"} 5548.0',
    )
    window = engine_window([(0.0, page), (10.0, later)], 0.0, 10.0)
    assert window.batch_size == 0
    assert window.kv_cache_utilization == 0
    assert window.generated_tokens == 100
    assert window.prompt_tokens == 0
    assert window.preemptions == 0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/d/llm/gpqa/results/Qwen/Qwen3-8B/H100/num_gpus+1+max_num_seqs+128",
            ("gpqa", "Qwen/Qwen3-8B", "H100"),
        ),
        (
            "/d/results/2026/diffusion/b200/current/run/diffusion/text-to-image/acme/p/batch-1+uly-1",
            ("text-to-image", "acme/p", "B200"),
        ),
        ("/somewhere/else", (None, None, None)),
    ],
)
def test_paths(path: str, expected: tuple[str | None, ...]) -> None:
    context = path_context(Path(path))
    assert (context.task, context.model_id, context.gpu_model) == expected
