"""The language-model form: physics composed with coefficients into step time, throughput and power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from joulemap.physics import communication, compute_volume, host, memory, power, step_time
from joulemap.physics.arrays import FloatOrArray, Floats
from joulemap.predict.language_prompts import PARALLEL_LOAD, STEP_OVERLAP, MixedSteps, mixed_steps
from joulemap.predict.language_rows import LanguageRows
from joulemap.predict.language_volume import (
    HELD_TOKENS,
    Values,
    Volume,
    context_tokens,
    language_volume,
    prompt_tokens,
    sequence_cache_bytes,
)

ATTENTION_OVERLAP = 2.0
PREPROCESS_OVERLAP = 3.0
ATTENTION_EFFICIENCY = 0.40
"""Share of peak that attention's products reach in decode."""
STATE_BANDWIDTH = 0.70
PLAIN_SAMPLING = 0.3
"""Time for each sequence without sorting, relative to that with it. Assumed: the study always sorted; an engine's
scheduler and output handling take about 10 µs a sequence."""
NARROW_STEEPNESS = 6.0
LONG_REPLY_TOKENS = 3200.0
NARROW_BATCH = 11.0
FP4_ARITHMETIC = 1.6
"""4-bit experts with 8-bit activations on GPUs that multiply them natively, relative to 16-bit arithmetic."""
TDP_HEADROOM = 0.97
"""Highest mean power relative to the limit."""
RESERVE_BYTES = 3.0e9
"""Activations, CUDA graphs and buffers that an engine sets aside on each GPU."""
ENGINE_MEMORY_SHARE = 0.90
"""vLLM's default share of GPU memory."""
PARTS = ("static", "weights", "kv", "compute", "launch", "communication", "prefill", "starved")
"""Parts of power and of energy, in the order of the ledger."""


@dataclass(frozen=True, slots=True)
class LanguageTerms:
    """What the form says of each configuration; arrays of one length."""

    step_s: dict[str, Floats]
    """Parts of the mean step: ``weights`` (traffic and arithmetic of products), ``kv``, ``launch``,
    ``communication``, ``sampling``, ``prefill``, ``starved``; they sum to ``mean_step_s``."""
    mean_step_s: Floats
    itl_median_s: Floats
    output_throughput_per_s: Floats
    power_parts_w: dict[str, Floats]
    """Power of all GPUs by ``PARTS``; they sum to ``power_w``."""
    power_w: Floats
    bytes_per_step: dict[str, Floats]
    """Traffic of one GPU in a mean step: ``weights``, ``kv``, ``state``."""
    flops_per_step: dict[str, Floats]
    """Operations of one GPU in a mean step: ``decode``, ``padding``, ``prefill``."""
    context_tokens: Floats
    input_tokens: Floats
    memory_footprint_bytes: Floats
    """Weights and caches of one GPU at this batch."""
    kv_available_bytes: Floats
    batch_ceiling: Floats
    prefill_s: Floats
    """Time that one prompt takes beyond a plain step."""


def language_terms(rows: LanguageRows, c: Values) -> LanguageTerms:
    """Return time, throughput, power and their parts of each configuration at its batch.

    Args:
        rows: The configurations.
        c: Coefficients by name, each of the rows' length or of length 1.
    """
    inputs = prompt_tokens(rows, c)
    volume = language_volume(rows, c, context_tokens(rows, c, inputs))
    held = prompt_tokens(rows, HELD_TOKENS)
    held_context = compute_volume.mean_context_tokens(held, rows.output_tokens, rows.spread)
    decode = _decode_times(rows, c, volume)
    plain = sum(decode.values(), start=np.zeros(len(rows)))
    steps = mixed_steps(rows, c, volume, inputs, plain)
    busy = steps.plain_s + steps.reading_s + steps.added_s
    narrow = _narrow_host(rows, c)
    mean_step = step_time.overlapped(busy, narrow, STEP_OVERLAP)
    median = step_time.overlapped(steps.median_s, narrow, STEP_OVERLAP)
    pixels = np.where(
        rows.pixels == 1, c["preprocess_image"], np.where(rows.pixels == 2, c["preprocess_video"], 0.0)
    )
    mean_step = step_time.overlapped(
        mean_step, host.preprocessing_time(steps.prompts_per_step, pixels), PREPROCESS_OVERLAP
    )
    parts = _step_parts(decode, steps.plain_s - plain, steps.reading_s + steps.added_s, mean_step - busy)
    power_parts = _power_parts(rows, c, volume, decode, steps, mean_step)
    ceiling, available, footprint = _memory(rows, held_context)
    return LanguageTerms(
        step_s=parts,
        mean_step_s=mean_step,
        itl_median_s=median,
        output_throughput_per_s=rows.copies * rows.batch / mean_step,
        power_parts_w=power_parts,
        power_w=sum(power_parts.values(), start=np.zeros(len(rows))),
        bytes_per_step={
            "weights": volume.dense_bytes + volume.expert_bytes,
            "kv": volume.kv_bytes,
            "state": volume.state_bytes,
        },
        flops_per_step={
            "decode": volume.dense_flops + volume.expert_flops + volume.attention_flops,
            "padding": volume.padding_flops,
            "prefill": steps.reading_flops,
        },
        context_tokens=held_context,
        input_tokens=held,
        memory_footprint_bytes=footprint,
        kv_available_bytes=available,
        batch_ceiling=ceiling * rows.copies,
        prefill_s=steps.prompt_s,
    )


