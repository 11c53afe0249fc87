"""What a decode step of a language model computes and moves on one GPU, and how long prompts and contexts are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from joulemap.physics import compute_volume, memory
from joulemap.physics.arrays import Floats
from joulemap.predict.language_form import TASK_CONTEXT, TASK_INPUT_TOKENS
from joulemap.predict.language_rows import INPUT_TOKENS_DEFAULT, LanguageRows

Values = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Volume:
    """Bytes and operations of one decode step on one GPU."""

    dense_bytes: Floats
    expert_bytes: Floats
    dense_flops: Floats
    expert_flops: Floats
    padding_flops: Floats
    kv_bytes: Floats
    state_bytes: Floats
    attention_flops: Floats
    active_params: Floats
    width: Floats


HELD_TOKENS: Values = {name: np.array([tokens]) for name, tokens, _ in TASK_INPUT_TOKENS.values()}
"""Prompt lengths read off the KV capacity: what memory holds. The fitted ones are what prompts cost in time."""


def prompt_tokens(rows: LanguageRows, c: Values) -> Floats:
    """Return the mean prompt length: as given, else the task's, else a default."""
    by_task = [np.broadcast_to(c[name], len(rows)) for name, _, _ in TASK_INPUT_TOKENS.values()]
    choices = np.vstack([*by_task, np.full(len(rows), INPUT_TOKENS_DEFAULT)])
    known = choices[rows.task_index, np.arange(len(rows))]
    return np.where(np.isnan(rows.input_tokens), known, rows.input_tokens)


def context_tokens(rows: LanguageRows, c: Values, inputs: Floats) -> Floats:
    """Return the mean context: a steady state's, or where a task of the study is named what its runs reached."""
    steady = np.ones(1)
    by_task = [c[TASK_CONTEXT[task]] if task in TASK_CONTEXT else steady for task in TASK_INPUT_TOKENS]
    choices = np.vstack([np.broadcast_to(x, len(rows)) for x in (*by_task, steady)])
    grown = choices[rows.task_index, np.arange(len(rows))]
    return np.asarray(compute_volume.mean_context_tokens(inputs, rows.output_tokens * grown, rows.spread))


def language_volume(rows: LanguageRows, c: Values, context: Floats) -> Volume:
    """Return bytes and operations of one decode step on one GPU."""
    s, n, dp = rows.shape, rows.gpus, rows.replicas
    tp = n / dp
    own_batch = rows.batch / dp
    coverage = compute_volume.expert_coverage(
        rows.batch, s["experts"], s["experts_per_token"], c["routing_evenness"]
    )
    on_gpu = np.where(rows.expert_split > 0, s["experts"] / n, s["experts"])
    busiest = compute_volume.busiest_coverage(coverage, on_gpu, np.where(rows.expert_split > 0, n, 1.0))
    # Kernels with block scales lay out every local expert, whether a token came or not; latent-attention
    # models were served with FlashInfer's grouped products, which do not.
    blocked = (s["fp8_experts"] > 0) & (s["block_scaled"] > 0) & (s["latent_kv"] == 0)
    touched = np.where(blocked, 1.0, busiest)
    empty = compute_volume.padded_expert_rows(
        s["experts"] * np.where(blocked, 1.0, coverage), np.where(blocked, c["tile_rows_blocked"], c["tile_rows"])
    )
    expert_weights = s["moe_layers"] * s["experts"] * s["expert_bytes"] / n
    window = compute_volume.attended_tokens(context, s["window_tokens"])
    mlp_split = np.where(dp > 1, n, tp)
    return Volume(
        dense_bytes=(s["mixer_bytes"] + s["head_bytes"]) / tp + s["mlp_bytes"] / mlp_split,
        expert_bytes=expert_weights * touched,
        dense_flops=compute_volume.linear_flops(own_batch, (s["mixer_params"] + s["head_params"]) / tp)
        + compute_volume.linear_flops(rows.batch, s["mlp_params"] / n),
        expert_flops=compute_volume.linear_flops(
            rows.batch * s["experts_per_token"], s["moe_layers"] * s["expert_params"] / n
        ),
        padding_flops=compute_volume.linear_flops(empty, s["moe_layers"] * s["expert_params"] / n),
        kv_bytes=own_batch * sequence_cache_bytes(rows, context),
        state_bytes=2.0 * own_batch * s["state_bytes"] / tp * c["state_traffic"],
        attention_flops=compute_volume.attention_flops(
            own_batch, context, (s["full_width"] + s["latent_width"]) / tp
        )
        + compute_volume.attention_flops(own_batch, window, s["windowed_width"] / tp),
        active_params=s["mixer_params"]
        + s["mlp_params"]
        + s["moe_layers"] * s["experts_per_token"] * s["expert_params"],
        width=s["full_width"] + s["windowed_width"] + s["latent_width"],
    )


def sequence_cache_bytes(rows: LanguageRows, context: Floats) -> Floats:
    """Return the KV cache of one sequence on one GPU."""
    s = rows.shape
    share = memory.kv_repetition(s["kv_heads"], rows.gpus / rows.replicas)
    window = compute_volume.attended_tokens(context, s["window_tokens"])
    full = memory.kv_token_bytes(s["full_kv_heads"], s["latent_kv"], share, rows.kv_bytes)
    windowed = memory.kv_token_bytes(s["windowed_kv_heads"], 0.0, share, rows.kv_bytes)
    return np.asarray(context * full + window * windowed)
