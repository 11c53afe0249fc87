from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from joulemap.predict.few_shot import Kernel, fit_kernel, kinship, posterior

DEVIATIONS = {"gpu": 0.03, "backbone": 0.1, "backbone_gpu": 0.05, "series": 0.05, "batch": 0.1, "noise": 0.03}
KERNEL = Kernel(DEVIATIONS, 1.5)


def table(models: list[str], batches: list[float], gpu: str = "H100") -> pl.DataFrame:
    return pl.DataFrame(
        {"model_id": models, "gpu_model": [gpu] * len(models), "num_gpus": [1] * len(models), "batch_size": batches}
    )


def test_nothing_given_is_the_prior() -> None:
    known, asked = kinship(
        [table([], []).cast({"model_id": pl.String, "gpu_model": pl.String}), table(["a"], [8.0])], {"a": "A"}
    )
    mean, deviation = posterior(KERNEL, known, np.empty(0), asked)
    assert mean.tolist() == [0.0]
    assert deviation[0] == pytest.approx(KERNEL.prior_deviation)


def test_one_run_worked_by_hand() -> None:
    known, asked = kinship([table(["a"], [8.0]), table(["a"], [8.0])], {"a": "A"})
    mean, deviation = posterior(KERNEL, known, np.array([0.2]), asked)
    shared = sum(d**2 for n, d in DEVIATIONS.items() if n != "noise")
    total = shared + 0.03**2
    assert mean[0] == pytest.approx(0.2 * shared / total)
    assert deviation[0] == pytest.approx(np.sqrt(total - shared**2 / total))


def test_kin_are_corrected_more_than_strangers() -> None:
    backbones = {"a": "A", "a-chat": "A", "b": "B"}
    known, asked = kinship([table(["a"], [8.0]), table(["a", "a-chat", "b"], [64.0, 64.0, 64.0])], backbones)
    mean, _ = posterior(KERNEL, known, np.array([0.2]), asked)
    assert mean[0] > mean[1] > mean[2] > 0.0


def test_deviations_are_found_again_in_simulated_residuals() -> None:
    generator = np.random.default_rng(7)
    names, batches, residuals = [], [], []
    for backbone in range(40):
        offset = generator.normal(0, 0.1)
        for batch in (8.0, 32.0, 128.0, 512.0):
            names.append(f"m{backbone}")
            batches.append(batch)
            residuals.append(offset + generator.normal(0, 0.03))
    (kin,) = kinship([table(names, batches)], {n: n for n in names})
    kernel = fit_kernel(kin, np.array(residuals))
    between = np.sqrt(sum(kernel.deviations[n] ** 2 for n in ("backbone", "backbone_gpu", "series")))
    within = np.hypot(kernel.deviations["noise"], kernel.deviations["batch"])
    assert between == pytest.approx(0.1, rel=0.35)
    assert within == pytest.approx(0.03, rel=0.5)
