"""Every element-wise formula of physics with arguments that it holds for, and where it must rise or fall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from joulemap.physics import communication, compute_volume, diffusion, host, memory, power, step_time


@dataclass(frozen=True)
class Formula:
    function: Callable[..., Any]
    ranges: dict[str, tuple[float, float]]
    """Arguments with the range that they are drawn from."""
    rising: tuple[str, ...] = ()
    """Arguments in which it never falls."""
    falling: tuple[str, ...] = ()
    fixed: dict[str, float] = field(default_factory=dict)


BATCH, TOKENS, PARAMS, GPUS = (1.0, 4096.0), (1.0, 1e5), (1e6, 1e12), (1.0, 64.0)
SECONDS, RATE, SHARE = (1e-6, 1e3), (1e9, 1e16), (0.01, 1.0)

FORMULAS = [
    Formula(
        compute_volume.mean_context_tokens,
        {"input_tokens": TOKENS, "output_tokens": TOKENS, "spread": (0.0, 4.0)},
        rising=("input_tokens", "output_tokens", "spread"),
    ),
    Formula(
        compute_volume.attended_tokens,
        {"context_tokens": TOKENS, "window_tokens": (1.0, 1e4)},
        rising=("context_tokens", "window_tokens"),
    ),
    Formula(
        compute_volume.expert_coverage,
        {"batch": BATCH, "experts": (8.0, 512.0), "experts_per_token": (1.0, 8.0), "evenness": (0.5, 1.0)},
        rising=("batch", "experts_per_token", "evenness"),
        falling=("experts",),
    ),
    Formula(
        compute_volume.busiest_coverage,
        {"coverage": (0.01, 0.99), "experts_per_gpu": (1.0, 256.0), "gpus": GPUS},
        rising=("gpus",),
        falling=("experts_per_gpu",),
    ),
    Formula(compute_volume.linear_flops, {"tokens": TOKENS, "params": PARAMS}, rising=("tokens", "params")),
    Formula(
        compute_volume.attention_flops,
        {"queries": BATCH, "context_tokens": TOKENS, "width": (64.0, 1e6)},
        rising=("queries", "context_tokens", "width"),
    ),
    Formula(
        compute_volume.padded_expert_rows,
        {"experts_touched": (1.0, 512.0), "tile_rows": (1.0, 128.0)},
        rising=("experts_touched", "tile_rows"),
    ),
    Formula(
        compute_volume.prefill_flops,
        {"tokens": TOKENS, "params": PARAMS, "width": (64.0, 1e6)},
        rising=("tokens", "params", "width"),
    ),
    Formula(
        compute_volume.vision_flops,
        {"tokens": TOKENS, "patches_per_token": (1.0, 16.0), "params": PARAMS},
        rising=("tokens", "patches_per_token", "params"),
    ),
    Formula(
        memory.kv_repetition,
        {"kv_heads": (1.0, 64.0), "tensor_parallel": GPUS},
        falling=("kv_heads", "tensor_parallel"),
    ),
    Formula(
        memory.kv_token_bytes,
        {"divided_numbers": (1.0, 1e6), "latent_numbers": (0.0, 1e5), "share": SHARE, "bytes_each": (1.0, 2.0)},
        rising=("divided_numbers", "latent_numbers", "share", "bytes_each"),
    ),
    Formula(
        memory.kv_bytes_available,
        {
            "memory_bytes": (1e9, 3e11),
            "utilization": SHARE,
            "weight_bytes": (1e6, 1e12),
            "reserve_bytes": (0.0, 1e10),
        },
        rising=("memory_bytes", "utilization"),
        falling=("weight_bytes", "reserve_bytes"),
    ),
    Formula(
        memory.batch_ceiling,
        {
            "available_bytes": (0.0, 3e11),
            "context_tokens": TOKENS,
            "token_bytes": (1.0, 1e6),
            "sequence_bytes": (0.0, 1e9),
        },
        rising=("available_bytes",),
        falling=("context_tokens", "token_bytes", "sequence_bytes"),
    ),
    Formula(
        step_time.overlapped,
        {"first": SECONDS, "second": SECONDS},
        rising=("first", "second"),
        fixed={"sharpness": 3.0},
    ),
    Formula(
        step_time.traffic_time,
        {"bytes_moved": (0.0, 1e12), "bandwidth": RATE, "efficiency": SHARE},
        rising=("bytes_moved",),
        falling=("bandwidth", "efficiency"),
    ),
    Formula(
        step_time.arithmetic_time,
        {"flops": (0.0, 1e16), "peak": RATE, "efficiency": SHARE},
        rising=("flops",),
        falling=("peak", "efficiency"),
    ),
    Formula(
        step_time.sampling_time,
        {"batch": BATCH, "vocabulary": TOKENS, "per_element": (0.0, 1e-9), "per_sequence": (0.0, 1e-4)},
        rising=("batch", "vocabulary", "per_element", "per_sequence"),
    ),
    Formula(
        step_time.mixed_step_share,
        {"prompts_per_step": (0.0, 50.0), "spreading": (0.0, 2.0), "most": (0.1, 1.0)},
        rising=("prompts_per_step", "spreading", "most"),
    ),
    Formula(step_time.median_of_mixture, {"share": (0.0, 1.0), "width": (0.05, 1.0)}, rising=("share",)),
    *(
        Formula(
            function,
            {"message_bytes": (0.0, 1e10), "gpus": GPUS, "bandwidth": RATE, "latency_s": (0.0, 1e-3)},
            rising=("message_bytes", "latency_s"),
            falling=("bandwidth",),
        )
        for function in (
            communication.all_reduce_time,
            communication.all_to_all_time,
            communication.ring_exchange_time,
        )
    ),
    Formula(
        host.longer_prompt_share,
        {"mean_tokens": TOKENS, "sigma": (0.2, 2.0), "limit": TOKENS},
        rising=("mean_tokens",),
        falling=("limit",),
    ),
    Formula(host.switched_on, {"value": TOKENS, "threshold": TOKENS}, rising=("value",), fixed={"steepness": 4.0}),
    Formula(
        host.preprocessing_time,
        {"requests_per_step": (0.0, 50.0), "seconds_per_request": (0.0, 5.0)},
        rising=("requests_per_step", "seconds_per_request"),
    ),
    Formula(host.starved_fraction, {"busy_s": SECONDS, "step_s": SECONDS}, rising=("step_s",), falling=("busy_s",)),
    Formula(
        power.utilization_power,
        {"utilization": (0.0, 1.0), "share_of_tdp": SHARE, "tdp_w": (50.0, 2000.0)},
        rising=("utilization", "share_of_tdp", "tdp_w"),
    ),
    Formula(power.capped, {"power_w": (1.0, 1e5), "cap_w": (50.0, 2000.0)}, rising=("power_w", "cap_w")),
    Formula(
        power.energy_per_output,
        {"power_w": (1.0, 1e5), "outputs_per_s": (1e-3, 1e5)},
        rising=("power_w",),
        falling=("outputs_per_s",),
    ),
    Formula(
        power.throughput_per_watt,
        {"power_w": (1.0, 1e5), "outputs_per_s": (1e-3, 1e5)},
        rising=("outputs_per_s",),
        falling=("power_w",),
    ),
    Formula(
        diffusion.repeated_text,
        {"latent": TOKENS, "text": TOKENS, "joint": (0.0, 1.0), "gpus": (1.0, 1.0)},
    ),
    Formula(
        diffusion.matrix_saturation,
        {"hidden_size": TOKENS, "rows": TOKENS, "half_hidden": TOKENS, "half_rows": TOKENS},
        rising=("hidden_size", "rows"),
        falling=("half_hidden", "half_rows"),
    ),
]