def _decode_times(rows: LanguageRows, c: Values, v: Volume) -> dict[str, Floats]:
    """Return the parts of a plain decode step, in seconds."""
    s, gpu, n = rows.shape, rows.gpu, rows.gpus
    linear_peak = np.where(
        s["fp8_linear"] > 0, gpu["peak_fp8"] * c["fp8_dense"] * c["arithmetic"], gpu["peak"] * c["arithmetic"]
    )
    native_fp4 = np.array(["fp4" in g.peak_flops_per_s for g in rows.gpu_models])[rows.gpu_index]
    fp4 = np.where((s["mxfp4_experts"] > 0) & native_fp4, FP4_ARITHMETIC, 1.0)
    expert_peak = np.where(
        s["fp8_experts"] > 0, gpu["peak_fp8"] * c["arithmetic_fp8"], gpu["peak"] * c["arithmetic"] * fp4
    )
    dense = step_time.overlapped(
        step_time.traffic_time(v.dense_bytes, gpu["bandwidth"], c["bandwidth"]),
        step_time.arithmetic_time(v.dense_flops, linear_peak, 1.0),
        c["matrix_overlap"],
    )
    experts = step_time.overlapped(
        step_time.traffic_time(v.expert_bytes, gpu["bandwidth"], c["expert_bandwidth"]),
        step_time.arithmetic_time(v.expert_flops + v.padding_flops, expert_peak, 1.0),
        c["matrix_overlap"],
    )
    kv = step_time.overlapped(
        step_time.traffic_time(
            v.kv_bytes, gpu["bandwidth"], np.where(s["latent_kv"] > 0, c["latent_bandwidth"], c["kv_bandwidth"])
        ),
        step_time.arithmetic_time(v.attention_flops, gpu["peak"], ATTENTION_EFFICIENCY),
        ATTENTION_OVERLAP,
    ) + step_time.traffic_time(v.state_bytes, gpu["bandwidth"], STATE_BANDWIDTH)
    reduced = (
        PARALLEL_LOAD
        * s["layers"]
        * communication.all_reduce_time(
            rows.batch * s["hidden_size"] * compute_volume.BF16_BYTES,
            n,
            gpu["link"] * c["link_bandwidth"],
            c["all_reduce"],
        )
    )
    sampled = step_time.sampling_time(
        rows.batch,
        s["vocab_size"],
        c["sample_element"] * rows.sorted_sampler,
        c["sample_sequence"] * np.where(rows.sorted_sampler > 0, 1.0, PLAIN_SAMPLING),
    )
    return {
        "weights": dense + np.where(s["moe_layers"] > 0, experts, 0.0),
        "kv": kv,
        "launch": _launches(s, c),
        "communication": reduced,
        "sampling": sampled,
    }


def _launches(s: dict[str, Floats], c: Values) -> Floats:
    experts = np.where(
        s["mxfp4_experts"] > 0,
        c["launch_experts_fp4"],
        np.where(s["fp8_experts"] > 0, c["launch_experts_fp8"], c["launch_experts"]),
    )
    # Weights with one scale a row or tensor have their activations quantised within another kernel.
    fused = np.where(s["block_scaled"] > 0, 1.0, 0.35)
    quantise = np.where(
        (s["fp8_linear"] > 0) | (s["fp8_experts"] > 0), s["layers"] * c["launch_quantise"] * fused, 0.0
    )
    return np.asarray(
        c["launch_step"]
        + s["attention_layers"] * c["launch_attention"] * np.where(s["latent_kv"] > 0, c["launch_latent"], 1.0)
        + (s["dense_layers"] + s["shared_layers"]) * c["launch_dense"]
        + s["moe_layers"] * experts
        + s["recurrent_layers"] * c["launch_recurrent"]
        + quantise
    )


