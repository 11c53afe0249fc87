"""The pairs of configurations that the study compares; claims and figures read the same ones."""

from __future__ import annotations

import polars as pl

from joulemap.diagnose.series import base_model
from joulemap.study.runs import TEXT_TASKS, MissingRunsError, StudyRuns, minimum_energy

MODALITY_SIBLINGS = {
    "Qwen/Qwen3-VL-8B-Instruct": "Qwen/Qwen3-8B",
    "Qwen/Qwen3-VL-30B-A3B-Instruct": "Qwen/Qwen3-30B-A3B-Instruct-2507",
    "Qwen/Qwen3-Omni-30B-A3B-Instruct": "Qwen/Qwen3-30B-A3B-Instruct-2507",
    "Qwen/Qwen3-VL-32B-Instruct": "Qwen/Qwen3-32B",
    "Qwen/Qwen3-VL-235B-A22B-Instruct": "Qwen/Qwen3-235B-A22B-Instruct-2507",
    "Qwen/Qwen3-VL-235B-A22B-Instruct-FP8": "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
}
"""Each multimodal model with the text model that it is compared with."""
MODALITY_TASKS = {"text": "lm-arena-chat", "image": "image-chat", "video": "video-chat"}

ATTENTION_DATA_PARALLEL_MODEL = "Qwen/Qwen3-Coder-480B-A35B-Instruct"
"""Its FP8 variant runs attention data-parallel, which the study keeps apart from the effect of precision."""

LATENCY_LIMITS_S = {
    "text": ("itl_median_s", ("gpqa", "lm-arena-chat"), (0.05, 0.1, 0.25)),
    "image": ("latency_median_s", ("text-to-image",), (10.0, 30.0, 60.0)),
    "video": ("latency_median_s", ("text-to-video",), (100.0, 500.0, 1000.0)),
}
"""What is limited, in which tasks, and the limits: median inter-token latency, or the latency of a batch."""


def gpu_generations(runs: StudyRuns, kind: str) -> pl.DataFrame:
    """Return B200 against H100 at matched latency, one row a model, precision and limit.

    Args:
        runs: The study's runs.
        kind: A key of ``LATENCY_LIMITS_S``.

    Returns:
        ``task, model_id, model, weight_precision, limit_s, B200, H100`` (lowest energy per output within the
        limit, J) and ``change`` (B200 over H100, minus one).

    Raises:
        MissingRunsError: No model was measured on both within a limit.
    """
    column, tasks, limits = LATENCY_LIMITS_S[kind]
    rows = runs.pick(task=tasks, gpu_model=("B200", "H100"))
    group = ["task", "model_id", "model", "weight_precision"]
    within = pl.concat(rows.filter(pl.col(column) <= limit).with_columns(limit_s=pl.lit(limit)) for limit in limits)
    energies = {
        gpu: within.filter(gpu_model=gpu)
        .group_by([*group, "limit_s"], maintain_order=True)
        .agg(pl.col("energy_per_output_j").min().alias(gpu))
        for gpu in ("B200", "H100")
    }
    pairs = energies["B200"].join(energies["H100"], on=[*group, "limit_s"], nulls_equal=True, maintain_order="left")
    if pairs.is_empty():
        msg = f"there is no model with runs on both B200 and H100 within a limit, for {' or '.join(tasks)}"
        raise MissingRunsError(msg)
    return pairs.with_columns(change=pl.col("B200") / pl.col("H100") - 1)


def precision_pairs(runs: StudyRuns) -> pl.DataFrame:
    """Return FP8 against BF16 of the same model, task, GPU, GPU count and batch, one row a pair.

    Returns:
        ``base_model, model, task, gpu_model, num_gpus, batch_ceiling`` and the changes from BF16 to FP8,
        ``energy_change`` (per token), ``itl_change`` (median) and ``time_change`` (achieved batch ÷ output
        throughput, the mean time per token of a request).

    Raises:
        MissingRunsError: There is no such pair.
    """
    time = pl.col("batch_size") / pl.col("output_throughput_per_s")
    tokens = runs.configurations.filter(pl.col("itl_median_s") > 0)
    names = {name: base_model(name) for name in tokens["model_id"].unique()}
    tokens = tokens.with_columns(
        base_model=pl.col("model_id").replace_strict(names, return_dtype=pl.String), time_s_per_token=time
    )
    key = ["base_model", "task", "gpu_model", "num_gpus", "batch_ceiling"]
    fp8 = minimum_energy(tokens.filter(weight_precision="fp8"), key)
    bf16 = minimum_energy(tokens.filter(weight_precision="bfloat16"), key)
    pairs = fp8.join(bf16, on=key, suffix="_bf16", maintain_order="left")
    if pairs.is_empty():
        msg = "there is no model measured in both FP8 and BF16 on one task, GPU, GPU count and batch"
        raise MissingRunsError(msg)
    return pairs.select(
        *key,
        pl.col("model_bf16").alias("model"),
        energy_change=pl.col("energy_per_output_j") / pl.col("energy_per_output_j_bf16") - 1,
        itl_change=pl.col("itl_median_s") / pl.col("itl_median_s_bf16") - 1,
        time_change=pl.col("time_s_per_token") / pl.col("time_s_per_token_bf16") - 1,
    )


