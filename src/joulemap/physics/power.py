"""Power of a GPU from what it does, and the energies that follow."""

from __future__ import annotations

from joulemap.physics.arrays import FloatOrArray

CAP_SHARPNESS = 6.0
"""How abruptly power bends into its cap; power management acts within milliseconds, averages bend softly."""


def utilization_power(utilization: FloatOrArray, share_of_tdp: FloatOrArray, tdp_w: FloatOrArray) -> FloatOrArray:
    """Return the power that a rate adds: ``c · u · TDP``.

    For memory traffic u is bytes per second over the datasheet's bandwidth, for arithmetic operations per second
    over the datasheet's peak: c is the share of TDP that the rate would draw at its peak, so that the energy of a
    byte is ``c · TDP / BW`` and that of an operation ``c · TDP / P``.

    Args:
        utilization: u, dimensionless.
        share_of_tdp: c, dimensionless.
        tdp_w: TDP in watts.

    Valid at the clocks that the GPU chooses itself. Reference: linear event-energy models, Hong and Kim 2010;
    AccelWattch, Kandiah et al. 2021.

    >>> utilization_power(0.5, 0.4, 700.0)
    140.0
    """
    return share_of_tdp * utilization * tdp_w


def capped(power_w: FloatOrArray, cap_w: FloatOrArray) -> FloatOrArray:
    """Return power under a cap: ``p / (1 + (p / c)^6)^(1/6)``.

    Args:
        power_w: p, what the work would draw without a cap.
        cap_w: c, the power limit.

    Valid for averages over seconds. Reference: nvidia-smi's power limit (clocks fall until power meets the limit).

    >>> round(float(capped(100.0, 700.0)), 3), round(float(capped(1e6, 700.0)), 3)
    (100.0, 700.0)
    """
    ratio = power_w / cap_w
    return power_w / (1.0 + ratio**CAP_SHARPNESS) ** (1.0 / CAP_SHARPNESS)


def energy_per_output(power_w: FloatOrArray, outputs_per_s: FloatOrArray) -> FloatOrArray:
    """Return joules per token, image or video: ``P / X``.

    Args:
        power_w: P, mean power of all GPUs.
        outputs_per_s: X > 0, outputs per second.

    Exact for means over one window. Reference: definition.

    >>> energy_per_output(700.0, 1400.0)
    0.5
    """
    return power_w / outputs_per_s


def throughput_per_watt(power_w: FloatOrArray, outputs_per_s: FloatOrArray) -> FloatOrArray:
    """Return outputs per second and watt, which is outputs per joule: ``X / P``.

    Args:
        power_w: P > 0, mean power of all GPUs.
        outputs_per_s: X, outputs per second.

    Exact for means over one window: the inverse of energy per output. Reference: definition.

    >>> throughput_per_watt(700.0, 1400.0)
    2.0
    """
    return outputs_per_s / power_w
