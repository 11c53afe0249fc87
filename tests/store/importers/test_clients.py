"""Results of load clients: what becomes of each field, and how a power log completes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from joulemap.records import Basis, Run
from joulemap.store.importers import ImportedRuns, ImportHints, read_path
from tests.store.importers import samples
from tests.store.importers.samples import START_S, united

UTC = ImportHints(power_timezone="UTC")


def one(path: Path, hints: ImportHints = UTC) -> Run:
    read = read_path(path, hints=hints)
    assert read.problems == ()
    (run,) = read.runs
    return run


def with_power(tmp_path: Path, result: Path, watts: tuple[float, ...] = (500.0,), **hints: Any) -> Run:
    return one(
        result,
        ImportHints(power_csv=samples.power_csv(tmp_path / "watts.csv", watts), power_timezone="UTC", **hints),
    )


class TestVllmBench:
    def test_fields(self, tmp_path: Path) -> None:
        run = one(samples.vllm_bench(tmp_path / "r.json"))
        assert run.deployment.model_id == "Qwen/Qwen3-8B"
        assert run.deployment.engine == "vllm"
        assert run.workload.mean_input_tokens == 200
        assert run.workload.mean_output_tokens == 250
        assert run.workload.max_concurrency == 16
        assert run.workload.request_rate_per_s is None
        assert run.measured.itl_mean_s == pytest.approx(0.021)
        assert run.measured.tpot_median_s == pytest.approx(0.018)
        assert run.measured.ttft_p99_s == pytest.approx(0.2)
        assert run.measured.batch_size == pytest.approx(2.0 * 5.0)
        assert run.annotations.basis["batch_size"] is Basis.ASSUMED
        assert run.validity.valid
        assert run.measured.energy_per_output_j is None
        assert "--power" in run.annotations.missing["energy_per_output_j"]
        assert run.provenance.measured_at is not None
        assert run.provenance.measured_at.timestamp() == START_S

    def test_power_log(self, tmp_path: Path) -> None:
        run = with_power(tmp_path, samples.vllm_bench(tmp_path / "r.json"), (300.0, 200.0), gpu_model="H100")
        assert run.measured.gpu_energy_j == pytest.approx(30_000)
        assert run.measured.power_w == pytest.approx(500)
        assert run.measured.energy_per_output_j == pytest.approx(1.0)
        assert run.measured.energy_per_request_j == pytest.approx(250)
        assert run.deployment.num_gpus == 2
        assert run.annotations.missing == {}

    def test_power_log_beside(self, tmp_path: Path) -> None:
        path = samples.vllm_bench(tmp_path / "r.json")
        samples.power_csv(tmp_path / "r.power.csv")
        assert one(path).measured.energy_per_output_j == pytest.approx(1.0)

    def test_a_named_power_log_that_does_not_fit_is_a_problem(self, tmp_path: Path) -> None:
        path = samples.vllm_bench(tmp_path / "r.json")
        log = samples.power_csv(tmp_path / "watts.csv", end_s=START_S + 30)
        read = read_path(path, hints=ImportHints(power_csv=log, power_timezone="UTC"))
        (run,), (problem,) = read.runs, read.problems
        assert problem.file == str(log)
        assert run.measured.gpu_energy_j is None
        assert "ends 30.0 s before" in run.annotations.missing["gpu_energy_j"]

    def test_a_power_log_of_too_many_gpus(self, tmp_path: Path) -> None:
        path = samples.vllm_bench(tmp_path / "r.json")
        log = samples.power_csv(tmp_path / "watts.csv", (500.0, 500.0))
        read = read_path(path, hints=ImportHints(power_csv=log, num_gpus=1, power_timezone="UTC"))
        assert "covers 2 GPUs" in read.problems[0].reason

    def test_json_lines_with_a_truncated_end(self, tmp_path: Path) -> None:
        path = tmp_path / "r.json"
        lines = [json.dumps(samples.vllm_result(max_concurrency=n)) for n in (1, 2, 4)]
        path.write_text("\n".join(lines)[:-100])
        read = read_path(path)
        assert [run.workload.max_concurrency for run in read.runs] == [1, 2]
        assert read.problems[0].field == "line 3"
        assert "truncated" in read.problems[0].reason

    def test_lengths_of_a_detailed_result(self, tmp_path: Path) -> None:
        run = one(samples.vllm_bench(tmp_path / "r.json", output_lens=[100, 200, 300, 0], errors=["", "", "", "x"]))
        assert run.workload.output_lengths is not None
        assert sum(run.workload.output_lengths.counts) == 3

    def test_failed_requests_make_it_invalid(self, tmp_path: Path) -> None:
        run = one(samples.vllm_bench(tmp_path / "r.json", completed=110, failed=10))
        assert not run.validity.valid
        assert "10 of 120 requests" in run.validity.reasons[0]
        assert one(samples.vllm_bench(tmp_path / "s.json", completed=119, failed=1)).validity.valid

    def test_a_short_window_makes_energy_invalid(self, tmp_path: Path) -> None:
        run = with_power(tmp_path, samples.vllm_bench(tmp_path / "r.json", duration=3.0))
        assert not run.validity.valid

    def test_hints_outrank_the_file_and_say_so(self, tmp_path: Path) -> None:
        hints = ImportHints(model_id="acme/fine-tune", gpu_model="NVIDIA B200", task="chat", power_timezone="UTC")
        run = one(samples.vllm_bench(tmp_path / "r.json"), hints)
        assert (run.deployment.model_id, run.deployment.gpu_model) == ("acme/fine-tune", "B200")
        assert run.workload.task == "chat"
        assert any("the file says Qwen/Qwen3-8B" in note for note in run.provenance.notes)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"duration": 0}, "duration"),
            ({"duration": -1}, "duration"),
            ({"completed": 0}, "completed"),
            ({"total_output_tokens": float("nan")}, "total_output_tokens"),
            ({"total_output_tokens": None}, "total_output_tokens"),
            ({"date": "yesterday"}, "date"),
            ({"date": 20260216}, "date"),
            ({"model_id": None}, None),
            ({"mean_itl_ms": True}, "mean_itl_ms"),
            ({"output_lens": [1, "2"]}, "output_lens[1]"),
            ({"output_lens": [1, 10**400]}, "output_lens[1]"),
            ({"request_rate": "fast"}, "request_rate"),
        ],
    )
    def test_what_cannot_be(self, tmp_path: Path, changes: dict[str, Any], field: str | None) -> None:
        path = samples.vllm_bench(tmp_path / "r.json", **changes)
        read = read_path(path)
        assert read.runs == ()
        (problem,) = read.problems
        assert (problem.file, problem.field) == (str(path), field)


class TestAiperf:
    def test_fields(self, tmp_path: Path) -> None:
        run = one(samples.aiperf(tmp_path / "r.json"))
        assert run.deployment.model_id == "Qwen/Qwen3-8B"
        assert (run.deployment.gpu_model, run.deployment.num_gpus) == ("H100", 2)
        assert run.workload.max_concurrency == 16
        assert run.measured.gpu_energy_j == 36_000
        assert run.measured.power_w == 600
        assert run.measured.energy_per_output_j == pytest.approx(1.2)
        assert run.measured.tpot_mean_s == pytest.approx(0.020)
        assert run.measured.itl_median_s == pytest.approx(0.021)
        assert run.annotations.missing == {}
        assert run.provenance.measured_at is not None
        assert run.provenance.measured_at.timestamp() == START_S

    def test_energy_of_single_gpus_is_in_megajoules(self, tmp_path: Path) -> None:
        export = samples.aiperf_export()
        del export["nvidia_total_gpu_energy"]
        assert one(samples.write_json(tmp_path / "r.json", export)).measured.gpu_energy_j == pytest.approx(36_000)

    def test_older_exports_hold_statistics_of_the_running_counter(self, tmp_path: Path) -> None:
        export = samples.aiperf_export()
        for name in ("nvidia_total_gpu_energy", "nvidia_total_gpu_power"):
            del export[name]
        counter = {"unit": "MJ", "avg": 5.009, "min": 5.0, "max": 5.018}
        gpu = samples.aiperf_gpu(0, gpu_power_usage=united("W", 300.0), energy_consumption=counter)
        export["telemetry_data"]["endpoints"] = {"localhost:9400": {"gpus": {"gpu_0": gpu}}}
        assert one(samples.write_json(tmp_path / "r.json", export)).measured.gpu_energy_j == pytest.approx(18_000)

    def test_a_gpu_behind_two_endpoints_counts_once(self, tmp_path: Path) -> None:
        export = samples.aiperf_export()
        del export["nvidia_total_gpu_energy"]
        endpoints = export["telemetry_data"]["endpoints"]
        endpoints["localhost:9401"] = endpoints["localhost:9400"]
        run = one(samples.write_json(tmp_path / "r.json", export))
        assert run.deployment.num_gpus == 2
        assert run.measured.gpu_energy_j == pytest.approx(36_000)

    def test_meters_that_disagree_are_remarked(self, tmp_path: Path) -> None:
        run = one(samples.aiperf(tmp_path / "r.json", nvidia_total_gpu_power={"unit": "W", "avg": 300.0}))
        assert run.validity.valid
        assert any("by mean power × duration" in reason for reason in run.validity.reasons)

    def test_power_alone(self, tmp_path: Path) -> None:
        export = samples.aiperf_export()
        del export["nvidia_total_gpu_energy"]
        for gpu in export["telemetry_data"]["endpoints"]["localhost:9400"]["gpus"].values():
            del gpu["metrics"]["nvidia_energy_consumption"]
        run = one(samples.write_json(tmp_path / "r.json", export))
        assert run.measured.gpu_energy_j == pytest.approx(36_000)
        assert run.provenance.meter is not None
        assert "mean GPU power" in run.provenance.meter

    def test_without_telemetry_a_power_log_serves(self, tmp_path: Path) -> None:
        export = {k: v for k, v in samples.aiperf_export().items() if "gpu" not in k and k != "telemetry_data"}
        run = with_power(tmp_path, samples.write_json(tmp_path / "r.json", export))
        assert run.measured.energy_per_output_j == pytest.approx(1.0)

    def test_records_beside_give_the_window_in_utc(self, tmp_path: Path) -> None:
        path = samples.aiperf(tmp_path / "profile_export_aiperf.json", start_time="2026-02-16T19:00:00")
        phases = (("warmup", -20), ("profiling", 1), ("profiling", 30))
        lines = [
            {
                "metadata": {
                    "benchmark_phase": phase,
                    "request_start_ns": int((START_S + second) * 1e9),
                    "request_end_ns": int((START_S + second + 5) * 1e9),
                }
            }
            for phase, second in phases
        ]
        (tmp_path / "profile_export.jsonl").write_text("\n".join(map(json.dumps, lines)))
        run = one(path)
        assert run.provenance.measured_at is not None
        assert run.provenance.measured_at.timestamp() == pytest.approx(START_S + 1, abs=1e-3)
        (tmp_path / "profile_export.jsonl").write_text("{")
        assert one(path).provenance.measured_at != run.provenance.measured_at

    def test_first_schema(self, tmp_path: Path) -> None:
        export = samples.aiperf_export(schema_version="1.0")
        export["input_config"] = {
            "endpoint": {"model_names": ["acme/tiny"], "type": "chat"},
            "loadgen": {"concurrency": 4, "request_rate": 7.0},
        }
        export["total_gpu_energy"] = export.pop("nvidia_total_gpu_energy")
        run = one(samples.write_json(tmp_path / "r.json", export))
        assert run.deployment.model_id == "acme/tiny"
        assert (run.workload.max_concurrency, run.workload.request_rate_per_s) == (4, 7.0)
        assert run.measured.gpu_energy_j == 36_000

    def test_a_cancelled_run_is_invalid(self, tmp_path: Path) -> None:
        assert not one(samples.aiperf(tmp_path / "r.json", was_cancelled=True)).validity.valid
        assert not one(samples.aiperf(tmp_path / "s.json", is_complete=False)).validity.valid

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"benchmark_duration": united("sec", 0.0)}, "benchmark_duration"),
            ({"request_latency": united("fortnights", 1.0)}, "request_latency.unit"),
            ({"request_count": united("requests", 0)}, "request_count"),
            ({"time_to_first_token": 3}, "time_to_first_token"),
            ({"nvidia_total_gpu_energy": {"unit": "J", "avg": -1}}, "nvidia_total_gpu_energy.avg"),
            ({"start_time": "soon"}, "start_time"),
            ({"was_cancelled": "no"}, "was_cancelled"),
        ],
    )
    def test_what_cannot_be(self, tmp_path: Path, changes: dict[str, Any], field: str) -> None:
        read = read_path(samples.aiperf(tmp_path / "r.json", **changes))
        assert [problem.field for problem in read.problems] == [field]


class TestGenaiPerf:
    def test_fields(self, tmp_path: Path) -> None:
        run = one(samples.genai_perf(tmp_path / "r.json"))
        assert run.provenance.importer == "genai-perf"
        assert run.deployment.model_id == "Qwen/Qwen3-8B"
        assert run.deployment.num_gpus == 1
        assert run.workload.max_concurrency == 16
        assert run.measured.duration_s == pytest.approx(60)
        assert run.measured.gpu_energy_j == pytest.approx(30_000)
        assert run.measured.energy_per_output_j == pytest.approx(1.0)

    def test_a_counter_in_the_wrong_unit_gives_way_to_power(self, tmp_path: Path) -> None:
        telemetry = samples.genai_perf_export()["telemetry_stats"]
        # Triton counts joules, which genai-perf takes for millijoules.
        telemetry["energy_consumption"]["gpu0"] = {"avg": 7.000015, "min": 7.0, "max": 7.00003}
        run = one(samples.genai_perf(tmp_path / "r.json", telemetry_stats=telemetry))
        assert run.measured.gpu_energy_j == pytest.approx(30_000)
        assert any("cannot be right" in reason for reason in run.validity.reasons)

    def test_without_telemetry_it_says_why_there_is_no_energy(self, tmp_path: Path) -> None:
        export = samples.genai_perf_export()
        del export["telemetry_stats"]
        log = samples.power_csv(tmp_path / "watts.csv")
        path = samples.write_json(tmp_path / "r.json", export)
        read = read_path(path, hints=ImportHints(power_csv=log))
        assert "wall-clock" in read.problems[0].reason
        assert "wall-clock" in read.runs[0].annotations.missing["gpu_energy_j"]

    def test_older_configuration(self, tmp_path: Path) -> None:
        run = one(samples.genai_perf(tmp_path / "r.json", input_config={"model": ["a/b"], "concurrency": 2}))
        assert (run.deployment.model_id, run.workload.max_concurrency) == ("a/b", 2)


class TestGuidellm:
    def test_fields(self, tmp_path: Path) -> None:
        run = one(samples.guidellm(tmp_path / "benchmarks.json"))
        assert run.provenance.importer == "guidellm"
        assert run.deployment.model_id == "Qwen/Qwen3-8B"
        assert run.workload.max_concurrency == 16
        assert run.measured.duration_s == 60
        assert run.measured.batch_size == 15.5
        assert run.measured.itl_mean_s == pytest.approx(0.020)
        assert run.measured.itl_median_s is None
        assert run.measured.tpot_median_s == pytest.approx(0.020)
        assert run.measured.latency_mean_s == 5.0
        assert run.measured.ttft_p99_s == pytest.approx(0.2)
        assert run.workload.output_lengths is not None

    def test_power_is_aligned_over_the_measured_window(self, tmp_path: Path) -> None:
        path = samples.guidellm(tmp_path / "benchmarks.json")
        log = tmp_path / "watts.csv"
        rows = [f"{START_S + t},0,{500 if 0 <= t <= 60 else 90}" for t in range(-10, 71)]
        log.write_text("timestamp,gpu,power_w\n" + "\n".join(rows) + "\n")
        run = one(path, ImportHints(power_csv=log))
        assert run.measured.gpu_energy_j == pytest.approx(30_000)
        assert run.measured.energy_per_output_j == pytest.approx(1.0)

    def test_a_bad_benchmark_leaves_the_others(self, tmp_path: Path) -> None:
        bad = samples.guidellm_benchmark()
        bad["scheduler_metrics"]["measure_end_time"] = START_S
        path = samples.guidellm(
            tmp_path / "b.json", samples.guidellm_benchmark(), bad, samples.guidellm_benchmark()
        )
        read = read_path(path)
        assert [run.provenance.source_row for run in read.runs] == [0, 2]
        (problem,) = read.problems
        assert problem.field == "benchmarks[1].scheduler_metrics.measure_end_time"


class TestZeus:
    def test_windows(self, tmp_path: Path) -> None:
        read = read_path(
            samples.zeus(tmp_path / "z.csv"), hints=ImportHints(model_id="acme/tiny", gpu_model="H100")
        )
        first, second = read.runs
        assert first.measured.gpu_energy_j == 5000
        assert first.measured.power_w == 500
        assert first.deployment.num_gpus == 2
        assert first.workload.task == "prefill"
        assert first.measured.energy_per_output_j is None
        assert "work" in first.annotations.missing["energy_per_output_j"]
        assert (first.validity.valid, second.validity.valid) == (True, False)

    def test_the_model_must_be_given(self, tmp_path: Path) -> None:
        read = read_path(samples.zeus(tmp_path / "z.csv"))
        assert read.runs == ()
        assert "--model" in str(read.problems[0])


def test_a_folder_of_everything(tmp_path: Path) -> None:
    samples.vllm_bench(tmp_path / "a" / "r.json")
    samples.aiperf(tmp_path / "b" / "profile_export_aiperf.json")
    samples.genai_perf(tmp_path / "c" / "profile_export_genai_perf.json")
    samples.guidellm(tmp_path / "d" / "benchmarks.json")
    samples.mlenergy_llm(tmp_path / "e")
    samples.mlenergy_diffusion(tmp_path / "e")
    samples.mlenergy_parquet(tmp_path / "runs")
    (tmp_path / "f.json").write_text('{"half": ')
    (tmp_path / "g.json").write_text('{"something": "else"}')
    (tmp_path / "h.txt").write_text("not looked at")
    read: ImportedRuns = read_path(tmp_path)
    assert read.formats == {
        "vllm-bench": 1,
        "aiperf": 1,
        "genai-perf": 1,
        "guidellm": 1,
        "mlenergy-diffusion": 1,
        "mlenergy-llm": 1,
        "mlenergy-parquet": 3,
    }
    assert [Path(problem.file).name for problem in read.problems] == ["f.json"]
    assert [path.name for path in read.ignored] == ["g.json"]
