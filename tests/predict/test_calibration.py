from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from joulemap.errors import InputError
from joulemap.predict.calibration import Calibration, calibrate, default_calibration
from joulemap.predict.fit import fit_vector
from joulemap.predict.forms import layout
from joulemap.predict.language_form import FORM_VERSION, LANGUAGE
from joulemap.predict.predict import predict_many


def test_the_fit_finds_a_line_and_stays_at_the_prior_without_data() -> None:
    x = np.linspace(0.0, 1.0, 50)
    fit = fit_vector(lambda v: (v[0] + v[1] * x - (2.0 + 3.0 * x)) / 0.01, np.zeros(3), np.full(3, 10.0))
    assert fit.vector == pytest.approx([2.0, 3.0, 0.0], abs=1e-3)
    assert fit.covariance[2, 2] == pytest.approx(100.0)


def test_outliers_do_not_carry_the_fit_away() -> None:
    y = np.concatenate([np.full(30, 1.0), np.full(5, 50.0)])
    fit = fit_vector(lambda v: (v[0] - y) / 0.1, np.zeros(1), np.full(1, 100.0))
    assert fit.vector[0] == pytest.approx(1.0, abs=0.1)


def test_the_shipped_calibration_covers_both_forms_with_provenance() -> None:
    made = default_calibration()
    assert made.forms["language"].rows == 838
    assert made.forms["diffusion"].rows == 1020
    assert "ML.ENERGY" in made.source
    assert len(made.digest) == 64
    assert made.date


def test_saved_and_loaded_it_predicts_the_same(tmp_path: Path) -> None:
    made = default_calibration()
    path = tmp_path / "calibration.json"
    made.save(path)
    frame = pl.DataFrame(
        {"model_id": ["Qwen/Qwen3-8B"], "gpu_model": ["H100"], "num_gpus": [1], "batch_size": [32.0]}
    )
    assert predict_many(frame, Calibration.load(path)).equals(predict_many(frame, made))


@pytest.mark.parametrize("text", ["", "{}", '{"format": "something else"}', "[1]"])
def test_a_file_that_is_no_calibration_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match="joulemap calibration"):
        Calibration.load(path)


def test_another_form_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    default_calibration().save(path)
    path.write_text(path.read_text().replace(f'"form_version":{FORM_VERSION}', '"form_version":999', 1))
    with pytest.raises(InputError, match="form version 999"):
        Calibration.load(path)


def test_no_runs_is_an_error() -> None:
    columns = ("batch_size", "num_gpus", "output_throughput_per_s", "power_w", "mean_output_tokens")
    empty = pl.DataFrame({"model_id": ["?"], "gpu_model": ["H100"]} | {n: [1.0] for n in columns})
    with pytest.raises(InputError, match="no runs to calibrate on"):
        calibrate(empty)


def test_unseen_gpus_take_their_generations_column() -> None:
    from joulemap.catalog import load_catalog

    gpus = load_catalog().gpus
    coefficients = layout("language", ("B200", "H100"))
    assert coefficients.column_of(gpus["H100"], gpus) == 1
    assert coefficients.column_of(gpus["H200"], gpus) == 1
    others = [g for g in gpus.values() if g.vendor != gpus["H100"].vendor]
    assert others
    assert all(coefficients.column_of(g, gpus) == 2 for g in others)


def test_the_layout_puts_factors_where_they_belong() -> None:
    coefficients = layout("language", ("B200", "H100"))
    vector = coefficients.prior_mean
    names = coefficients.names()
    assert len(names) == len(vector) == len(coefficients.prior_spread)
    vector[names.index("bandwidth@H100")] += np.log(1.1)
    table = coefficients.table(vector)
    at = [c.name for c in LANGUAGE].index("bandwidth")
    assert table[at, 1] / table[at, 0] == pytest.approx(1.1)
    assert table[at, 2] == table[at, 0]


def test_calibrating_on_few_runs_reproduces_them(few_backbones: pl.DataFrame) -> None:
    made = calibrate(few_backbones, source="test", date="2026-01-01")
    assert set(made.forms) == {"language"}
    assert any("diffusion" in note for note in made.notes)
    predicted = predict_many(few_backbones, made)
    error = (predicted["power_w"] / few_backbones["power_w"] - 1.0).abs().median()
    assert isinstance(error, float)
    assert error < 0.06
