"""Memory footprint and availability, and the batch ceiling that follows from them."""

from __future__ import annotations

import numpy as np

from joulemap.physics.arrays import FloatOrArray


def kv_repetition(kv_heads: FloatOrArray, tensor_parallel: FloatOrArray) -> FloatOrArray:
    """Return each GPU's share of the KV cache of one replica: ``1 / min(tp, heads)``.

    With more GPUs than KV heads, heads are repeated rather than divided.

    Args:
        kv_heads: KV heads of one layer.
        tensor_parallel: tp, GPUs that divide the attention layers.

    Valid where tp and heads divide one another. Reference: Pope et al. 2022, arXiv 2211.05102, section 3.3.

    >>> float(kv_repetition(4.0, 8.0))
    0.25
    """
    return 1.0 / np.minimum(tensor_parallel, np.maximum(kv_heads, 1.0))


def kv_token_bytes(
    divided_numbers: FloatOrArray,
    latent_numbers: FloatOrArray,
    share: FloatOrArray,
    bytes_each: FloatOrArray,
) -> FloatOrArray:
    """Return the KV-cache bytes of one token on one GPU: ``b · (d · share + l)``.

    Args:
        divided_numbers: d, numbers that GPUs divide among themselves.
        latent_numbers: l, numbers of latent attention, which every GPU holds.
        share: Each GPU's share of d.
        bytes_each: b, bytes of one number.

    Valid for paged caches, apart from at most one block a sequence. Reference: Kwon et al. 2023, arXiv 2309.06180.

    >>> kv_token_bytes(65536.0, 0.0, 0.5, 2.0)
    65536.0
    """
    return bytes_each * (divided_numbers * share + latent_numbers)


def kv_bytes_available(
    memory_bytes: FloatOrArray,
    utilization: FloatOrArray,
    weight_bytes: FloatOrArray,
    reserve_bytes: FloatOrArray,
) -> FloatOrArray:
    """Return the bytes left for the KV cache on one GPU: ``max(0, u · M − W − R)``.

    Args:
        memory_bytes: M, memory of the GPU.
        utilization: u, share of it that the engine may take.
        weight_bytes: W, weights on this GPU.
        reserve_bytes: R, activations, CUDA graphs and communication buffers.

    Valid for engines that take their memory up front. Reference: vLLM's engine arguments, gpu_memory_utilization.

    >>> float(kv_bytes_available(80e9, 0.9, 16e9, 3e9))
    53000000000.0
    """
    return np.maximum(utilization * memory_bytes - weight_bytes - reserve_bytes, 0.0)


def batch_ceiling(
    available_bytes: FloatOrArray,
    context_tokens: FloatOrArray,
    token_bytes: FloatOrArray,
    sequence_bytes: FloatOrArray = 0.0,
) -> FloatOrArray:
    """Return how many sequences fit: ``A / (S · t + s)``.

    Args:
        available_bytes: A, bytes for caches on one GPU.
        context_tokens: S, mean context of a running sequence.
        token_bytes: t, cache bytes of one token on one GPU.
        sequence_bytes: s, recurrent state of one sequence on one GPU.

    Valid for the mean; an engine preempts when a spell of long sequences exceeds it. Reference: arXiv 2309.06180.

    >>> round(float(batch_ceiling(53e9, 1000.0, 147456.0)), 1)
    359.4
    """
    return available_bytes / np.maximum(context_tokens * token_bytes + sequence_bytes, 1.0)
