"""The diffusion form: physics composed with coefficients into time of a batch, throughput and power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from joulemap.physics import communication, power, step_time
from joulemap.physics import diffusion as physics
from joulemap.physics.arrays import FloatOrArray, Floats
from joulemap.physics.compute_volume import BF16_BYTES
from joulemap.predict.diffusion_rows import DiffusionRows
from joulemap.predict.language import PARTS, TDP_HEADROOM
from joulemap.predict.language_prompts import STEP_OVERLAP
from joulemap.predict.language_volume import Values

TEXT_EFFICIENCY = 0.5
"""Share of peak that text encoders reach."""


@dataclass(frozen=True, slots=True)
class DiffusionTerms:
    """What the form says of each configuration; arrays of one length."""

    batch_s: dict[str, Floats]
    """Parts of a batch's time: ``steps``, ``communication``, ``decode``, ``start``; they sum to ``latency_s``."""
    latency_s: Floats
    output_throughput_per_s: Floats
    power_parts_w: dict[str, Floats]
    """Power of all GPUs by the parts of the ledger; they sum to ``power_w``."""
    power_w: Floats
    flops_per_batch: dict[str, Floats]
    """Operations of one GPU: ``matrix``, ``attention``, ``decode``."""
    bytes_per_batch: Floats
    """Traffic of one GPU."""


def diffusion_terms(rows: DiffusionRows, c: Values) -> DiffusionTerms:
    """Return time, throughput, power and their parts of each configuration.

    Args:
        rows: The configurations.
        c: Coefficients by name, each of the rows' length or of length 1.
    """
    v, gpu, n = rows.volume, rows.gpu, rows.gpus
    samples = rows.batch * v["samples"]
    repeat = physics.repeated_text(v["latent_tokens"], v["text_tokens"], v["joint"], n)
    own = samples / n * repeat
    whole_text = np.where(repeat > 1, v["text_tokens"], v["text_tokens"] / n)
    rows_each = samples * (v["latent_tokens"] / n + whole_text * v["joint"])
    saturation = physics.matrix_saturation(v["hidden_size"], rows_each, c["half_hidden"], c["half_rows"])
    attending = samples / n * np.sqrt(repeat) * v["attention_flops"]
    treated = c["query_passes"] * (v["normalised_bytes"] + v["rotated_bytes"])
    passes = v["activation_bytes"] + treated
    matrix = step_time.arithmetic_time(own * v["linear_flops"], gpu["peak"], c["matrix"] * saturation)
    attention = step_time.arithmetic_time(attending, gpu["peak"], c["attention"])
    elementwise = step_time.traffic_time(own * passes, gpu["bandwidth"], c["elementwise"])
    launching = v["blocks"] * c["launch_block"] + c["launch_step"]
    step = step_time.overlapped(matrix + attention + elementwise, launching, STEP_OVERLAP)
    exchanging = _exchange_time(rows, c, samples, attention)
    decode_flops = rows.batch * v["pixels"] * np.where(rows.video > 0, c["decode_video"], c["decode_image"])
    decode_flops = decode_flops * np.where(v["deep_decoder"] > 0, c["decode_deep"], 1.0)
    parts = {
        "steps": rows.steps * step,
        "communication": rows.steps * exchanging,
        "decode": step_time.arithmetic_time(decode_flops, gpu["peak"], c["decode_arithmetic"]),
        "start": c["start"] + step_time.arithmetic_time(rows.batch * v["text_flops"], gpu["peak"], TEXT_EFFICIENCY),
    }
    latency = sum(parts.values(), start=np.zeros(len(rows)))
    flops = {
        "matrix": rows.steps * own * v["linear_flops"],
        "attention": rows.steps * samples / n * v["attention_flops"],
        "decode": decode_flops,
    }
    moved = rows.steps * (own * passes + v["weight_bytes"])
    powers = _power_parts(rows, c, parts, flops, moved, latency)
    return DiffusionTerms(
        batch_s=parts,
        latency_s=latency,
        output_throughput_per_s=rows.batch / latency,
        power_parts_w=powers,
        power_w=sum(powers.values(), start=np.zeros(len(rows))),
        flops_per_batch=flops,
        bytes_per_batch=moved,
    )


def _exchange_time(rows: DiffusionRows, c: Values, samples: Floats, attention: Floats) -> Floats:
    """Return the time that one step spends on sequence parallelism."""
    v, link, n = rows.volume, rows.gpu["link"], rows.gpus
    message = samples * v["latent_tokens"] * v["hidden_size"] * BF16_BYTES
    # Ulysses exchanges queries, keys, values and the result: four all-to-alls of one GPU's share.
    ulysses = communication.all_to_all_time(
        4.0 * message / n, rows.ulysses, link * c["exchange_bandwidth"], c["exchange"]
    )
    ring = communication.ring_exchange_time(
        2.0 * message / rows.ulysses / rows.ring, rows.ring, link * c["ring_bandwidth"], c["ring"]
    )
    return np.asarray(v["attention_calls"] * (ulysses + ring) + attention * c["ring_attention"] * (rows.ring - 1.0))


def _power_parts(
    rows: DiffusionRows, c: Values, parts: Values, flops: Values, moved: Floats, latency: Floats
) -> dict[str, Floats]:
    """Return the power of all GPUs by part, under the cap."""
    gpu, tdp, n = rows.gpu, rows.gpu["tdp_w"], rows.gpus

    def drawn(rate: FloatOrArray, share: Floats) -> Floats:
        return np.asarray(power.utilization_power(rate / latency, share, tdp))

    zero = np.zeros(len(rows))
    raw = {
        "static": c["power_static"] * tdp + zero,
        "weights": drawn(moved / gpu["bandwidth"], c["power_traffic"]),
        "kv": zero,
        # Decoding runs on one GPU of the configuration; its energy is spread over all.
        "compute": drawn(flops["matrix"] / gpu["peak"], c["power_matrix"])
        + drawn(flops["attention"] / gpu["peak"], c["power_attention"])
        + drawn(flops["decode"] / gpu["peak"] / n, c["power_decode"])
        + drawn(parts["steps"], c["power_active"]),
        "launch": zero,
        "communication": drawn(parts["communication"], c["power_communication"]),
        "prefill": zero,
        "starved": zero,
    }
    total = sum(raw.values(), start=zero)
    held = power.capped(total, rows.power_cap_w * TDP_HEADROOM) / total
    return {name: raw[name] * held * n for name in PARTS}
