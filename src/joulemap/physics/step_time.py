"""Time of one engine step from its parts: traffic, arithmetic, launches, sampling, and prompts mixed in."""

from __future__ import annotations

import numpy as np

from joulemap.physics.arrays import FloatOrArray

SMALLEST_S = 1e-12
"""Keeps a power of a zero time finite; far below any real one."""


def overlapped(first: FloatOrArray, second: FloatOrArray, sharpness: FloatOrArray) -> FloatOrArray:
    """Return the time of two activities that partly overlap: ``(a^q + b^q)^(1/q)``.

    Never below the longer of the two, and above it by at most ``2^(1/q)``.

    Args:
        first: a, seconds.
        second: b, seconds.
        sharpness: q ≥ 1; 1 adds, infinity takes the maximum.

    Valid for any non-negative times. Reference: Williams et al. 2009 (roofline), softened as in arXiv 2211.05102.

    >>> round(float(overlapped(3.0, 4.0, 2.0)), 6)
    5.0
    """
    longer = np.maximum(first, second) + SMALLEST_S
    shorter = np.minimum(first, second)
    return longer * np.exp(np.log1p(np.exp(sharpness * np.log(shorter / longer + SMALLEST_S))) / sharpness)


def traffic_time(bytes_moved: FloatOrArray, bandwidth: FloatOrArray, efficiency: FloatOrArray) -> FloatOrArray:
    """Return the time to move bytes: ``D / (η · BW)``.

    Args:
        bytes_moved: D.
        bandwidth: BW, bytes per second, as the datasheet gives it.
        efficiency: η, share of it that kernels reach.

    Valid where traffic, not latency, limits. Reference: Williams et al. 2009.

    >>> round(traffic_time(3.35e9, 3.35e12, 0.5), 6)
    0.002
    """
    return bytes_moved / (bandwidth * efficiency)


def arithmetic_time(flops: FloatOrArray, peak: FloatOrArray, efficiency: FloatOrArray) -> FloatOrArray:
    """Return the time of operations: ``F / (η · P)``.

    Args:
        flops: F.
        peak: P, operations per second, dense, as the datasheet gives it.
        efficiency: η, share of it that kernels reach.

    Valid where tensor cores are the limit. Reference: Williams et al. 2009.

    >>> arithmetic_time(1e12, 1e15, 0.5)
    0.002
    """
    return flops / (peak * efficiency)


def sampling_time(
    batch: FloatOrArray, vocabulary: FloatOrArray, per_element: FloatOrArray, per_sequence: FloatOrArray
) -> FloatOrArray:
    """Return the time to sample the next tokens: ``B · V · e + B · s``.

    Args:
        batch: B, sequences.
        vocabulary: V, tokens.
        per_element: e, seconds per logit (softmax, top-p sort).
        per_sequence: s, seconds per sequence (bookkeeping that the step waits for).

    Valid for sorting samplers. Reference: vLLM's sampler, v1/sample/ops/topk_topp_sampler.py.

    >>> round(sampling_time(100.0, 1e5, 1e-10, 1e-5), 6)
    0.002
    """
    return batch * vocabulary * per_element + batch * per_sequence


def mixed_step_share(
    prompts_per_step: FloatOrArray, spreading: FloatOrArray, most: FloatOrArray = 1.0
) -> FloatOrArray:
    """Return the share of steps that carry a prompt beside the running sequences: ``m (1 − exp(−c · r / m))``.

    Args:
        prompts_per_step: r, mean prompts that start in one step.
        spreading: c; 1 for independent arrivals, below 1 where several prompts share a step.
        most: m, share of steps that even many prompts do not exceed: those that wait are read together.

    Valid for a steady state. Reference: Poisson arrivals; chunked prefill in Agrawal et al. 2024, arXiv 2403.02310.

    >>> float(mixed_step_share(0.0, 1.0))
    0.0
    """
    return -most * np.expm1(-spreading * prompts_per_step / most)


def median_of_mixture(share: FloatOrArray, width: FloatOrArray) -> FloatOrArray:
    """Return where the median step lies between a plain (0) and a mixed one (1): ``1 / (1 + exp(−2 (p − ½) / w))``.

    Args:
        share: p, share of mixed steps.
        width: w, how gradual the change is, because both kinds of step vary.

    Valid for two kinds of step. Reference: the median of a two-component mixture.

    >>> float(median_of_mixture(0.5, 0.1))
    0.5
    """
    return 1.0 / (1.0 + np.exp(-2.0 * (share - 0.5) / width))
