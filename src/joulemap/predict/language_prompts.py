"""Prompts beside running sequences: how many steps carry one, how long such steps last, and the median step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from joulemap.physics import communication, compute_volume, host, step_time
from joulemap.physics.arrays import Floats
from joulemap.predict.language_rows import LanguageRows
from joulemap.predict.language_volume import Values, Volume

STEP_OVERLAP = 4.0
"""Sharpness where one activity hides behind a longer one: host launches behind GPU work."""
GRAPH_LIMIT = 512.0
"""Tokens of a step up to which vLLM captures CUDA graphs; twice the configured ceiling where that is less."""
GRAPH_STEEPNESS = 60.0
"""A batch varies a little around its mean, so that it crosses the limit gradually."""
SMALLEST_SHARE = 0.02
PARALLEL_LOAD = 2.0
"""All-reduces per layer: after the mixer and after the feed-forward part."""
VISION_EFFICIENCY = 0.30


@dataclass(frozen=True, slots=True)
class MixedSteps:
    """Steps without and with prompts; times in seconds, arrays of one length."""

    prompts_per_step: Floats
    """Prompts that start in a mean step."""
    plain_s: Floats
    """A step without a prompt, launched without CUDA graphs where the batch is beyond them."""
    reading_s: Floats
    """Time of a mean step in which prompts are read."""
    added_s: Floats
    """What prompts add to a mean step besides: experts that only they need, launches without CUDA graphs."""
    experts_s: Floats
    """Time of a mean step in which those experts are read; part of what is added."""
    median_s: Floats
    prompt_s: Floats
    """What one prompt takes beyond a plain step."""
    reading_flops: Floats
    """Operations of prompts in a mean step on one GPU."""


def mixed_steps(rows: LanguageRows, c: Values, v: Volume, inputs: Floats, plain: Floats) -> MixedSteps:
    """Return how prompts change the steps.

    An engine replays CUDA graphs that it captured for up to so many tokens; a step with more, because the batch is
    large or a long prompt has come, is launched kernel by kernel and lasts at least as long as that takes.

    Args:
        rows: The configurations.
        c: Coefficients.
        v: Volume of a plain step.
        inputs: Mean prompt lengths.
        plain: Time of a plain step whose launches are captured.
    """
    s = rows.shape
    prompts = rows.batch / rows.output_tokens
    own_batch = rows.batch / rows.replicas
    eager = (
        s["attention_layers"] * c["eager_dense"]
        + s["moe_layers"] * c["eager_experts"]
        + s["recurrent_layers"] * c["eager_recurrent"]
    ) * (1.0 + c["eager_parallel"] * np.log2(rows.gpus))
    without_graphs = host.switched_on(own_batch, GRAPH_LIMIT * 1.05, GRAPH_STEEPNESS)
    stretched = step_time.overlapped(plain, without_graphs * eager, STEP_OVERLAP)
    room = np.maximum(np.minimum(2.0 * rows.ceiling / rows.replicas, GRAPH_LIMIT) - own_batch, 1.0)
    long = host.longer_prompt_share(inputs, rows.prompt_spread, room)
    mixed = step_time.mixed_step_share(prompts, c["prompt_spreading"], c["prompt_share"])
    slow = step_time.mixed_step_share(prompts * long, c["prompt_spreading"], c["prompt_share"])
    # With attention replicas a prompt on one holds up all.
    replicated = np.where(rows.replicas > 1, rows.replicas * c["replica_prefill"], 1.0)
    experts = _experts_for_prompts(rows, c, v, inputs)
    with_experts = stretched + experts
    launches = (step_time.overlapped(with_experts, eager, STEP_OVERLAP) - with_experts) * replicated
    prompt = _prompt_time(rows, c, v, inputs)
    several = prompts * prompt / np.maximum(mixed, SMALLEST_SHARE) + experts
    return MixedSteps(
        prompts_per_step=prompts,
        plain_s=np.asarray(stretched),
        reading_s=np.asarray(prompts * prompt * replicated),
        added_s=np.asarray(mixed * experts + slow * launches),
        experts_s=np.asarray(mixed * experts),
        median_s=np.asarray(
            stretched
            + step_time.median_of_mixture(mixed, c["median_width"]) * several
            + step_time.median_of_mixture(slow, c["median_width"]) * launches
        ),
        prompt_s=np.asarray(prompt * replicated + launches),
        reading_flops=np.asarray(prompts * inputs * 2.0 * v.active_params / rows.gpus * replicated),
    )


def _experts_for_prompts(rows: LanguageRows, c: Values, v: Volume, inputs: Floats) -> Floats:
    """Return the time to read those experts that a prompt needs and the running sequences alone would not."""
    s, n = rows.shape, rows.gpus
    more = compute_volume.expert_coverage(
        rows.batch + inputs, s["experts"], s["experts_per_token"], c["routing_evenness"]
    )
    expert_weights = s["moe_layers"] * s["experts"] * s["expert_bytes"] / n
    added = np.maximum(expert_weights * more - v.expert_bytes, 0.0)
    return np.asarray(step_time.traffic_time(added, rows.gpu["bandwidth"], c["expert_bandwidth"]))


def _prompt_time(rows: LanguageRows, c: Values, v: Volume, inputs: Floats) -> Floats:
    """Return the time to read one prompt, in seconds."""
    s, gpu, n = rows.shape, rows.gpu, rows.gpus
    peak = np.where(s["fp8_linear"] > 0, gpu["peak_fp8"] * c["fp8_dense"], gpu["peak"])
    uneven = 1.0 + np.where((rows.expert_split > 0) & (rows.replicas == 1), c["expert_imbalance"] * np.log2(n), 0.0)
    routed = s["moe_layers"] * s["experts_per_token"] * s["expert_params"]
    flops = compute_volume.prefill_flops(inputs, v.active_params - routed, v.width) / n
    expert_peak = np.where(s["fp8_experts"] > 0, gpu["peak_fp8"] * c["fp8_dense"], gpu["peak"])
    dense_time = step_time.arithmetic_time(flops, peak, c["arithmetic_prefill"])
    expert_flops = compute_volume.linear_flops(inputs, routed) / n * uneven
    expert_share = c["arithmetic_prefill"] * c["prefill_experts"]
    expert_time = step_time.arithmetic_time(expert_flops, expert_peak, expert_share)
    sent = inputs * s["hidden_size"] * compute_volume.BF16_BYTES
    talking = (
        PARALLEL_LOAD * s["layers"] * communication.all_reduce_time(sent, n, gpu["link"] * c["link_bandwidth"], 0.0)
    )
    seen = np.where(rows.pixels > 0, inputs, 0.0)
    looking = step_time.arithmetic_time(
        compute_volume.vision_flops(seen, s["patches_per_token"], s["vision_params"]) * c["vision"],
        gpu["peak"],
        VISION_EFFICIENCY,
    )
    return np.asarray(dense_time + expert_time + talking + looking)
