"""What the host takes: launches without CUDA graphs, processors too few, images to preprocess."""

from __future__ import annotations

import numpy as np

from joulemap.physics.arrays import FloatOrArray


def switched_on(value: FloatOrArray, threshold: FloatOrArray, steepness: FloatOrArray) -> FloatOrArray:
    """Return a smooth step in the logarithm: ``1 / (1 + (x₀ / x)^m)``.

    Args:
        value: x > 0.
        threshold: x₀ > 0, where the result is ½.
        steepness: m; the result goes from 0.1 to 0.9 over a factor of 81^(1/m).

    Valid for positive values. Reference: the logistic function of log x.

    >>> float(switched_on(512.0, 512.0, 6.0))
    0.5
    """
    # Beyond e⁵⁰⁰ the result is 0 anyway, and the exponential would overflow.
    return 1.0 / (1.0 + np.exp(np.minimum(-steepness * (np.log(value) - np.log(threshold)), 500.0)))


LOGISTIC_WIDTH = 1.702
"""A normal distribution is within 0.01 of a logistic one whose argument is so many standard deviations."""


def longer_prompt_share(mean_tokens: FloatOrArray, sigma: FloatOrArray, limit: FloatOrArray) -> FloatOrArray:
    """Return the share of prompts longer than a limit, of log-normally distributed lengths.

    ``1 / (1 + (x / m)^(1.702 / σ))`` with the median ``m = mean · exp(−σ²/2)``.

    Args:
        mean_tokens: Mean length.
        sigma: σ, standard deviation of the logarithm of lengths, above 0.
        limit: x > 0, tokens.

    Valid within 0.01 of the log-normal. Reference: Bowling et al. 2009 (logistic approximation of the normal).

    >>> round(float(longer_prompt_share(100.0, 1.0, 100.0 * 2.718281828**-0.5)), 6)
    0.5
    """
    return switched_on(
        mean_tokens * np.exp(-0.5 * np.asarray(sigma) ** 2), limit, LOGISTIC_WIDTH / np.asarray(sigma)
    )


def preprocessing_time(requests_per_step: FloatOrArray, seconds_per_request: FloatOrArray) -> FloatOrArray:
    """Return the shortest mean step that the host's preprocessing allows: ``r · h``.

    The host takes h seconds per request (decoding, resizing and normalising pixels); with r requests finished a
    step, a step cannot on average be shorter than r·h.

    Args:
        requests_per_step: r.
        seconds_per_request: h.

    Valid where preprocessing is one pipeline for the whole server. Reference: arXiv 2601.22076.

    >>> preprocessing_time(0.5, 0.1)
    0.05
    """
    return requests_per_step * seconds_per_request


def starved_fraction(busy_s: FloatOrArray, step_s: FloatOrArray) -> FloatOrArray:
    """Return the share of time in which GPUs have no work: ``max(0, 1 − busy / step)``.

    Args:
        busy_s: Time of a step that GPUs need.
        step_s: Time that the step takes.

    Valid for any positive step. Reference: definition.

    >>> float(starved_fraction(1.0, 4.0))
    0.75
    """
    return np.maximum(1.0 - busy_s / step_s, 0.0)
