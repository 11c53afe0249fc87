"""Compute volume: the floating-point operations and the bytes of one decode step, one prompt, one image.

Symbols: B sequences running together, S tokens of context, P parameters, E experts, k experts per token,
n GPUs. FLOP counts take a multiply-add as two operations.
"""

from __future__ import annotations

import numpy as np

from joulemap.physics.arrays import FloatOrArray

BF16_BYTES = 2.0


def mean_context_tokens(
    input_tokens: FloatOrArray, output_tokens: FloatOrArray, spread: FloatOrArray
) -> FloatOrArray:
    r"""Return the mean context that a running sequence attends to.

    ``S = L_in + L_out · (1 + c²) / 2``: a sequence seen at a random moment is a long one more often than not
    (inspection paradox), and on average half-way through its reply.

    Args:
        input_tokens: Mean prompt length L_in in tokens.
        output_tokens: Mean reply length L_out in tokens.
        spread: Squared coefficient of variation c² of the reply length; 0 where all replies are equally long.

    Valid for a steady state in which a finished sequence is replaced at once. Reference: Feller, An Introduction
    to Probability Theory II, I.4 (waiting-time paradox).

    >>> mean_context_tokens(100.0, 400.0, 0.5)
    400.0
    """
    return input_tokens + output_tokens * (1.0 + spread) / 2.0


def attended_tokens(context_tokens: FloatOrArray, window_tokens: FloatOrArray) -> FloatOrArray:
    """Return the tokens that a layer with a window attends to: ``min(S, W)``; W = 0 means no window.

    Args:
        context_tokens: S in tokens.
        window_tokens: W in tokens.

    Valid for sliding windows; an upper bound for chunks. Reference: Beltagy et al. 2020, arXiv 2004.05150.

    >>> float(attended_tokens(5000.0, 1024.0))
    1024.0
    """
    return np.where(window_tokens > 0, np.minimum(context_tokens, window_tokens), context_tokens)


def expert_coverage(
    batch: FloatOrArray, experts: FloatOrArray, experts_per_token: FloatOrArray, evenness: FloatOrArray = 1.0
) -> FloatOrArray:
    """Return the share of a layer's experts that at least one token of the batch is sent to.

    ``1 − (1 − k/E)^(B^a)``: with even routing (a = 1) each token picks k of E at random; a < 1 allows for the
    popular experts that real routers have.

    Args:
        batch: B, tokens of the step.
        experts: E.
        experts_per_token: k; 0 gives no coverage.
        evenness: a, dimensionless, in (0, 1].

    Valid for B ≥ 1. Reference: occupancy problem, Feller I, II.5; MoE decoding in arXiv 2401.06066.

    >>> round(float(expert_coverage(8.0, 128.0, 8.0)), 3)
    0.403
    """
    picked = np.minimum(experts_per_token / np.maximum(experts, 1.0), 1.0)
    missed = np.log1p(-np.minimum(picked, 1.0 - 1e-12))
    return -np.expm1(missed * np.asarray(batch) ** evenness)


def busiest_coverage(coverage: FloatOrArray, experts_per_gpu: FloatOrArray, gpus: FloatOrArray) -> FloatOrArray:
    """Return the coverage on the GPU that has the most active experts, for which all others wait.

    ``min(1, c + z(n) · sqrt(c (1 − c) / e))`` with z(n) the mean maximum of n standard normals.

    Args:
        coverage: c, mean share of active experts.
        experts_per_gpu: e.
        gpus: n, GPUs between which the experts are divided.

    Valid for n up to 64, with e·c of at least a few. Reference: order statistics of the normal distribution,
    Harter 1961.

    >>> float(busiest_coverage(0.4, 16.0, 1.0))
    0.4
    """
    z = np.interp(np.log2(np.maximum(gpus, 1.0)), EXPECTED_MAXIMUM_LOG2, EXPECTED_MAXIMUM)
    return np.minimum(coverage + z * np.sqrt(coverage * (1.0 - coverage) / experts_per_gpu), 1.0)


EXPECTED_MAXIMUM_LOG2 = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
EXPECTED_MAXIMUM = (0.0, 0.564, 1.029, 1.424, 1.766, 2.070, 2.343)
"""Expected maximum of 1, 2, 4 … 64 standard normals (Harter 1961, Biometrika 48, table 1)."""


def linear_flops(tokens: FloatOrArray, params: FloatOrArray) -> FloatOrArray:
    """Return the operations of matrix products: ``2 · T · P``.

    Args:
        tokens: T.
        params: P, parameters that each token passes.

    Valid for any T. Reference: Kaplan et al. 2020, arXiv 2001.08361, section 2.1.

    >>> linear_flops(10.0, 1e9)
    20000000000.0
    """
    return 2.0 * tokens * params


def attention_flops(queries: FloatOrArray, context_tokens: FloatOrArray, width: FloatOrArray) -> FloatOrArray:
    """Return the operations of scores and weighted sums: ``4 · Q · S · w``.

    Args:
        queries: Q, query tokens.
        context_tokens: S, tokens that each attends to.
        width: w, query heads × head dimension, summed over layers.

    Valid where the softmax's own operations are negligible. Reference: arXiv 2001.08361, table 1.

    >>> attention_flops(1.0, 1000.0, 4096.0)
    16384000.0
    """
    return 4.0 * queries * context_tokens * width


def padded_expert_rows(experts_touched: FloatOrArray, tile_rows: FloatOrArray) -> FloatOrArray:
    """Return the empty rows that a grouped matrix product multiplies to fill its tiles.

    ``e · m``: every touched expert's rows are filled up to a tile of m rows. Kernels that lay out all local
    experts touch every one.

    Args:
        experts_touched: e, experts with rows in the product.
        tile_rows: m, mean empty rows per expert.

    Valid while rows per expert are about a tile or fewer. Reference: DeepGEMM's contiguous grouped layout
    (alignment 128), github.com/deepseek-ai/DeepGEMM.

    >>> padded_expert_rows(64.0, 100.0)
    6400.0
    """
    return experts_touched * tile_rows


def prefill_flops(tokens: FloatOrArray, params: FloatOrArray, width: FloatOrArray) -> FloatOrArray:
    """Return the operations of reading a prompt: ``2·T·P + 2·T²·w`` (causal: each token sees half the prompt).

    Args:
        tokens: T, prompt length.
        params: P, parameters that a token passes.
        width: w, query heads × head dimension, summed over layers.

    Valid without prefix caching. Reference: arXiv 2001.08361.

    >>> prefill_flops(1000.0, 1e9, 1e5)
    2200000000000.0
    """
    return linear_flops(tokens, params) + attention_flops(tokens, tokens / 2.0, width)


def vision_flops(tokens: FloatOrArray, patches_per_token: FloatOrArray, params: FloatOrArray) -> FloatOrArray:
    """Return the operations of the vision encoder for so many vision tokens: ``2 · T · m · P``.

    Args:
        tokens: T, vision tokens of the language model.
        patches_per_token: m, patches that are merged into one token.
        params: P, parameters of the encoder.

    Leaves out the encoder's attention, which grows with resolution. Reference: Dosovitskiy et al. 2020,
    arXiv 2010.11929.

    >>> vision_flops(100.0, 4.0, 1e6)
    800000000.0
    """
    return linear_flops(tokens * patches_per_token, params)
