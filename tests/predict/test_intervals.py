from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from joulemap.predict.intervals import EVERYTHING, UNSEEN_KIND, conformal_factors, factors_of, kinds


def frame(count: int, gpu: str, precision: str = "bfloat16") -> pl.DataFrame:
    return pl.DataFrame({"gpu_model": [gpu] * count, "weight_precision": [precision] * count})


def test_the_factor_covers_nine_in_ten_new_runs() -> None:
    generator = np.random.default_rng(11)
    seen, new = np.abs(generator.normal(size=2000)), np.abs(generator.normal(size=20_000))
    factor = conformal_factors(kinds(frame(2000, "H100")), seen, np.arange(2000))[EVERYTHING]
    assert np.mean(new <= factor) == pytest.approx(0.9, abs=0.02)


def test_few_backbones_widen_the_factor() -> None:
    scores = np.abs(np.random.default_rng(2).normal(size=500))
    many = conformal_factors(kinds(frame(500, "H100")), scores, np.arange(500))[EVERYTHING]
    one = conformal_factors(kinds(frame(500, "H100")), scores, np.zeros(500, dtype=np.intp))[EVERYTHING]
    assert one == pytest.approx(np.sqrt(2.0) * many, rel=1e-2)


def test_the_finest_kind_with_enough_runs_counts() -> None:
    both = pl.concat([frame(100, "H100"), frame(100, "B200"), frame(5, "B200", "fp8")])
    scores = np.concatenate([np.full(100, 1.0), np.full(100, 3.0), np.full(5, 9.0)])
    factors = conformal_factors(kinds(both), scores, np.arange(205))
    chosen = factors_of(kinds(both), factors)
    assert chosen[0] == pytest.approx(1.0, rel=0.01)
    assert chosen[100] == pytest.approx(3.0, rel=0.01)
    assert "text/B200/fp8" not in factors
    assert chosen[204] == UNSEEN_KIND * factors["text/B200"]


def test_kinds_tell_inputs_and_outputs_apart() -> None:
    rows = frame(3, "H100").with_columns(
        output_unit=pl.Series(["token", "image", "token"]), input_modality=pl.Series(["text", "text", "image"])
    )
    assert kinds(rows)[2].to_list() == ["text", "made:image", "image"]
