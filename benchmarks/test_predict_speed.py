"""How many configurations a second ``predict_many`` answers on one core: the goal is 200,000."""

from __future__ import annotations

import itertools

import polars as pl
from pytest_benchmark.fixture import BenchmarkFixture

from joulemap.predict.predict import predict_many

CONFIGURATIONS = 200_000
GOAL_PER_S = 200_000


def configurations() -> pl.DataFrame:
    models = ["Qwen/Qwen3-8B", "Qwen/Qwen3-32B", "openai/gpt-oss-120b", "Qwen/Qwen3-30B-A3B-Instruct-2507"]
    grid = itertools.product(models, ["H100", "B200", "H200"], [1, 2, 4, 8], ["gpqa", "lm-arena-chat"])
    base = pl.DataFrame(list(grid), schema=["model_id", "gpu_model", "num_gpus", "task"], orient="row")
    repeated = pl.concat([base] * (CONFIGURATIONS // base.height + 1)).head(CONFIGURATIONS)
    row = pl.int_range(pl.len())
    return repeated.with_columns(
        batch_size=(row % 1024 + 1).cast(pl.Float64), mean_output_tokens=(row % 4000 + 10.0)
    )


def test_predict_many(benchmark: BenchmarkFixture) -> None:
    frame = configurations()
    predict_many(frame.head(10))
    made = benchmark(predict_many, frame)
    assert made.height == CONFIGURATIONS
