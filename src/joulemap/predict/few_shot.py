r"""What a few measured runs say of others: a Gaussian process on the residuals of the form.

The residual of a configuration (logarithm of measured over predicted) is the sum of independent parts shared by
runs that have something in common: the GPU model, the backbone, the backbone on a GPU model, the series (task,
model, GPU model, GPU count), a smooth function of the logarithm of the batch within the series, and noise. Their
variances are estimated on residuals of backbones that were held out of the fit, so that a measured run corrects
others just as far as such runs have been alike. Without runs the posterior is the prior: no correction.

Reference: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, equations 2.25 and 2.26.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from joulemap.physics.arrays import Floats
from joulemap.predict.frames import Index, column_of, floats_of

PARTS = ("gpu", "backbone", "backbone_gpu", "series", "batch", "noise")
"""Parts of a residual; ``batch`` is smooth in the logarithm of the batch within a series."""
GPU_DEVIATION = 0.03
"""Standard deviation shared by all runs on one GPU model: H100 nodes differ by about 7 % in power, B200 by 1.4 %;
fixed, because two GPU models cannot tell it from the data."""
LENGTH_RANGE = (0.7, 8.0)
START = (0.05, 0.08, 0.05, 0.08, 0.04)
SMALLEST_DEVIATION = 0.005
LARGEST_GIVEN = 2_000
"""Runs beyond which the given ones are thinned: the solution takes their cube in time."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Standard deviations of a residual's parts and the length (in ln batch) over which ``batch`` changes."""

    deviations: Mapping[str, float]
    length: float

    @property
    def prior_deviation(self) -> float:
        """Standard deviation of a residual of which nothing is known."""
        return float(np.sqrt(sum(d**2 for d in self.deviations.values())))


@dataclass(frozen=True, slots=True)
class Kinship:
    """Codes that say what rows have in common; arrays of one length."""

    gpu: Index
    backbone: Index
    backbone_gpu: Index
    series: Index
    log_batch: Floats

    def take(self, which: Index) -> Kinship:
        """Return the rows at the given positions."""
        return Kinship(
            self.gpu[which],
            self.backbone[which],
            self.backbone_gpu[which],
            self.series[which],
            self.log_batch[which],
        )


def kinship(frames: list[pl.DataFrame], backbones: Mapping[str, str]) -> list[Kinship]:
    """Return the kinship of several tables, coded alike.

    Args:
        frames: Tables with ``model_id``, ``gpu_model``, ``num_gpus``, ``batch_size`` and perhaps ``task``.
        backbones: Backbone of each model id.
    """
    pieces = [
        pl.DataFrame(
            {
                "gpu": frame["gpu_model"].cast(pl.String),
                "backbone": frame["model_id"].replace_strict(backbones, return_dtype=pl.String),
                "series": column_of(frame, "task", pl.String).fill_null("")
                + "|"
                + frame["model_id"]
                + "|"
                + frame["gpu_model"]
                + "|"
                + frame["num_gpus"].cast(pl.String)
                + _diffusion_key(frame),
                "log_batch": np.log(floats_of(frame, "batch_size", 1.0)),
            }
        )
        for frame in frames
    ]
    codes = pl.concat(pieces).select(
        pl.col("gpu").rank("dense"),
        pl.col("backbone").rank("dense"),
        (pl.col("backbone") + "|" + pl.col("gpu")).rank("dense").alias("backbone_gpu"),
        pl.col("series").rank("dense"),
        "log_batch",
    )
    made, start = [], 0
    for frame in frames:
        part = codes.slice(start, frame.height)
        start += frame.height
        gpu, backbone, backbone_gpu, series = (part[n].to_numpy().astype(np.intp) for n in PARTS[:4])
        made.append(Kinship(gpu, backbone, backbone_gpu, series, part["log_batch"].to_numpy()))
    return made


def _diffusion_key(frame: pl.DataFrame) -> pl.Series:
    names = ("inference_steps", "height_px", "width_px", "num_frames")
    texts = [column_of(frame, name, pl.Int64).cast(pl.String).fill_null("") for name in names]
    return texts[0] + "|" + texts[1] + "|" + texts[2] + "|" + texts[3]


