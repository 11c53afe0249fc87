"""The coefficients of the diffusion form: what each means and what was assumed of it before calibration."""

from __future__ import annotations

from joulemap.predict.coefficients import Coefficient, by_gpu, shared

DIFFUSION: tuple[Coefficient, ...] = (
    by_gpu("matrix", 0.70, 0.15, "share of peak that large matrix products reach"),
    by_gpu("attention", 0.60, 0.15, "share of peak that attention reaches"),
    shared("half_hidden", 150.0, 0.50, "hidden size at which products reach half of that"),
    by_gpu("half_rows", 600.0, 0.60, "tokens on a GPU at which products reach half of that"),
    by_gpu("elementwise", 0.60, 0.20, "share of bandwidth that element-wise operations reach"),
    shared(
        "normalisation_passes", 60.0, 0.30, "passes over queries and keys to normalise and rotate them, unfused"
    ),
    by_gpu("launch_block", 3e-4, 0.50, "s of host time to launch a block"),
    by_gpu("launch_step", 2e-3, 0.60, "s of host time per step outside blocks"),
    shared("decode_image", 2.4e6, 0.60, "operations of the autoencoder per pixel of an image"),
    shared("decode_video", 3e6, 0.60, "the same per pixel of a video's frame"),
    shared("decode_deep", 1.0, 0.50, "the same of deeply compressing autoencoders, relative"),
    by_gpu("decode_arithmetic", 0.25, 0.30, "share of peak that decoding reaches"),
    by_gpu("exchange", 6e-5, 0.60, "s of latency of an all-to-all"),
    by_gpu("exchange_bandwidth", 0.50, 0.40, "share of the link bandwidth that it reaches"),
    by_gpu("ring", 6e-5, 0.60, "s of latency of a ring's passing, its kernels' launches included"),
    by_gpu("ring_bandwidth", 0.50, 0.50, "share of the link bandwidth that it reaches"),
    shared("ring_attention", 0.05, 0.50, "attention's slowdown for each further GPU of a ring"),
    by_gpu("start", 0.03, 0.70, "s per batch outside steps and decoding"),
    by_gpu("power_static", 0.15, 0.30, "share of TDP drawn without work"),
    by_gpu("power_matrix", 0.71, 0.30, "share of TDP that matrix products draw at peak"),
    by_gpu("power_attention", 0.71, 0.30, "the same of attention"),
    by_gpu("power_traffic", 0.35, 0.40, "share of TDP that memory traffic draws at full bandwidth"),
    by_gpu("power_active", 0.10, 0.60, "share of TDP drawn during steps, whatever they do"),
    by_gpu("power_communication", 0.10, 0.60, "the same during exchanges"),
    by_gpu("power_decode", 0.57, 0.50, "share of TDP that decoding draws at peak"),
)