def _narrow_host(rows: LanguageRows, c: Values) -> Floats:
    """Return the shortest step that a host with few cores allows."""
    long = host.switched_on(rows.output_tokens, LONG_REPLY_TOKENS, NARROW_STEEPNESS) * c["narrow_host_long"]
    pixels = host.switched_on(rows.batch, NARROW_BATCH, NARROW_STEEPNESS) * c["narrow_host_pixels"]
    floor = np.where(rows.pixels > 0, pixels, long) + c["narrow_host_sequence"] * rows.batch
    return np.asarray(rows.narrow_host * floor)


def _step_parts(
    decode: dict[str, Floats], stretched: Floats, reading: Floats, waiting: Floats
) -> dict[str, Floats]:
    parts = dict(decode)
    parts["launch"] = parts["launch"] + stretched
    parts["prefill"] = reading
    parts["starved"] = waiting
    return parts


def _power_parts(
    rows: LanguageRows,
    c: Values,
    v: Volume,
    decode: dict[str, Floats],
    steps: MixedSteps,
    step: Floats,
) -> dict[str, Floats]:
    """Return the power of all GPUs by part, under the cap."""
    gpu, s = rows.gpu, rows.shape
    tdp = gpu["tdp_w"]

    def drawn(rate: FloatOrArray, share: Floats) -> Floats:
        return np.asarray(power.utilization_power(rate / step, share, tdp))

    prompts = steps.reading_s + steps.experts_s
    # Experts are read at their share of the bandwidth.
    experts = steps.experts_s * c["expert_bandwidth"]
    working = decode["weights"] + decode["kv"] + decode["sampling"] + prompts
    # Counted busy time can exceed the step where activities overlap: the share drawn is then divided among them.
    crowding = np.minimum(step / np.maximum(working, 1e-12), 1.0)
    bandwidth, peak = gpu["bandwidth"], gpu["peak"]
    fp8 = np.where((s["fp8_linear"] > 0) | (s["fp8_experts"] > 0), c["power_fp8"], 1.0)
    arithmetic = c["power_arithmetic"]
    parts = {
        "weights": drawn((v.dense_bytes + v.expert_bytes) / bandwidth, c["power_weights"])
        + drawn(decode["weights"] * crowding, c["power_active"]),
        "kv": drawn((v.kv_bytes + v.state_bytes) / bandwidth, c["power_kv"])
        + drawn(decode["kv"] * crowding, c["power_active"]),
        "compute": drawn((v.dense_flops + v.expert_flops + v.attention_flops) / peak * fp8, arithmetic)
        + drawn(v.padding_flops / peak * c["power_padding"], arithmetic)
        + drawn(decode["sampling"] * crowding, c["power_active"]),
        "launch": drawn(decode["launch"], c["power_launch"]),
        "communication": drawn(decode["communication"], c["power_communication"]),
        "prefill": drawn(steps.reading_flops / peak * fp8, arithmetic)
        + drawn(experts, c["power_weights"])
        + drawn(prompts * crowding, c["power_active"]),
    }
    busy = sum(decode.values(), start=prompts)
    waiting = host.starved_fraction(np.minimum(busy, step), step)
    parts["static"] = c["power_static"] * tdp * (1.0 - waiting)
    parts["starved"] = c["power_static"] * tdp * waiting
    raw = sum(parts.values(), start=np.zeros(len(rows)))
    held = power.capped(raw, rows.power_cap_w * TDP_HEADROOM) / raw
    return {name: parts[name] * held * rows.gpus * rows.copies for name in PARTS}


def _memory(rows: LanguageRows, held_context: Floats) -> tuple[Floats, Floats, Floats]:
    """Return batch ceiling (all replicas), bytes available for caches and footprint, of one GPU."""
    s, n, dp = rows.shape, rows.gpus, rows.replicas
    repeated = (s["mixer_bytes"] + s["head_bytes"]) * (dp - 1.0)
    weights = (s["weight_bytes"] + repeated) / n
    available = memory.kv_bytes_available(rows.gpu["memory_bytes"], ENGINE_MEMORY_SHARE, weights, RESERVE_BYTES)
    own_batch = rows.batch / dp
    each = sequence_cache_bytes(rows, held_context) + s["state_bytes"] / (n / dp)
    ceiling = memory.batch_ceiling(available, 1.0, each) * dp
    return np.asarray(ceiling), np.asarray(available), np.asarray(weights + each * own_batch)
