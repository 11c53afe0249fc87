"""Elasticities: signs that physics demands, agreement with the model's own differences, and honesty about gaps."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest

from joulemap.catalog import load_catalog
from joulemap.cli.app import run as run_command
from joulemap.diagnose.configuration import configuration_table
from joulemap.diagnose.modelled import Modelled, modelled_forms
from joulemap.diagnose.sensitivity import Elasticity, sensitivity
from joulemap.errors import UsageError
from joulemap.predict.predict import predict_many, shipped_calibration
from joulemap.records import Deployment, OutputUnit, Workload


def table(model_id: str, batch: float, **work: object) -> pl.DataFrame:
    workload = Workload(**(work or {"mean_input_tokens": 200.0, "mean_output_tokens": 600.0}))  # type: ignore[arg-type]
    deployment = Deployment(model_id=model_id, gpu_model="H100", num_gpus=1)
    frame, _models, _estimate = configuration_table(
        workload,
        deployment,
        batch_size=batch,
        calibration=shipped_calibration(),
        catalog=load_catalog(),
        models=None,
    )
    return frame


def modelled(model_id: str, batch: float, **work: object) -> Modelled:
    (form,) = modelled_forms(table(model_id, batch, **work))
    return form


def by_name(found: tuple[Elasticity, ...]) -> dict[str, Elasticity]:
    return {e.name: e for e in found}


def test_a_small_batch_is_a_matter_of_batch_layers_and_bandwidth() -> None:
    found = by_name(sensitivity(modelled("Qwen/Qwen3-8B", 4.0)))
    assert found["batch"].energy_elasticity < -0.8
    assert found["layers"].energy_elasticity > 0.8
    assert found["memory_bandwidth"].energy_elasticity < 0.0 < found["memory_bandwidth"].throughput_elasticity
    assert found["memory_bandwidth"].latency_elasticity < 0.0
    assert found["static_watts"].energy_elasticity > 0.0
    assert "experts" not in found  # a dense model has none
    assert "link_bandwidth" not in found  # nor does one GPU talk


def test_long_contexts_make_the_cache_count() -> None:
    short = by_name(sensitivity(modelled("Qwen/Qwen3-8B", 32.0)))
    long = by_name(
        sensitivity(modelled("Qwen/Qwen3-8B", 32.0, mean_input_tokens=200.0, mean_output_tokens=16_000.0))
    )
    assert long["kv_heads"].energy_elasticity > 2.0 * short["kv_heads"].energy_elasticity


def test_a_mixture_of_experts_depends_on_its_experts() -> None:
    found = by_name(sensitivity(modelled("openai/gpt-oss-20b", 32.0)))
    assert found["experts"].energy_elasticity > 0.0
    assert found["experts_per_token"].energy_elasticity > 0.0


def test_the_slope_over_batch_is_that_of_predictions() -> None:
    frame = table("Qwen/Qwen3-8B", 64.0)
    ends = [
        predict_many(frame.with_columns(batch_size=pl.col("batch_size") * f, max_num_seqs=None))
        for f in (1 / 1.05, 1.05)
    ]
    less, more = (end["energy_per_output_j"].item() for end in ends)
    slope = (math.log(more) - math.log(less)) / (2 * math.log(1.05))
    found = by_name(sensitivity(modelled("Qwen/Qwen3-8B", 64.0)))
    assert found["batch"].energy_elasticity == pytest.approx(slope, abs=0.02)


def test_a_pipeline_depends_on_its_steps() -> None:
    found = by_name(
        sensitivity(
            modelled(
                "black-forest-labs/FLUX.1-dev",
                1.0,
                task="text-to-image",
                output_unit=OutputUnit.IMAGE,
                inference_steps=50,
                height_px=1024,
                width_px=1024,
            )
        )
    )
    assert 0.8 < found["denoising_steps"].energy_elasticity <= 1.0
    assert found["latent_tokens"].energy_elasticity > 0.8
    assert "kv_heads" not in found


def test_intervals_contain_the_values_and_the_largest_comes_first() -> None:
    found = sensitivity(modelled("Qwen/Qwen3-8B", 32.0))
    assert all(e.low <= e.energy_elasticity <= e.high for e in found)
    sizes = [abs(e.energy_elasticity) for e in found]
    assert sizes == sorted(sizes, reverse=True)


def test_several_configurations_are_refused() -> None:
    both = pl.concat([table("Qwen/Qwen3-8B", 4.0), table("Qwen/Qwen3-8B", 8.0)])
    (form,) = modelled_forms(both)
    with pytest.raises(UsageError, match="of one configuration"):
        sensitivity(form)


def test_the_command_keeps_its_contract(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sensitivity", "--model", "Qwen 3 8B", "--gpu", "H100", "--task", "gpqa", "--batch", "16", "--json"]
    assert run_command(words) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["run_id"] is None
    wanted = {"name", "kind", "energy_elasticity", "low", "high", "latency_elasticity", "throughput_elasticity"}
    assert all(wanted <= set(e) and e["basis"] == "modelled" for e in payload["elasticities"])
    assert run_command(["sensitivity"]) == 2
