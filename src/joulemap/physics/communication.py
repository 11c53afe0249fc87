"""Time that GPUs spend talking to each other."""

from __future__ import annotations

import numpy as np

from joulemap.physics.arrays import FloatOrArray

LATENCY_PER_PEER = 0.15
"""Growth of a collective's latency with each GPU, relative to its base (NCCL's src/graph/tuning.cc)."""


def all_reduce_time(
    message_bytes: FloatOrArray, gpus: FloatOrArray, bandwidth: FloatOrArray, latency_s: FloatOrArray
) -> FloatOrArray:
    """Return the time of one all-reduce: ``λ (1 + 0.15 n) + 2 D (n − 1) / (n · BW)``; 0 for one GPU.

    Args:
        message_bytes: D, bytes that each GPU holds.
        gpus: n.
        bandwidth: BW, bytes per second that a GPU sends.
        latency_s: λ, base latency.

    Valid within one NVLink or PCIe domain. Reference: Thakur et al. 2005 (ring and tree collectives).

    >>> float(all_reduce_time(1e6, 1.0, 450e9, 5e-6))
    0.0
    """
    spread = 2.0 * message_bytes * (gpus - 1.0) / (gpus * bandwidth)
    return np.where(gpus > 1, latency_s * (1.0 + LATENCY_PER_PEER * gpus) + spread, 0.0)


def all_to_all_time(
    message_bytes: FloatOrArray, gpus: FloatOrArray, bandwidth: FloatOrArray, latency_s: FloatOrArray
) -> FloatOrArray:
    """Return the time of one all-to-all: ``λ (1 + 0.15 n) + D (n − 1) / (n · BW)``; 0 for one GPU.

    Args:
        message_bytes: D, bytes that each GPU holds.
        gpus: n.
        bandwidth: BW, bytes per second that a GPU sends.
        latency_s: λ, base latency.

    Valid within one NVLink or PCIe domain. Reference: Jacobs et al. 2023 (Ulysses), arXiv 2309.14509.

    >>> float(all_to_all_time(1e6, 1.0, 450e9, 5e-6))
    0.0
    """
    spread = message_bytes * (gpus - 1.0) / (gpus * bandwidth)
    return np.where(gpus > 1, latency_s * (1.0 + LATENCY_PER_PEER * gpus) + spread, 0.0)


def ring_exchange_time(
    message_bytes: FloatOrArray, gpus: FloatOrArray, bandwidth: FloatOrArray, latency_s: FloatOrArray
) -> FloatOrArray:
    """Return the time of passing keys and values once around a ring: ``(n − 1) (λ + D / BW)``; 0 for one GPU.

    Args:
        message_bytes: D, bytes passed to the neighbour at a time.
        gpus: n, GPUs in the ring.
        bandwidth: BW, bytes per second that a GPU sends.
        latency_s: λ, latency of one passing, its kernels' launches included.

    Valid where passing does not overlap with attention. Reference: Liu et al. 2023, arXiv 2310.01889.

    >>> round(float(ring_exchange_time(450e6, 3.0, 450e9, 0.0)), 6)
    0.002
    """
    return np.maximum(gpus - 1.0, 0.0) * (latency_s + message_bytes / bandwidth)
