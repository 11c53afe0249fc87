"""The GPU waits for the host: preprocessing, tokenising, scheduling."""

from __future__ import annotations

import math

from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Bound, Finding
from joulemap.diagnose.findings.wording import relief, weight_of

NAME = "starved-by-host"
STARVED = 0.3
"""Share of the step from which waiting is a finding."""


def find(case: Case) -> Finding | None:
    """Find it where the GPU waited for a large share of each step."""
    starved = case.latents.get("starved_fraction")
    if starved is None or starved.value < STARVED or case.gain_ratio.get(Bound.HOST, math.inf) <= 1.0:
        return None
    change = relief(case.gain_ratio.get(Bound.HOST, 1.0) ** 2)
    evidence = [f"the GPUs waited {starved.value:.0%} of the time ({starved.basis.value})"]
    usage = case.latents.get("kv_cache_utilization")
    if usage is not None and usage.value < 0.5:
        evidence.append(f"the KV cache is mostly empty: {usage.value:.0%} in use ({usage.basis.value})")
    if case.row["input_modality"] in {"image", "video"}:
        evidence.append(
            f"every request carries {case.row['input_modality']} input, which the CPU decodes and resizes"
        )
    if case.row["power_w"] and case.row["num_gpus"]:
        evidence.append(f"{case.row['power_w'] / case.row['num_gpus']:.0f} W a GPU")
    return Finding(
        name=NAME,
        cause="the host cannot feed the GPU: it idles at static power, and the batch stays small",
        evidence=tuple(evidence),
        lever="more host cores and more preprocessing workers (API server processes), smaller or fewer images and "
        "frames, preprocessing on the GPU or ahead of time",
        change=change,
        confidence=min(0.95, 0.5 + starved.value / 2.0),
        weight=max(weight_of(change), starved.value),
        falsified_by="GPU activity counters that show busy multiprocessors in the time counted as waiting",
        shows=Bound.HOST,
    )
