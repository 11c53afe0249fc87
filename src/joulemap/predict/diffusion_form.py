"""The coefficients of the diffusion form: what each means and what was assumed of it before calibration."""

from __future__ import annotations

from joulemap.predict.coefficients import Coefficient, by_gpu, shared

GPU_SPREAD = 0.10
"""Diffusion has twelve backbones only: its factors are held closer together than a language model's."""

DIFFUSION: tuple[Coefficient, ...] = (
    by_gpu("matrix", 0.70, 0.06, "share of peak that large matrix products reach", GPU_SPREAD),
    by_gpu("attention", 0.60, 0.06, "share of peak that attention reaches", GPU_SPREAD),
    shared("half_hidden", 150.0, 0.2, "hidden size at which products reach half of that"),
    by_gpu("half_rows", 600.0, 0.24, "tokens on a GPU at which products reach half of that", GPU_SPREAD),
    by_gpu("elementwise", 0.60, 0.08, "share of bandwidth that element-wise operations reach", GPU_SPREAD),
    shared("query_passes", 30.0, 0.30, "unfused passes to normalise queries and keys, and as many to rotate them"),
    by_gpu("launch_block", 3e-4, 0.2, "s of host time to launch a block", GPU_SPREAD),
    by_gpu("launch_step", 2e-3, 0.24, "s of host time per step outside blocks", GPU_SPREAD),
    shared("decode_image", 2.4e6, 0.24, "operations of the autoencoder per pixel of an image"),
    shared("decode_video", 3e6, 0.24, "the same per pixel of a video's frame"),
    shared("decode_deep", 1.0, 0.2, "the same of deeply compressing autoencoders, relative"),
    by_gpu("decode_arithmetic", 0.25, 0.12, "share of peak that decoding reaches", GPU_SPREAD),
    by_gpu("exchange", 6e-5, 0.24, "s of latency of an all-to-all", GPU_SPREAD),
    by_gpu("exchange_bandwidth", 0.50, 0.16, "share of the link bandwidth that it reaches", GPU_SPREAD),
    by_gpu("ring", 6e-5, 0.24, "s of latency of a ring's passing, its kernels' launches included", GPU_SPREAD),
    by_gpu("ring_bandwidth", 0.50, 0.2, "share of the link bandwidth that it reaches", GPU_SPREAD),
    shared("ring_attention", 0.05, 0.2, "attention's slowdown for each further GPU of a ring"),
    by_gpu("start", 0.03, 0.28, "s per batch outside steps and decoding", GPU_SPREAD),
    by_gpu("power_static", 0.15, 0.12, "share of TDP drawn without work", GPU_SPREAD),
    by_gpu("power_matrix", 0.71, 0.12, "share of TDP that matrix products draw at peak", GPU_SPREAD),
    by_gpu("power_attention", 0.71, 0.12, "the same of attention", GPU_SPREAD),
    by_gpu("power_traffic", 0.35, 0.16, "share of TDP that memory traffic draws at full bandwidth", GPU_SPREAD),
    by_gpu("power_active", 0.10, 0.24, "share of TDP drawn during steps, whatever they do", GPU_SPREAD),
    by_gpu("power_communication", 0.10, 0.24, "the same during exchanges", GPU_SPREAD),
    by_gpu("power_decode", 0.57, 0.2, "share of TDP that decoding draws at peak", GPU_SPREAD),
)