def is_data_parallel_case() -> pl.Expr:
    """Return the condition for the pairs that attention data parallelism sets apart."""
    return pl.col("base_model") == base_model(ATTENTION_DATA_PARALLEL_MODEL)


def gpu_count_pairs(runs: StudyRuns, gpu_model: str) -> pl.DataFrame:
    """Return every pair of GPU counts at the same model, task and batch, text tasks only.

    Returns:
        ``task, model, batch_ceiling, num_gpus, num_gpus_more`` and the changes from fewer to more GPUs,
        ``energy_change`` (per token) and ``itl_change`` (median).

    Raises:
        MissingRunsError: There is no such pair.
    """
    rows = runs.pick(task=TEXT_TASKS, gpu_model=gpu_model).filter(pl.col("itl_median_s") > 0)
    key = ["task", "model_id", "batch_ceiling"]
    pairs = rows.join(rows, on=key, suffix="_more", maintain_order="left_right").filter(
        pl.col("num_gpus") < pl.col("num_gpus_more")
    )
    if pairs.is_empty():
        msg = f"there is no text model measured at one batch on different numbers of {gpu_model}"
        raise MissingRunsError(msg)
    return pairs.select(
        *("task", "model", "batch_ceiling", "num_gpus", "num_gpus_more"),
        energy_change=pl.col("energy_per_output_j_more") / pl.col("energy_per_output_j") - 1,
        itl_change=pl.col("itl_median_s_more") / pl.col("itl_median_s") - 1,
    )


def modality_ratios(runs: StudyRuns, gpu_model: str = "B200") -> pl.DataFrame:
    """Return the energy per token of multimodal models over that of their text siblings.

    Compared at a GPU count that all three modalities were measured at; if there are several, at that with the
    lowest text energy. Each energy is the lowest over the batch.

    Returns:
        ``model, num_gpus, text, image, video`` (J/token), ``image_ratio, video_ratio``.

    Raises:
        MissingRunsError: One of the six models, or its sibling, lacks a modality.
    """
    tasks = tuple(MODALITY_TASKS.values())
    lowest = (
        runs.pick(task=tasks, gpu_model=gpu_model)
        .group_by("task", "model_id", "model", "num_gpus")
        .agg(pl.col("energy_per_output_j").min())
    )
    energies = {
        (task, model_id, num_gpus): energy
        for task, model_id, num_gpus, energy in lowest.select(
            "task", "model_id", "num_gpus", "energy_per_output_j"
        ).iter_rows()
    }
    names = dict(lowest.select("model_id", "model").iter_rows())
    rows, missing = [], []
    for multimodal, text_model in MODALITY_SIBLINGS.items():
        counts = {}
        for modality, task in MODALITY_TASKS.items():
            wanted = text_model if modality == "text" else multimodal
            counts[modality] = {n: e for (t, m, n), e in energies.items() if (t, m) == (task, wanted)}
            if not counts[modality]:
                missing.append(f"{wanted} on {task}")
        shared = set.intersection(*(set(c) for c in counts.values()))
        if not shared:
            continue
        num_gpus = min(shared, key=lambda n: counts["text"][n])
        rows.append(
            {"model": names[multimodal], "num_gpus": num_gpus, **{m: c[num_gpus] for m, c in counts.items()}}
        )
    if missing:
        msg = f"there is no {gpu_model} runs of {', '.join(sorted(set(missing)))}"
        raise MissingRunsError(msg)
    if len(rows) < len(MODALITY_SIBLINGS):
        msg = f"on {gpu_model}, some models share no GPU count between text, image and video"
        raise MissingRunsError(msg)
    return pl.DataFrame(rows).with_columns(
        image_ratio=pl.col("image") / pl.col("text"), video_ratio=pl.col("video") / pl.col("text")
    )