def covariance(kernel: Kernel, a: Kinship, b: Kinship) -> Floats:
    """Return the covariance of residuals of two sets of rows, shape (a, b), noise left out."""
    same = {name: getattr(a, name)[:, None] == getattr(b, name)[None, :] for name in PARTS[:4]}
    total = sum((kernel.deviations[name] ** 2 * same[name] for name in PARTS[:4]), start=np.zeros((1, 1)))
    apart = (a.log_batch[:, None] - b.log_batch[None, :]) / kernel.length
    smooth = kernel.deviations["batch"] ** 2 * np.exp(-0.5 * apart**2) * same["series"]
    return np.asarray(total + smooth)


def posterior(kernel: Kernel, given: Kinship, residuals: Floats, asked: Kinship) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the residual of the asked rows, their own noise included.

    Args:
        kernel: The parts' deviations.
        given: The measured rows.
        residuals: Their residuals; not a number where a quantity was not measured.
        asked: The rows to predict.
    """
    prior = np.full(len(asked.log_batch), kernel.prior_deviation)
    usable = np.flatnonzero(~np.isnan(residuals))
    if usable.size == 0:
        return np.zeros(len(asked.log_batch)), prior
    if usable.size > LARGEST_GIVEN:
        usable = usable[:: usable.size // LARGEST_GIVEN + 1]
    known = given.take(usable)
    noisy = covariance(kernel, known, known) + np.eye(usable.size) * kernel.deviations["noise"] ** 2
    factor = np.linalg.cholesky(noisy)
    across = covariance(kernel, known, asked)
    solved = np.linalg.solve(factor, across)
    mean = solved.T @ np.linalg.solve(factor, residuals[usable])
    variance = kernel.prior_deviation**2 - np.sum(solved**2, axis=0)
    return np.asarray(mean), np.sqrt(np.maximum(variance, SMALLEST_DEVIATION**2))


def fit_kernel(kin: Kinship, residuals: Floats) -> Kernel:
    """Estimate the parts' deviations by maximum likelihood on residuals of held-out backbones.

    Residuals beyond three robust deviations are drawn in first: the kernel describes the usual case, and the
    conformal factor of the intervals the rest.
    """
    from scipy.optimize import minimize  # slow to import, and prediction has no use for it

    usable = np.flatnonzero(~np.isnan(residuals))
    kin, residuals = kin.take(usable), residuals[usable]
    limit = 3.0 * 1.4826 * float(np.median(np.abs(residuals)))
    drawn = np.clip(residuals, -limit, limit)
    groups = [np.flatnonzero(kin.backbone == code) for code in np.unique(kin.backbone)]
    blocks = [(kin.take(g), drawn[g]) for g in groups]

    def cost(logs: Floats) -> float:
        kernel = _kernel(logs)
        return sum(_minus_log_likelihood(kernel, k, r) for k, r in blocks)

    start = np.log([*START, 2.0])
    bounds = [(np.log(SMALLEST_DEVIATION), np.log(1.0))] * 5 + [tuple(np.log(LENGTH_RANGE))]
    found = minimize(cost, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 30})
    return _kernel(np.asarray(found.x, dtype=np.float64))


def _kernel(logs: Floats) -> Kernel:
    fitted = np.exp(logs)
    deviations = {"gpu": GPU_DEVIATION} | {name: float(d) for name, d in zip(PARTS[1:], fitted[:5], strict=True)}
    return Kernel(deviations, float(fitted[5]))


def _minus_log_likelihood(kernel: Kernel, kin: Kinship, residuals: Floats) -> float:
    matrix = covariance(kernel, kin, kin) + np.eye(len(residuals)) * kernel.deviations["noise"] ** 2
    factor = np.linalg.cholesky(matrix)
    white = np.linalg.solve(factor, residuals)
    return float(0.5 * white @ white + np.sum(np.log(np.diag(factor))))
