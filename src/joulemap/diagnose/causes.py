"""The words for each factor of an explanation, from what the runs on both sides of a step show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from joulemap.diagnose.path import Step, Stop
from joulemap.diagnose.series import PARALLELISM

_FILLED = 0.85
"""A run whose achieved batch is below this share of its ceiling did not fill it."""


def cause_of(step: Step, a: Mapping[str, Any], b: Mapping[str, Any], ratio: float, knob: str | None = None) -> str:
    """Return what a step changed and why that costs or saves energy, with the values on both sides.

    Args:
        step: The step, from nearer run ``b`` to nearer run ``a``.
        a: The run to explain.
        b: The run to compare with.
        ratio: The factor of the step, or of the knob.
        knob: One of the step's knobs, if only that is meant.
    """
    if knob is not None:
        return _WORDS[knob](replace(step, knobs=(knob,)), a, b, ratio)
    words = [_WORDS[knob](step, a, b, ratio) for knob in step.knobs]
    if len(words) > 1:
        words.append("these changed together: nothing between was measured")
    return "; ".join(words)


def _batch(step: Step, a: Mapping[str, Any], b: Mapping[str, Any], _ratio: float) -> str:
    before, after = step.before, step.after
    if not before.batch or not after.batch:
        return "the achieved batch of one of the two is unknown"
    lower = after.batch < before.batch
    change = f"{'lower' if lower else 'higher'} batch: {_batch_words(after)} against {_batch_words(before)}"
    small, large = (a, b) if lower else (b, a)
    reasons = []
    ceiling, in_flight = small["batch_ceiling"], small["max_concurrency"]
    if None not in (in_flight, small["max_num_seqs"]) and in_flight < small["max_num_seqs"]:
        return f"{change}; the clients kept no more than {in_flight} requests in flight"
    if small["max_num_seqs"] is not None and small["batch_size"] < _FILLED * ceiling:
        reasons.append(
            f"the ceiling of {ceiling:g} was not filled ({small['batch_size']:.0f} ran together): "
            "KV-cache memory, demand or the host held it down"
        )
    longer = (small["mean_output_tokens"] or 0) > 1.5 * (large["mean_output_tokens"] or 0) > 0
    if longer:
        times = small["mean_output_tokens"] / large["mean_output_tokens"]
        reasons.append(f"each request holds KV cache for {times:.1f}x the output tokens, so fewer fit in memory")
    elif small["base_model"] == large["base_model"] and (small["num_gpus"] or 0) < (large["num_gpus"] or 0):
        reasons.append(f"{small['num_gpus']} GPU(s) leave less memory for KV cache than {large['num_gpus']}")
    return "; ".join([change, *reasons])


def _batch_words(stop: Stop) -> str:
    return f"{stop.batch or 0:.0f} together" + (f" (ceiling {stop.ceiling:g})" if stop.ceiling else "")


def _task(step: Step, a: Mapping[str, Any], b: Mapping[str, Any], _ratio: float) -> str:
    text = f"{a['task']} against {b['task']}"
    if a["input_modality"] != b["input_modality"]:
        text += f": {a['input_modality']} input against {b['input_modality']}"
        text += " (vision encoder, longer prompts, host preprocessing)"
    elif (a["mean_output_tokens"] or 0) > 1.2 * (b["mean_output_tokens"] or 0) > 0:
        text += ": longer context, so more KV cache is read for every token"
    elif (b["mean_output_tokens"] or 0) > 1.2 * (a["mean_output_tokens"] or 0) > 0:
        text += ": shorter context, so less KV cache is read for every token"
    before, after = step.before, step.after
    if "batch" not in step.knobs and before.ceiling and before.ceiling == after.ceiling:
        text += f", at the same batch ceiling {after.ceiling:g}"
    elif "batch" not in step.knobs:
        text += f", at the same achieved batch {after.batch:.0f}"
    return text


def _model(_step: Step, a: Mapping[str, Any], b: Mapping[str, Any], _ratio: float) -> str:
    text = f"{_name(a)} against {_name(b)}"
    active = (a["activated_params_billions"], b["activated_params_billions"])
    total = (a["total_params_billions"], b["total_params_billions"])
    if all(active) and active[0] != active[1]:
        text += f": {active[0]:g}B active parameters against {active[1]:g}B set the work of each token"
    if all(total) and total[0] != total[1]:
        joint = ", and" if all(active) and active[0] != active[1] else ":"
        text += f"{joint} {total[0]:g}B total against {total[1]:g}B the memory"
    if a["input_modality"] != b["input_modality"] and a["task"] == b["task"]:
        text += f"; {a['input_modality']} input against {b['input_modality']}"
    return text + _parallelism(a, b)


def _precision(step: Step, a: Mapping[str, Any], b: Mapping[str, Any], ratio: float) -> str:
    text = f"{a['weight_precision']} against {b['weight_precision']} weights"
    parallelism = _parallelism(a, b) if "model" not in step.knobs else ""
    narrow, change = (a, ratio) if _bits(a) < _bits(b) else (b, 1 / ratio)
    if (a["data_parallel"] or 1) != (b["data_parallel"] or 1):
        return f"{text}{parallelism}: imbalance between the replicas leaves GPUs waiting at static power"
    if change > 1.0:
        saving = narrow["weight_precision"]
        reason = f"at this batch the extra (de)quantisation work outweighs what {saving} saves"
    else:
        reason = "cheaper arithmetic and less weight traffic pay at this batch"
    return f"{text}{parallelism}: {reason}"


def _gpu_model(_step: Step, a: Mapping[str, Any], b: Mapping[str, Any], _ratio: float) -> str:
    return f"{a['gpu_model']} against {b['gpu_model']}"


def _num_gpus(step: Step, a: Mapping[str, Any], b: Mapping[str, Any], _ratio: float) -> str:
    text = f"{a['num_gpus']} GPU(s) against {b['num_gpus']}"
    if "batch" not in step.knobs:
        text += " at the same batch: communication, and less work for each GPU to spread its static power over"
    return text + (_parallelism(a, b) if not {"model", "precision"} & set(step.knobs) else "")


def _only_parallelism(_step: Step, a: Mapping[str, Any], b: Mapping[str, Any], _ratio: float) -> str:
    return "the same GPUs, divided otherwise" + _parallelism(a, b)


def _engine(_step: Step, a: Mapping[str, Any], b: Mapping[str, Any], _ratio: float) -> str:
    names = [f"{r['engine'] or 'unknown engine'} {r['engine_version'] or ''}".strip() for r in (a, b)]
    return f"{names[0]} against {names[1]}"


def _parallelism(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Return what differs in parallelism, other than a degree that only follows the GPU count."""
    changes = [
        f"{column.replace('_', ' ')} {a[column] or 1} against {b[column] or 1}"
        for column in PARALLELISM
        if (a[column] or 1) != (b[column] or 1)
    ]
    return f" ({', '.join(changes)})" if changes else ""


def _name(row: Mapping[str, Any]) -> str:
    return str(row["nickname"] or row["model_id"])


def _bits(row: Mapping[str, Any]) -> int:
    name = (row["weight_precision"] or "").lower()
    return 4 if "4" in name else 8 if "8" in name else 32 if "32" in name else 16


_WORDS = {
    "task": _task,
    "model": _model,
    "precision": _precision,
    "gpu_model": _gpu_model,
    "num_gpus": _num_gpus,
    "parallelism": _only_parallelism,
    "engine": _engine,
    "batch": _batch,
}
